//! Kinds of settings: how their text is read and written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::bounds;

/// What a bad value should have been, in words.
pub type Rule = &'static str;

/// A value that is read from text and written back.
pub trait Setting: Sized {
    /// Reads it.
    fn read(text: &str) -> Result<Self, Rule>;
    /// Writes it so that reading gives the same value.
    fn show(&self) -> String;
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Setting for $name {
            fn read(text: &str) -> Result<Self, Rule> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err($rule) }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => $text),+ }.to_owned()
            }
        }
    };
}

choice! {
    /// What must have happened to a lease before its pull is answered.
    LeasePromise, "\"written\" or \"synced\"",
    /// It survives a crash of the process, and a power cut after the next sync, which begins within 5 ms or when the one under way is over.
    Written = "written",
    /// It survives a power cut.
    Synced = "synced"
}
choice! {
    /// How a pull of the Cloudflare dialect renders JSON bodies.
    JsonBody, "\"base64\" or \"plain\"",
    /// Base64 of the JSON text, as documented.
    Base64 = "base64",
    /// The JSON text itself, as a string.
    Plain = "plain"
}
choice! {
    /// The least severe level that is logged.
    LogLevel, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
    /// A human must act.
    Error = "error",
    /// A promise was kept, barely.
    Warn = "warn",
    /// The life of the process.
    Info = "info",
    /// One line per request.
    Debug = "debug",
    /// Everything.
    Trace = "trace"
}
choice! {
    /// How a log line looks.
    LogFormat, "\"text\" or \"json\"",
    /// For people.
    Text = "text",
    /// For machines: one JSON object a line.
    Json = "json"
}

impl Setting for SocketAddr {
    fn read(text: &str) -> Result<Self, Rule> {
        text.parse().map_err(|_| "an address and a port, such as \"127.0.0.1:7070\"")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, Rule> {
        if text.is_empty() { Err("a path") } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for Option<PathBuf> {
    fn read(text: &str) -> Result<Self, Rule> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn show(&self) -> String {
        self.as_ref().map(Setting::show).unwrap_or_default()
    }
}

/// Where backups asked for over HTTP go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupDirectory {
    /// Below the data directory's name with `-backups` behind it.
    Beside,
    /// Nowhere: they are refused.
    Off,
    /// Below this directory.
    At(PathBuf),
}

impl Setting for BackupDirectory {
    fn read(text: &str) -> Result<Self, Rule> {
        Ok(match text {
            "" => Self::Beside,
            "off" => Self::Off,
            path => Self::At(path.into()),
        })
    }

    fn show(&self) -> String {
        match self {
            Self::Beside => String::new(),
            Self::Off => "off".to_owned(),
            Self::At(path) => path.show(),
        }
    }
}

impl Setting for bool {
    fn read(text: &str) -> Result<Self, Rule> {
        text.parse().map_err(|_| "true or false")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    fn read(text: &str) -> Result<Self, Rule> {
        text.replace('_', "").parse().ok().filter(|count| *count > 0).ok_or("a whole number from 1 on")
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

const SPAN_RULE: Rule = "a time from \"1 ms\" on, such as \"500 ms\", \"10 s\", \"5 min\", \"2 h\" or \"1 d\"";

impl Setting for Duration {
    fn read(text: &str) -> Result<Self, Rule> {
        let (number, unit) = split_unit(text).ok_or(SPAN_RULE)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(SPAN_RULE),
        };
        let millis = number.checked_mul(millis).filter(|millis| *millis > 0).ok_or(SPAN_RULE)?;
        Ok(Self::from_millis(millis))
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        match millis {
            _ if !millis.is_multiple_of(1_000) => format!("{millis} ms"),
            _ => format!("{} s", millis / 1_000),
        }
    }
}

/// A list of spans, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans(pub Vec<Duration>);

const SPANS_RULE: Rule = "1 to 64 times with commas between them, such as \"10 s, 30 s, 1 min\", none over 14 d";

impl Setting for Spans {
    fn read(text: &str) -> Result<Self, Rule> {
        let spans = text.split(',').map(|span| Duration::read(span.trim()));
        let spans = spans.collect::<Result<Vec<_>, _>>().map_err(|_| SPANS_RULE)?;
        let fits = spans.len() <= bounds::RETRY_TABLE_MAX && spans.iter().all(|span| *span <= bounds::DELAY_MAX);
        if fits { Ok(Self(spans)) } else { Err(SPANS_RULE) }
    }

    fn show(&self) -> String {
        self.0.iter().map(Setting::show).collect::<Vec<_>>().join(", ")
    }
}

/// Bytes: a number with or without a unit.
pub struct Bytes<T>(pub T);

const BYTES_RULE: Rule = "a number of bytes from 1 on, such as \"4096\", \"64 KiB\", \"32 MiB\" or \"2 GiB\"";

impl<T: TryFrom<u64> + Copy + TryInto<u64>> Setting for Bytes<T> {
    fn read(text: &str) -> Result<Self, Rule> {
        let (number, unit) = split_unit(text).ok_or(BYTES_RULE)?;
        let scale: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(BYTES_RULE),
        };
        let bytes = number.checked_mul(scale).filter(|bytes| *bytes > 0).ok_or(BYTES_RULE)?;
        T::try_from(bytes).map(Self).map_err(|_| BYTES_RULE)
    }

    fn show(&self) -> String {
        let bytes: u64 = self.0.try_into().unwrap_or(u64::MAX);
        match bytes {
            _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
            _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
            _ => bytes.to_string(),
        }
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.replace('_', "").parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_with_units_and_refuse_nonsense() {
        assert_eq!(Duration::read("10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(Duration::read("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(Duration::read("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "10", "-1 s", "0 s", "1.5 s", "s", "99999999999999999999 s", "18446744073709551615 d"] {
            assert!(Duration::read(bad).is_err(), "{bad}");
        }
        assert_eq!(Bytes::<u64>::read("32 MiB").map(|bytes| bytes.0), Ok(32 << 20));
        assert_eq!(Bytes::<usize>::read("4096").map(|bytes| bytes.0), Ok(4096));
        for bad in ["", "MiB", "-1", "0", "1 MB", "99999999999 TiB"] {
            assert!(Bytes::<u64>::read(bad).is_err(), "{bad}");
        }
    }
}
