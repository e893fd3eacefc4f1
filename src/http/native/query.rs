//! Query parameters of the native API: each known one at most once, unknown ones refused.

use std::borrow::Cow;

use axum::http::StatusCode;

use crate::http::call::Call;
use crate::http::problem::Problem;
use crate::http::whole::digits;

/// Parameters of this start name a property of a message.
pub const PROPERTY: &str = "property.";

/// The query of a request.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads the query; `known` are the names it may have (`property.` stands for any property).
    pub fn read(call: &'a Call, known: &[&str]) -> Result<Self, Problem> {
        let pairs = call.query();
        for (place, (name, _)) in pairs.iter().enumerate() {
            let fits = known.contains(&name.as_ref()) || (known.contains(&PROPERTY) && name.starts_with(PROPERTY));
            let shown: String = name.chars().take(100).collect();
            if !fits {
                let detail = format!("there is no parameter `{shown}`; there are: {}", known.join(", "));
                return Err(Problem::new(StatusCode::BAD_REQUEST, "unknown_parameter", detail).at(shown));
            }
            if pairs.iter().skip(place + 1).any(|(other, _)| other == name) {
                let detail = format!("parameter `{shown}` is given twice");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).at(shown));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// The whole number that a parameter gives.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.get(name).map(|text| read_number(name, text)).transpose()
    }

    /// Properties: names without their start, and values.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(PROPERTY)?, value.as_ref())))
    }
}

/// Reads a whole number of a parameter or header: digits only.
pub fn read_number(name: &str, text: &str) -> Result<u64, Problem> {
    digits(text).ok_or_else(|| {
        let detail = format!("`{name}` must be a whole number from 0 to {}", u64::MAX);
        Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).at(name)
    })
}
