//! Entries as people read them, for `windlass dump --log`.

use crate::codec;
use crate::engine::entry::Entry;

/// An entry as JSON: its kind with its fields as they lie in the log (docs/FORMAT.md, "Entries"). Of a credential
/// what proves it is left out.
pub fn entry_text(bytes: &[u8]) -> Result<String, String> {
    let mut entry: Entry = codec::decode(bytes).map_err(|error| error.to_string())?;
    if let Entry::AccessPut(access) = &mut entry {
        (access.token_sha256, access.sealed_secret) = (None, None);
    }
    serde_json::to_string(&entry).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::AccessDisk;

    #[test]
    fn an_entry_tells_its_fields_and_no_secret() {
        let entry = Entry::Epoch { boot_id: u128::MAX, boot: 7, before: 6 };
        let text = entry_text(&codec::encode(&entry)).unwrap();
        assert_eq!(text, format!("{{\"Epoch\":{{\"boot_id\":{},\"boot\":7,\"before\":6}}}}", u128::MAX));
        let access = AccessDisk {
            id: "wlt_1".into(),
            account: "a".into(),
            token_sha256: Some([0xab; 32]),
            sealed_secret: Some(vec![0xcd; 40]),
            permissions: (true, false, false),
            topics: "*".into(),
            created_at: 1,
            expires_at: None,
        };
        let text = entry_text(&codec::encode(&Entry::AccessPut(access))).unwrap();
        assert!(text.contains("wlt_1") && !text.contains("171") && !text.contains("205"), "{text}");
        assert!(entry_text(&[0xff; 3]).is_err());
    }
}
