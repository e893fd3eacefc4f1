//! The manifest of a backup: text, one line per file, with a checksum of its own. docs/FORMAT.md, "A backup".

use crate::model::{Lsn, Millis};

/// Its name; no data directory holds a file of this name.
pub const MANIFEST: &str = "BACKUP";
/// Most bytes of a manifest: a hundred thousand segments.
pub const MANIFEST_BYTES_MAX: u64 = 8 << 20;

const FIRST_LINE: &str = "windlass backup 1";

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Format of the data directory.
    pub format: u32,
    /// Wall clock when it was made.
    pub made_at: Millis,
    /// The last entry.
    pub last: Lsn,
    /// Its files but itself.
    pub files: Vec<FileSum>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSum {
    /// Its path in the backup: `FORMAT`, `secret.key` or `log/<20 digits>.seg`, never another.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// crc32 of all of it.
    pub crc: u32,
}

impl FileSum {
    /// Its name in the log directory, if it is a segment.
    pub fn segment(&self) -> Option<&str> {
        self.path.strip_prefix("log/")
    }
}

impl Manifest {
    /// The text of it.
    pub fn encode(&self) -> String {
        let head = format!("{FIRST_LINE}\nformat {}\nmade {}\nlast {}\n", self.format, self.made_at.get(), self.last);
        let lines = self.files.iter().map(|file| format!("{:08x} {} {}\n", file.crc, file.bytes, file.path));
        let text: String = std::iter::once(head).chain(lines).collect();
        let crc = crc32fast::hash(text.as_bytes());
        format!("{text}end {crc:08x}\n")
    }

    /// Reads it back; what is wrong otherwise, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let (covered, crc) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once("end "))
            .ok_or("its last line does not hold its checksum")?;
        if crc != format!("{:08x}", crc32fast::hash(covered.as_bytes())) {
            return Err("its checksum is wrong");
        }
        let mut lines = covered.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err("a later version of windlass wrote it");
        }
        let mut number = |name: &str| -> Option<u64> { lines.next()?.strip_prefix(name)?.parse().ok() };
        let head = (number("format "), number("made "), number("last "));
        let (Some(format), Some(made_at), Some(last)) = head else { return Err("its head is not as it is written") };
        let format = u32::try_from(format).map_err(|_| "its head is not as it is written")?;
        let files = lines.map(read_line).collect::<Option<Vec<_>>>().ok_or("a line names no file of a backup")?;
        Ok(Self { format, made_at: Millis::new(made_at), last: Lsn::new(last), files })
    }
}

fn read_line(line: &str) -> Option<FileSum> {
    let mut parts = line.splitn(3, ' ');
    let (crc, bytes, path) = (parts.next()?, parts.next()?, parts.next()?);
    let file = FileSum { path: path.to_owned(), bytes: bytes.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? };
    is_ours(path).then_some(file)
}

/// Whether a path is one of a backup's: a manifest from anywhere leads nowhere else.
fn is_ours(path: &str) -> bool {
    let is_segment = |name: &str| {
        name.strip_suffix(".seg")
            .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    matches!(path, "FORMAT" | "secret.key") || path.strip_prefix("log/").is_some_and(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str, bytes, crc| FileSum { path: path.to_owned(), bytes, crc };
        Manifest {
            format: 1,
            made_at: Millis::new(1_767_225_600_000),
            last: Lsn::new(42),
            files: vec![file("FORMAT", 18, 7), file("log/00000000000000000001.seg", 65_536, 0xfedc_ba98)],
        }
    }

    #[test]
    fn a_manifest_reads_as_it_is_drawn_and_every_flipped_bit_of_it_is_seen() {
        let text = manifest().encode();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], ["windlass backup 1", "format 1", "made 1767225600000", "last 42"]);
        assert_eq!(lines[5], "fedcba98 65536 log/00000000000000000001.seg");
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest()));
        for (at, bit) in (0..text.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            assert!(Manifest::decode(&bytes).is_err(), "bit {bit} of byte {at}");
        }
        for cut in 0..text.len() {
            assert!(Manifest::decode(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_manifest_names_no_file_outside_the_backup() {
        for path in ["../x", "/etc/passwd", "log/../../x.seg", "log/1.seg", "index/db", "log/0000000000000000000a.seg"]
        {
            let mut strange = manifest();
            strange.files[1].path = path.to_owned();
            assert!(Manifest::decode(strange.encode().as_bytes()).is_err(), "{path}");
        }
    }
}
