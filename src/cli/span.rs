//! Spans of time on the command line: `500ms`, `30s`, `5m`, `2h`, `7d`, or `0`.

use std::time::Duration;

/// Reads a span. A number without a unit means nothing, unless it is 0.
pub fn read_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span of time; write 500ms, 30s, 5m, 2h or 7d");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit.trim() {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a span into whole milliseconds, as the native API wants them.
pub fn read_millis(text: &str) -> Result<u64, String> {
    read_span(text).map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_nonsense_is_refused() {
        assert_eq!(read_millis("500ms"), Ok(500));
        assert_eq!(read_millis("5 m"), Ok(300_000));
        assert_eq!(read_millis("0"), Ok(0));
        for bad in ["", "5", "-1s", "1.5s", "s", "99999999999999999999s", "999999999999999999d"] {
            assert!(read_span(bad).is_err(), "{bad}");
        }
    }
}
