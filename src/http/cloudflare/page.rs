//! Pages of lists. The clients that ask for one page only shall find everything in it; those that ask on
//! until a page is empty shall find one.

use crate::http::cloudflare::Allowed;
use crate::http::cloudflare::fault::Fault;
use crate::http::cloudflare::wire::PageView;
use crate::http::whole::Whole;

/// Entries of a page that names no size, and of the largest.
const PER_PAGE_MAX: u64 = 1_000;
/// Largest number of a page: above it not every whole number is a float.
const PAGE_MAX: u64 = 1 << 53;

/// Which page of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u64,
    entries: u64,
}

impl Page {
    /// Reads `page` and `per_page` of the query.
    pub fn read(call: &Allowed) -> Result<Self, Fault> {
        let number = read(call, "page", PAGE_MAX)?.unwrap_or(1);
        let entries = read(call, "per_page", PER_PAGE_MAX)?.unwrap_or(PER_PAGE_MAX);
        Ok(Self { number, entries })
    }

    /// The entries of this page, and what to tell of it. Past the end there are none.
    pub fn cut<T>(self, all: Vec<T>) -> (Vec<T>, PageView) {
        let total_count = all.len();
        let skip = usize::try_from((self.number - 1).saturating_mul(self.entries)).unwrap_or(usize::MAX);
        let take = usize::try_from(self.entries).unwrap_or(usize::MAX);
        let entries: Vec<T> = all.into_iter().skip(skip).take(take).collect();
        let total_pages = (total_count as u64).div_ceil(self.entries);
        let count = entries.len();
        (entries, PageView { page: self.number, per_page: self.entries, count, total_count, total_pages })
    }
}

/// The last of the parameters with this name: 1 to `max`.
fn read(call: &Allowed, name: &str, max: u64) -> Result<Option<u64>, Fault> {
    let values = call.parameters(name);
    let Some(text) = values.last() else { return Ok(None) };
    match Whole::parse(text) {
        Some(Whole(number)) if (1..=max).contains(&number) => Ok(Some(number)),
        Some(_) | None => Err(Fault::bad(10026, format!("{name} must be a whole number from 1 to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_once_and_end_empty() {
        let cut = |number, entries| Page { number, entries }.cut(vec!['a', 'b', 'c']);
        assert_eq!(cut(1, 2).0, ['a', 'b']);
        assert_eq!(cut(2, 2).0, ['c']);
        assert_eq!(cut(3, 2).0, []);
        assert_eq!(cut(u64::MAX, PER_PAGE_MAX).0, []);
        let info = cut(2, 2).1;
        assert_eq!((info.page, info.per_page, info.count, info.total_count, info.total_pages), (2, 2, 1, 3, 2));
    }
}
