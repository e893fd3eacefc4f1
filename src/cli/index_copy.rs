//! A copy of an index in a scratch directory, and room for another one beside it: sled writes when it opens, and
//! whoever only looks changes nothing. Bounded by the space there is, and removed when it is let go of.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::cli::exit::Failure;
use crate::clock::{Clock as _, SystemClock};
use crate::disk::{Disk as _, RealDisk};
use crate::engine::IndexPlace;
use crate::index::{Index, IndexError, SledIndex};

/// Left free beside what the copy and another index may take.
const SPARE_BYTES: u64 = 64 << 20;

/// See the module.
pub struct IndexCopy {
    dir: PathBuf,
}

impl IndexCopy {
    /// Copies the index that lies in `from` into a new directory below `scratch`.
    pub fn make(from: &Path, scratch: &Path) -> Result<Self, Failure> {
        let needed = bytes_of(from)? * 2 + SPARE_BYTES;
        let free = RealDisk.space(scratch)?;
        if free < needed {
            let at = scratch.display();
            return Err(Failure::said(format!(
                "comparing the index takes {needed} bytes in {at}, where {free} are free: name another --scratch"
            )));
        }
        let name = format!("windlass-check-{:032x}", SystemClock::new().random());
        let copy = Self { dir: scratch.join(name) };
        make_dir(&copy.dir)?;
        make_dir(&copy.dir.join("anew"))?;
        copy_into(from, &copy.dir.join("index"))?;
        Ok(copy)
    }

    /// The copy.
    pub fn index(&self) -> ScratchPlace {
        ScratchPlace(self.dir.join("index"))
    }

    /// Where another index may be built.
    pub fn anew(&self) -> ScratchPlace {
        ScratchPlace(self.dir.join("anew"))
    }
}

impl Drop for IndexCopy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "what was copied to be looked at could not be removed");
        }
    }
}

/// An index in a scratch directory.
pub struct ScratchPlace(PathBuf);

impl IndexPlace for ScratchPlace {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        Ok(Box::new(SledIndex::open(&self.0)?))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        let fails = |error: io::Error| IndexError::Store(error.to_string());
        std::fs::remove_dir_all(&self.0).map_err(fails)?;
        make_dir(&self.0).map_err(fails)
    }
}

/// Makes a directory that only its owner may enter.
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(dir)
}

/// The files and directories in `dir`; anything else is none of sled's.
fn entries(dir: &Path) -> io::Result<Vec<(PathBuf, std::fs::Metadata)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() || about.is_dir() {
            found.push((entry.path(), about));
        }
    }
    Ok(found)
}

fn bytes_of(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for (path, about) in entries(dir)? {
        bytes += if about.is_dir() { bytes_of(&path)? } else { about.len() };
    }
    Ok(bytes)
}

fn copy_into(from: &Path, to: &Path) -> io::Result<()> {
    make_dir(to)?;
    for (path, about) in entries(from)? {
        let Some(name) = path.file_name() else { continue };
        match about.is_dir() {
            true => copy_into(&path, &to.join(name))?,
            false => drop(std::fs::copy(&path, to.join(name))?),
        }
    }
    Ok(())
}
