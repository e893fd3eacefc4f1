//! The table of keys: name, how it is read, how it is written. Everything that walks over the
//! configuration (file, environment, suggestions, the test of config.toml) walks over this table.

use crate::config::Config;
use crate::config::setting::{Bytes, Rule, Setting};

/// One key.
pub struct Key {
    /// Its name in the file, section included.
    pub name: &'static str,
    /// Reads `text` into the configuration.
    pub read: fn(&mut Config, &str) -> Result<(), Rule>,
    /// Writes the value that the configuration has.
    pub show: fn(&Config) -> String,
}

macro_rules! keys {
    (@read bytes, $text:expr) => { Bytes::read($text).map(|bytes| bytes.0) };
    (@read value, $text:expr) => { Setting::read($text) };
    (@show bytes, $value:expr) => { Bytes($value).show() };
    (@show value, $value:expr) => { Setting::show(&$value) };
    ($($kind:ident $first:ident $(. $second:ident)?;)+) => {
        /// Every key there is.
        pub const KEYS: &[Key] = &[$(Key {
            name: concat!(stringify!($first) $(, ".", stringify!($second))?),
            read: |config, text| { config.$first $(.$second)? = keys!(@read $kind, text)?; Ok(()) },
            show: |config| keys!(@show $kind, config.$first $(.$second)?),
        }),+];
    };
}

keys! {
    value listen;
    value data_dir;
    value tls.certificate;
    value tls.key;
    value limits.topics_max;
    value limits.groups_max;
    value limits.groups_per_topic_max;
    bytes limits.body_bytes_max;
    bytes limits.batch_bytes_max;
    value limits.idempotency_keys_max;
    value limits.compaction_keys_max;
    value limits.access_max;
    value limits.returned_max;
    value limits.delayed_max;
    value http.header_timeout;
    value http.body_timeout;
    value http.idle_timeout;
    value http.drain_timeout;
    value http.connections_max;
    bytes http.header_bytes_max;
    bytes http.request_bytes_max;
    bytes http.buffer_bytes_max;
    value http.waiting_per_token_max;
    bytes log.segment_bytes;
    value log.drop_keep;
    bytes log.drop_keep_bytes;
    value log.drop_keep_min;
    value log.strict_recovery;
    value durability.lease;
    value backup.directory;
    value backup.count_max;
    bytes checkpoint.log_bytes;
    value checkpoint.interval;
    value cloudflare.json_body;
    value jcq.clock_window;
    value jcq.retention;
    value jcq.retry_delays;
    value jcq.dead_letters_max;
    value chaos.enabled;
    bytes chaos.history_bytes;
    value logging.level;
    value logging.format;
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("WINDLASS_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The one of `names` with the fewest letters to change, add or drop.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    names.map(|name| (name, distance(wrong, name))).min_by_key(|(_, distance)| *distance)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut before = line + 1;
        next.push(before);
        for (pair, b) in row.windows(2).zip(&right) {
            if let [diagonal, above] = pair {
                before = (diagonal + usize::from(a != *b)).min(above + 1).min(before + 1);
                next.push(before);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(nearest("lisen", names()).map(|found| found.0), Some("listen"));
        assert_eq!(nearest("http.conections_max", names()).map(|found| found.0), Some("http.connections_max"));
    }
}
