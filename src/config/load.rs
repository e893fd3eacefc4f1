//! Puts the layers together: defaults, then the file, then the environment, then the flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::keys::{self, KEYS};

/// A file of this size is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// An unknown environment variable this near to a right one is taken for a slip and refused; others (an
/// orchestrator makes some up) are only reported.
const SLIP_MAX: usize = 2;
/// Variables that configure no server: those of the command-line client, and the file's own.
const OTHER_VARIABLES: [&str; 4] = ["WINDLASS_CONFIG", "WINDLASS_TOKEN", "WINDLASS_SERVER", "WINDLASS_CA_FILE"];

/// What the command line may say.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--chaos`.
    pub chaos: bool,
}

/// A configuration, and what to tell its user.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Environment variables that look like ours and are not.
    pub strange_variables: Vec<String>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("reading {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large to be one.
    #[error("{path} is {got} bytes, a configuration has at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        got: u64,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {message}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key `{name}` (value `{value}`); the nearest is `{nearest}`")]
    UnknownKey {
        /// The file, or the environment.
        place: String,
        /// The key.
        name: String,
        /// Its value.
        value: String,
        /// The right key most like it.
        nearest: String,
    },
    /// The value does not fit the key.
    #[error("{place}: `{name}` is `{value}`; it must be {rule}")]
    BadValue {
        /// The file, or the environment.
        place: String,
        /// The key.
        name: String,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
}

/// Reads the configuration. `variables` is the environment.
pub fn load(flags: &Flags, variables: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
    let mut ours: Vec<(String, String)> = variables.filter(|(name, _)| name.starts_with("WINDLASS_")).collect();
    ours.sort();
    let mut config = Config::default();
    let from_environment = ours.iter().find(|(name, _)| name == "WINDLASS_CONFIG").map(|(_, value)| value.into());
    if let Some(path) = flags.config.clone().or(from_environment) {
        read_file(&mut config, &path)?;
    }
    let strange_variables = read_environment(&mut config, &ours)?;
    if let Some(listen) = flags.listen {
        config.listen = listen;
    }
    if let Some(data_dir) = &flags.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    config.chaos.enabled |= flags.chaos;
    check(&config)?;
    Ok(Loaded { config, strange_variables })
}

fn read_file(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let got = std::fs::metadata(path).map_err(unreadable)?.len();
    if got > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), got });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    read_toml(config, &text, path)
}

pub(super) fn read_toml(config: &mut Config, text: &str, path: &Path) -> Result<(), ConfigError> {
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::NotToml { path: path.to_owned(), message: error.to_string() })?;
    let place = path.display().to_string();
    for (name, value) in flattened(table) {
        set(config, &place, &name, &value)?;
    }
    Ok(())
}

/// Keys with their section, values as text.
fn flattened(table: toml::Table) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => {
                pairs.extend(section.into_iter().map(|(key, value)| (format!("{name}.{key}"), as_text(value))));
            }
            value => pairs.push((name, as_text(value))),
        }
    }
    pairs
}

fn as_text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        // No key takes one of these: its reader refuses the text.
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Datetime(instant) => instant.to_string(),
        toml::Value::Array(_) => "[..]".to_owned(),
        toml::Value::Table(_) => "{..}".to_owned(),
    }
}

fn set(config: &mut Config, place: &str, name: &str, value: &str) -> Result<(), ConfigError> {
    let place = place.to_owned();
    let Some(key) = keys::find(name) else {
        let nearest = keys::nearest(name, KEYS.iter().map(|key| key.name)).map(|found| found.0.to_owned());
        let (name, value, nearest) = (name.to_owned(), shortened(value), nearest.unwrap_or_default());
        return Err(ConfigError::UnknownKey { place, name, value, nearest });
    };
    (key.read)(config, value).map_err(|rule| ConfigError::BadValue {
        place,
        name: name.to_owned(),
        value: shortened(value),
        rule: format!("{rule} (default: {})", (key.show)(&Config::default())),
    })
}

fn shortened(value: &str) -> String {
    value.chars().take(100).collect()
}

/// Sets what the environment says and gives back the variables it does not know.
fn read_environment(config: &mut Config, ours: &[(String, String)]) -> Result<Vec<String>, ConfigError> {
    let mut strange = Vec::new();
    for (variable, value) in ours {
        if OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
            set(config, variable, key.name, value)?;
            continue;
        }
        let names: Vec<String> = KEYS.iter().map(keys::Key::variable).collect();
        match keys::nearest(variable, names.iter().map(String::as_str)) {
            Some((nearest, distance)) if distance <= SLIP_MAX => {
                return Err(ConfigError::UnknownKey {
                    place: "the environment".to_owned(),
                    name: variable.clone(),
                    value: shortened(value),
                    nearest: nearest.to_owned(),
                });
            }
            _ => strange.push(variable.clone()),
        }
    }
    Ok(strange)
}

/// Refuses values that fit their keys and not each other.
fn check(config: &Config) -> Result<(), ConfigError> {
    let refuse = |name: &str, rule: &str| {
        let value = keys::find(name).map(|key| (key.show)(config)).unwrap_or_default();
        let place = "the configuration".to_owned();
        Err(ConfigError::BadValue { place, name: name.to_owned(), value, rule: rule.to_owned() })
    };
    if config.tls.certificate.is_some() && config.tls.key.is_none() {
        return refuse("tls.key", "set where tls.certificate is");
    }
    if config.tls.key.is_some() && config.tls.certificate.is_none() {
        return refuse("tls.certificate", "set where tls.key is");
    }
    if config.limits.body_bytes_max > config.limits.batch_bytes_max {
        return refuse("limits.batch_bytes_max", "at least limits.body_bytes_max");
    }
    if config.http.request_bytes_max < config.limits.body_bytes_max {
        return refuse("http.request_bytes_max", "at least limits.body_bytes_max");
    }
    if config.http.buffer_bytes_max < config.http.request_bytes_max {
        return refuse("http.buffer_bytes_max", "at least http.request_bytes_max");
    }
    if config.http.header_bytes_max < 8 << 10 || config.http.header_bytes_max > 1 << 20 {
        return refuse("http.header_bytes_max", "8 KiB to 1 MiB");
    }
    if config.chaos.history_bytes < 64 << 10 {
        return refuse("chaos.history_bytes", "at least 64 KiB");
    }
    if config.log.segment_bytes < config.limits.batch_bytes_max as u64 + (64 << 10) {
        return refuse("log.segment_bytes", "at least limits.batch_bytes_max and 64 KiB");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../config.toml");

    fn read(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        read_toml(&mut config, text, Path::new("config.toml"))?;
        check(&config)?;
        Ok(config)
    }

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_file_in_the_repository_has_every_key_with_its_default_and_a_reason() {
        assert_eq!(read(FILE).expect("the file reads"), Config::default());
        let table: toml::Table = FILE.parse().expect("TOML");
        let mut listed: Vec<String> = flattened(table).into_iter().map(|(name, _)| name).collect();
        let mut known: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        listed.sort();
        known.sort();
        assert_eq!(listed, known);
        let lines: Vec<&str> = FILE.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#')) {
            assert!(pair[0].starts_with("# "), "`{}` has no comment above it", pair[1]);
        }
    }

    #[test]
    fn every_key_reads_back_what_it_shows_and_shows_a_change() {
        for key in KEYS {
            let mut config = Config::default();
            let shown = (key.show)(&config);
            (key.read)(&mut config, &shown).expect(key.name);
            assert_eq!(config, Config::default(), "{}", key.name);
            let other = ["7", "7 s", "true", "0.0.0.0:1", "synced", "plain", "debug", "json"];
            let changed = other.into_iter().any(|text| {
                let mut config = Config::default();
                (key.read)(&mut config, text).is_ok() && (key.show)(&config) != shown && config != Config::default()
            });
            assert!(changed, "no value changes {}", key.name);
        }
    }

    #[test]
    fn a_slip_is_refused_with_the_key_the_value_and_the_nearest_key() {
        let error = read("[http]\nheader_timeot = \"10 s\"").expect_err("an unknown key").to_string();
        for part in ["http.header_timeot", "10 s", "http.header_timeout", "config.toml"] {
            assert!(error.contains(part), "{error}");
        }
        let error = read("[http]\nconnections_max = -5").expect_err("a bad value").to_string();
        for part in ["http.connections_max", "-5", "whole number"] {
            assert!(error.contains(part), "{error}");
        }
        for bad in ["listen = 7070", "[log]\nstrict_recovery = \"yes\"", "[http]\nidle_timeout = [1]", "http = 5", "="]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c.toml");
        let text = "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[log]\nsegment_bytes = \"16 MiB\"";
        std::fs::write(&path, text).expect("a file");
        let flags = Flags { listen: "127.0.0.1:3".parse().ok(), ..Flags::default() };
        let path = path.display().to_string();
        let variables = environment(&[
            ("WINDLASS_CONFIG", &path),
            ("WINDLASS_LISTEN", "127.0.0.1:2"),
            ("WINDLASS_DATA_DIR", "env"),
        ]);
        let config = load(&flags, variables.into_iter()).expect("it loads").config;
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.data_dir, PathBuf::from("env"));
        assert_eq!(config.log.segment_bytes, 16 << 20);
    }

    #[test]
    fn a_variable_like_ours_is_a_slip_and_one_unlike_is_only_told() {
        let load = |name| load(&Flags::default(), environment(&[(name, "5 s")]).into_iter());
        assert_eq!(load("WINDLASS_CHECKPOINT_INTERVAL").expect("a key").config.checkpoint.interval.as_secs(), 5);
        assert!(matches!(load("WINDLASS_CHECKPOINT_INTERVALL"), Err(ConfigError::UnknownKey { .. })));
        let loaded = load("WINDLASS_SERVICE_HOST").expect("no key, and none meant");
        assert_eq!(loaded.strange_variables, ["WINDLASS_SERVICE_HOST"]);
    }
}
