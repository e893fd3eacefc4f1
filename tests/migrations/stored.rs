//! A data directory as text: every file with its length and its bytes, zeros left out. Segments are mostly zeros.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a line; a line of zeros is not written.
const LINE_BYTES: usize = 64;

/// Writes what lies in `dir` at `names`.
pub fn pack(dir: &Path, names: &[std::path::PathBuf]) -> String {
    let mut text = String::new();
    for name in names {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        writeln!(text, "file {} {}", name.display(), bytes.len()).unwrap();
        for (number, line) in
            bytes.chunks(LINE_BYTES).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0))
        {
            let kept = line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let hex: String = line[..kept].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{} {hex}", number * LINE_BYTES).unwrap();
        }
    }
    text
}

/// Makes the directory again.
pub fn unpack(text: &str, dir: &Path) {
    let mut file = None;
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("file ") {
            let (name, bytes) = about.rsplit_once(' ').unwrap();
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let made = std::fs::File::create_new(path).unwrap();
            made.set_len(bytes.parse().unwrap()).unwrap();
            file = Some(made);
        } else {
            let (at, hex) = line.split_once(' ').unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            file.as_ref().unwrap().write_all_at(&bytes, at.parse().unwrap()).unwrap();
        }
    }
}
