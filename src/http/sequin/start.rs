//! Where a consumer begins to read, in the words of `deliver_policy`.

use std::time::Duration;

use crate::engine::Peek;
use crate::http::sequin::SequinCall;
use crate::http::sequin::fault::Fault;
use crate::http::whole::digits;
use crate::model::{Millis, Offset, Start, TopicRef};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Everything kept.
    All,
    /// What is published from now on.
    New,
    /// The last message, and what is published from now on.
    Last,
    /// What was published within this span.
    Since(Duration),
    /// From this sequence number on.
    Seq(u64),
    /// What was published at or after this time.
    At(Millis),
}

impl Policy {
    /// Reads `all`, `new`, `last`, a span (`1h`), `seq:42` or `time_ms:1767225600000`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "all" => return Some(Self::All),
            "new" => return Some(Self::New),
            "last" => return Some(Self::Last),
            _ => {}
        }
        if let Some(seq) = text.strip_prefix("seq:") {
            return digits(seq).filter(|seq| *seq > 0).map(Self::Seq);
        }
        if let Some(time) = text.strip_prefix("time_ms:") {
            return digits(time).map(|time| Self::At(Millis::new(time)));
        }
        read_span(text).map(Self::Since)
    }

    /// What it means now, for a stream.
    pub async fn resolve(self, call: &SequinCall, stream: TopicRef) -> Result<Start, Fault> {
        Ok(match self {
            Self::All => Start::Head,
            Self::New => Start::Tail,
            Self::Last => Start::Offset(Offset::new(tail(call, stream).await?.get().saturating_sub(1))),
            Self::Since(span) => Start::Time(call.call.front.clock.wall().before(span)),
            Self::Seq(seq) => Start::Offset(Offset::new(seq - 1)),
            Self::At(time) => Start::Time(time),
        })
    }
}

/// The offset of the next publish.
pub async fn tail(call: &SequinCall, stream: TopicRef) -> Result<Offset, Fault> {
    let request = Peek {
        account: call.account(),
        topic: stream,
        group: None,
        filter: Default::default(),
        from: Offset::new(u64::MAX),
        limit: 1,
    };
    Ok(call.call.front.engine.peek(request).await?.tail)
}

/// Reads digits and a unit: `ms` (also without any), `s`, `m`, `h` or `d`.
pub fn read_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits);
    let millis = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_spans_read_as_documented() {
        let hour = Duration::from_secs(3_600);
        for (text, policy) in [
            ("all", Policy::All),
            ("new", Policy::New),
            ("last", Policy::Last),
            ("1h", Policy::Since(hour)),
            ("seq:1", Policy::Seq(1)),
            ("time_ms:5", Policy::At(Millis::new(5))),
        ] {
            assert_eq!(Policy::parse(text), Some(policy), "{text}");
        }
        for text in
            ["", "h", "-1h", "1y", "seq:0", "seq:", "time_ms:x", "99999999999999999999d", "All", "seq:+5", "time_ms:+5"]
        {
            assert_eq!(Policy::parse(text), None, "{text}");
        }
        assert_eq!(read_span("500"), Some(Duration::from_millis(500)));
        assert_eq!(read_span("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read_span("2m"), Some(Duration::from_secs(120)));
    }
}
