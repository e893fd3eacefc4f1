//! How a command ends: its exit code, and what it says of a failure.

use std::process::ExitCode;

use serde_json::Value;

/// What the exit code tells a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused, or failed.
    Failed = 1,
    /// The command line does not say what to do.
    Usage = 2,
    /// All went well, and there was nothing.
    Nothing = 3,
    /// The server cannot be reached.
    Unreachable = 4,
    /// The log, or a backup, is damaged; or a promise was broken under torture.
    Damaged = 5,
    /// A history shows that a consumer lost, doubled or reordered something.
    Found = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Shown below `--help`.
pub const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused, or failed
  2  wrong usage
  3  nothing there: an empty pull or peek
  4  the server cannot be reached
  5  damage found (check, restore), a promise broken (torture)
  6  history check: something was lost, done twice or in the wrong order, or the history is not whole";

/// Why a command failed; said once, at the end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server refused, with a problem document.
    #[error("{}", problem_text(.0))]
    Refused(Value),
    /// The server cannot be reached.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Its URL.
        server: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// What was to be read is damaged.
    #[error(transparent)]
    Damaged(Box<dyn std::error::Error + Send + Sync>),
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    /// The exit code.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused(_) | Self::Other(_) => Exit::Failed,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Usage(_) => Exit::Usage,
            Self::Damaged(_) => Exit::Damaged,
        }
    }

    /// A failure in words.
    pub fn said(words: impl Into<String>) -> Self {
        Self::Other(words.into().into())
    }
}

macro_rules! other {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Other(Box::new(error))
            }
        })+
    };
}

other!(
    crate::migrations::MigrateError,
    std::io::Error,
    serde_json::Error,
    crate::chaos::ChaosError,
    crate::config::ConfigError,
    crate::engine::AccessError,
    crate::engine::BackupError,
    crate::engine::HomeError,
    crate::log::MarkError,
    crate::log::OpenError,
    crate::model::NameError,
    crate::server::BindError,
    crate::server::TlsError,
    crate::torture::TortureError
);

/// A problem document in one line: title, detail, code, and where in the request it lies.
fn problem_text(problem: &Value) -> String {
    let field = |name: &str| problem.get(name).and_then(Value::as_str);
    let title = field("title").unwrap_or("refused");
    let mut text = match field("detail") {
        Some(detail) => format!("{title}: {detail}"),
        None => title.to_owned(),
    };
    let about: Vec<&str> = [field("code"), field("pointer")].into_iter().flatten().collect();
    if !about.is_empty() {
        text.push_str(&format!(" ({})", about.join(", at ")));
    }
    text
}

/// An error with its causes. A cause that its effect names already is not said twice.
pub fn told(failure: &(dyn std::error::Error + 'static)) -> String {
    let mut text = failure.to_string();
    let causes = std::iter::successors(failure.source(), |error| error.source()).map(ToString::to_string);
    for cause in causes {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_title_detail_code_and_place() {
        let problem = serde_json::json!({
            "title": "Bad Request", "detail": "a name is missing", "code": "invalid_name", "pointer": "/name",
        });
        assert_eq!(problem_text(&problem), "Bad Request: a name is missing (invalid_name, at /name)");
        assert_eq!(problem_text(&Value::Null), "refused");
    }

    #[test]
    fn causes_are_told_once() {
        let error = Failure::from(std::io::Error::other("no space"));
        assert_eq!(told(&error), "no space");
    }
}
