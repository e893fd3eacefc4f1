//! A view of another disk that may be written to without changing it: what is written stays in memory, page by
//! page, and is forgotten with the view. For looking at a data directory as a server would see it.
//!
//! It can also end at a byte of a file of one directory, as if that file had been cut there and those that come
//! behind it by name had never been.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

const PAGE: u64 = 4096;
/// What a view says of its space: it has plenty.
const SPACE: u64 = 1 << 50;

/// Where a view ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The directory.
    pub dir: PathBuf,
    /// How the names begin or end that are cut: others are left alone.
    pub suffix: &'static str,
    /// The last file that is there.
    pub file: String,
    /// Its length.
    pub at_byte: u64,
}

/// The view.
pub struct Overlay<D> {
    under: D,
    cut: Option<Cut>,
    /// What was opened for writing, made, renamed or (`None`) taken away.
    names: Mutex<BTreeMap<PathBuf, Option<Arc<Sheet>>>>,
}

impl<D: Disk> Overlay<D> {
    /// A view of `under`, which ends at `cut`.
    pub fn new(under: D, cut: Option<Cut>) -> Self {
        Self { under, cut, names: Mutex::default() }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Arc<Sheet>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the view ends before this file.
    fn is_cut_off(&self, path: &Path) -> bool {
        self.cut.as_ref().is_some_and(|cut| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            path.parent() == Some(&cut.dir) && name.ends_with(cut.suffix) && name > cut.file
        })
    }

    /// Where the view ends in this file.
    fn end_in(&self, path: &Path) -> u64 {
        let cut = self.cut.as_ref().filter(|cut| path == cut.dir.join(&cut.file));
        cut.map_or(u64::MAX, |cut| cut.at_byte)
    }

    fn sheet(&self, path: &Path) -> io::Result<Arc<Sheet>> {
        let mut names = self.names();
        match names.get(path) {
            Some(Some(sheet)) => return Ok(sheet.clone()),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None if self.is_cut_off(path) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let sheet = Arc::new(Sheet::over(self.under.open_read(path)?, self.end_in(path))?);
        names.insert(path.to_owned(), Some(sheet.clone()));
        Ok(sheet)
    }
}

impl<D: Disk> Disk for Overlay<D> {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let below = self.under.list(dir)?;
        let names = self.names();
        let mut all: Vec<String> = below
            .into_iter()
            .filter(|name| {
                let path = dir.join(name);
                !names.contains_key(&path) && !self.is_cut_off(&path)
            })
            .collect();
        let own = names.iter().filter(|(path, sheet)| sheet.is_some() && path.parent() == Some(dir));
        all.extend(own.filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned())));
        Ok(all)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if self.under.exists(dir)? { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let sheet = Arc::new(Sheet::default());
        self.names().insert(path.to_owned(), Some(sheet.clone()));
        Ok(sheet)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.sheet(path).map(|sheet| sheet as Arc<dyn DiskFile>)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let sheet = self.sheet(from)?;
        let mut names = self.names();
        names.insert(from.to_owned(), None);
        names.insert(to.to_owned(), Some(sheet));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.sheet(path)?;
        self.names().insert(path.to_owned(), None);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.exists(to)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let sheet = self.sheet(from)?;
        self.names().insert(to.to_owned(), Some(sheet));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<u64> {
        Ok(SPACE)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.names().get(path) {
            Some(sheet) => Ok(sheet.is_some()),
            None if self.is_cut_off(path) => Ok(false),
            None => self.under.exists(path),
        }
    }
}

/// A file of the view: what was written over what lies below.
#[derive(Default)]
struct Sheet {
    below: Option<Arc<dyn DiskFile>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    len: u64,
    /// Bytes of the file below that still show; what is beyond was cut or never there.
    below_len: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Sheet {
    fn over(below: Arc<dyn DiskFile>, end: u64) -> io::Result<Self> {
        let len = below.len()?.min(end);
        Ok(Self { below: Some(below), state: Mutex::new(State { len, below_len: len, ..State::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as the file below has it.
    fn below(&self, state: &State, page: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE as usize];
        let shown = state.below_len.saturating_sub(page * PAGE).min(PAGE) as usize;
        if let Some(below) = self.below.as_ref().filter(|_| shown > 0) {
            crate::disk::read_full(&**below, page * PAGE, bytes.get_mut(..shown).unwrap_or_default())?;
        }
        Ok(bytes)
    }
}

/// The pieces of a span, page by page: the page, where in it, how many bytes, and how many came before.
fn pieces(position: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = position + done as u64;
        let (page, within) = (at / PAGE, (at % PAGE) as usize);
        let count = (PAGE as usize - within).min(len - done);
        let piece = (count > 0).then_some((page, within, count, done));
        done += count;
        piece
    })
}

impl DiskFile for Sheet {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (page, within, count, done) in pieces(position, bytes.len()) {
            let new = bytes.get(done..done + count).unwrap_or_default();
            // Zeros over nothing are nothing: files are made by writing zeros.
            let nothing = page * PAGE >= state.below_len && !state.pages.contains_key(&page);
            if nothing && new.iter().all(|byte| *byte == 0) {
                continue;
            }
            let mut content = match state.pages.remove(&page) {
                Some(content) => content,
                None => self.below(&state, page)?,
            };
            content.get_mut(within..within + count).unwrap_or_default().copy_from_slice(new);
            state.pages.insert(page, content);
        }
        state.len = state.len.max(position + bytes.len() as u64);
        Ok(())
    }

    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        let len = usize::try_from(state.len.saturating_sub(position)).unwrap_or(usize::MAX).min(bytes.len());
        for (page, within, count, done) in pieces(position, len) {
            let below;
            let content = match state.pages.get(&page) {
                Some(content) => content,
                None => {
                    below = self.below(&state, page)?;
                    &below
                }
            };
            let out = bytes.get_mut(done..done + count).unwrap_or_default();
            out.copy_from_slice(content.get(within..within + count).unwrap_or_default());
        }
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.below_len = state.below_len.min(len);
        let whole = len.div_ceil(PAGE);
        state.pages.split_off(&whole);
        if let Some(page) = state.pages.get_mut(&(len / PAGE)) {
            page.get_mut((len % PAGE) as usize..).unwrap_or_default().fill(0);
        }
        state.len = len;
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{RealDisk, read_file};

    #[test]
    fn what_is_written_shows_and_changes_nothing_below() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let old: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
        std::fs::write(dir.join("a"), &old).unwrap();
        std::fs::write(dir.join("b"), "other").unwrap();
        let view = Overlay::new(RealDisk, None);
        let file = view.open(&dir.join("a")).unwrap();
        file.write_at(4_000, &[7; 200]).unwrap();
        file.write_at(12_000, b"end").unwrap();
        let mut expected = old.clone();
        expected[4_000..4_200].fill(7);
        expected.resize(12_000, 0);
        expected.extend_from_slice(b"end");
        assert_eq!(read_file(&view, &dir.join("a"), 1 << 20).unwrap(), expected);
        file.set_len(4_100).unwrap();
        file.set_len(9_000).unwrap();
        expected.truncate(4_100);
        expected.resize(9_000, 0);
        assert_eq!(read_file(&view, &dir.join("a"), 1 << 20).unwrap(), expected);
        view.rename(&dir.join("b"), &dir.join("c")).unwrap();
        view.create(&dir.join("d")).unwrap().write_at(0, b"new").unwrap();
        view.unlink(&dir.join("a")).unwrap();
        assert!(view.open(&dir.join("a")).is_err() && !view.exists(&dir.join("b")).unwrap());
        let mut names = view.list(dir).unwrap();
        names.sort();
        assert_eq!(names, ["c", "d"]);
        assert_eq!(read_file(&view, &dir.join("c"), 10).unwrap(), b"other");
        let mut below = RealDisk.list(dir).unwrap();
        below.sort();
        assert_eq!(below, ["a", "b"]);
        assert_eq!(std::fs::read(dir.join("a")).unwrap(), old);
    }

    #[test]
    fn a_cut_view_ends_where_it_is_told() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        for name in ["1.seg", "2.seg", "3.seg", "3.spare"] {
            std::fs::write(dir.join(name), name.repeat(2_000)).unwrap();
        }
        let cut = Cut { dir: dir.to_owned(), suffix: ".seg", file: "2.seg".to_owned(), at_byte: 4_500 };
        let view = Overlay::new(RealDisk, Some(cut));
        let mut names = view.list(dir).unwrap();
        names.sort();
        assert_eq!(names, ["1.seg", "2.seg", "3.spare"]);
        assert!(view.open_read(&dir.join("3.seg")).is_err() && !view.exists(&dir.join("3.seg")).unwrap());
        assert_eq!(view.open_read(&dir.join("1.seg")).unwrap().len().unwrap(), 10_000);
        assert_eq!(view.open_read(&dir.join("2.seg")).unwrap().len().unwrap(), 4_500);
    }
}
