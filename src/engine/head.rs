//! The head of a record: what of a message is kept beside its body (docs/FORMAT.md, "Records").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::engine::rows::Row;
use crate::model::{ContentType, Key, MessageHead, MessageId, Millis, NewMessage, Offset, Tag};

#[derive(Debug, Serialize, Deserialize)]
struct HeadDisk {
    content_type: Option<String>,
    key: Option<String>,
    tag: Option<String>,
    properties: Vec<(String, String)>,
}

/// The head of a message that is being published.
pub fn encode(message: &NewMessage) -> Vec<u8> {
    codec::encode(&HeadDisk {
        content_type: message.content_type.as_ref().map(|text| text.as_str().to_owned()),
        key: message.key.as_ref().map(|text| text.as_str().to_owned()),
        tag: message.tag.as_ref().map(|text| text.as_str().to_owned()),
        properties: message.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    })
}

/// The head of a message that was read, with what its row knows.
pub fn decode(bytes: &[u8], offset: u64, row: &Row) -> Result<MessageHead, DecodeError> {
    let disk: HeadDisk = codec::decode(bytes)?;
    let published_at = Millis::new(row.published_at());
    Ok(MessageHead {
        id: MessageId::new(row.id),
        offset: Offset::new(offset),
        content_type: disk.content_type.and_then(|text| ContentType::parse(&text).ok()),
        key: disk.key.and_then(|text| Key::parse(&text).ok()),
        tag: disk.tag.and_then(|text| Tag::parse(&text).ok()),
        properties: disk.properties.into_iter().collect::<BTreeMap<_, _>>(),
        published_at,
        ready_at: if row.due == 0 { published_at } else { Millis::new(row.due) },
        origin: row.origin.as_ref().and_then(|origin| origin.to_model()),
    })
}
