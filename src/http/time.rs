//! Instants as text.

use crate::http::whole::digits;
use crate::model::Millis;

/// RFC 3339 in UTC with microseconds, as in `2022-10-30T16:05:14.966000Z`.
pub fn rfc3339(at: Millis) -> String {
    let (seconds, millis) = (at.get() / 1_000, at.get() % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}000Z")
}

/// Year, month and day of a day since 1970 (Howard Hinnant's algorithm: years begin in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Whole seconds in UTC, as in `2022-10-30T16:05:14Z`.
pub fn seconds(at: Millis) -> String {
    let mut text = rfc3339(at);
    text.truncate("2022-10-30T16:05:14".len());
    text.push('Z');
    text
}

/// Reads an instant in UTC: `2018-08-14T03:37:00Z`, also without its seconds or with parts of them.
pub fn parse_utc(text: &str) -> Option<Millis> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut date = date.split('-');
    let mut clock = clock.split(':');
    let day = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = clock.next().map_or(Some(0), |second| number(second, 2))?;
    let is_whole = date.next().is_none() && clock.next().is_none();
    if !is_whole || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    instant(day, (hour, minute, second), millis)
}

/// Reads the basic form of an instant in UTC: `20180814T033700Z`.
pub fn parse_basic(text: &str) -> Option<Millis> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if date.len() != 8 || time.len() != 6 {
        return None;
    }
    let part = |text: &str, from: usize, digits: usize| number(text.get(from..from + digits)?, digits);
    let day = (part(date, 0, 4)?, part(date, 4, 2)?, part(date, 6, 2)?);
    instant(day, (part(time, 0, 2)?, part(time, 2, 2)?, part(time, 4, 2)?), 0)
}

/// Exactly that many digits.
fn number(text: &str, count: usize) -> Option<u64> {
    digits(text).filter(|_| text.len() == count)
}

fn instant(day: (u64, u64, u64), (hour, minute, second): (u64, u64, u64), millis: u64) -> Option<Millis> {
    let (year, month, day_of_month) = day;
    // Years begin in March, as in `civil`.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day_of_month.checked_sub(1)?;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    if civil(days) != day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(Millis::new(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_back_and_nonsense_does_not() {
        for millis in [0, 951_782_400_000, 1_667_145_914_966, 4_107_542_399_999, 4_107_542_400_000] {
            let at = Millis::new(millis);
            assert_eq!(parse_utc(&rfc3339(at)), Some(at));
            let whole = Millis::new(millis / 1_000 * 1_000);
            assert_eq!(parse_utc(&seconds(at)), Some(whole));
            assert_eq!(parse_basic(&seconds(at).replace(['-', ':'], "")), Some(whole));
        }
        assert_eq!(parse_utc("2018-08-14T03:37Z"), parse_utc("2018-08-14T03:37:00Z"));
        assert_eq!(parse_utc("1970-01-01T00:00:00.5Z"), Some(Millis::new(500)));
        for bad in [
            "",
            "Z",
            "2018-08-14T03:37:00",
            "2018-02-30T03:37:00Z",
            "2018-13-01T03:37:00Z",
            "2018-00-01T03:37:00Z",
            "2018-01-00T03:37:00Z",
            "2018-08-14T24:00:00Z",
            "2018-08-14T03:60:00Z",
            "2018-8-14T03:37:00Z",
            "2018-08-14T03:37:00:00Z",
            "2018-08-14T03:37:00.Z",
            "+018-08-14T03:37:00Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
        assert_eq!(parse_basic("2026010T1000000Z"), None);
        assert_eq!(parse_basic("20260101T00000éZ"), None);
    }

    #[test]
    fn known_instants_read_right() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000000Z"),
            (1_667_145_914_966, "2022-10-30T16:05:14.966000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(Millis::new(millis)), text);
        }
    }
}
