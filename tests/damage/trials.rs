//! Damage to real files: those that only a real directory has, sled's among them, through the front door.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use windlass::clock::SystemClock;
use windlass::engine::HomeError;
use windlass::migrations::{MigrateError, bring_up};

use crate::on_files::{self, END, copy_tree};
use crate::process::windlass;
use crate::sweep::{Harm, Moment, Outcome, Trial, judge_seen};

/// A stopped directory and what it must tell.
pub struct Stopped {
    pub name: &'static str,
    pub dir: PathBuf,
    pub moment: Moment,
}

/// One damage to one file of a copy of it.
pub struct FileTrial<'a> {
    pub of: &'a Stopped,
    pub file: PathBuf,
    pub harm: Harm,
    pub scratch: &'a Path,
}

/// No two copies have one name, and no two lives the same random bits.
static NUMBER: AtomicU64 = AtomicU64::new(100);

impl Trial for FileTrial<'_> {
    fn text(&self) -> String {
        format!("{}: {} {:?}", self.of.name, self.file.display(), self.harm)
    }

    fn run(&self) -> Outcome {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = self.scratch.join(format!("trial-{number}"));
        copy_tree(&self.of.dir, &dir);
        put_identity(&dir);
        harm(&dir, &self.file, &self.harm);
        let outcome = self.judge(&dir, number);
        std::fs::remove_dir_all(&dir).unwrap();
        outcome
    }
}

impl FileTrial<'_> {
    fn judge(&self, dir: &Path, number: u64) -> Outcome {
        let clock: Arc<dyn windlass::clock::Clock> = Arc::new(SystemClock::new());
        match bring_up(dir, &clock) {
            Ok(passed) => assert!(passed.is_empty(), "it was migrated: {passed:?}"),
            Err(error) => {
                let missing = matches!(error, MigrateError::Missing { .. });
                assert!(missing || matches!(error, MigrateError::Home(HomeError::Damaged { .. })), "{error:?}");
                return self.judge_refusal(&error.to_string(), dir, number);
            }
        }
        match on_files::start(dir, END, number) {
            Ok(mut running) => {
                let cuts = &running.engine.report().cut;
                if let Some(cut) = cuts.first() {
                    // What a cut may take and what it must leave is judged on the simulated disk, commit by commit.
                    assert!(self.of.name == "killed" && self.file.ends_with(&cut.file), "{cuts:?}");
                    assert!(dir.join("log").join(cut.kept_as.as_ref().unwrap()).exists());
                    running.stop();
                    return Outcome::Cut;
                }
                let outcome = judge_seen(&mut running, &self.of.moment, &self.file, true);
                running.stop();
                outcome
            }
            Err(error) => self.judge_refusal(&error.to_string(), dir, number),
        }
    }

    /// The file is named, by the start and by `windlass check`.
    fn judge_refusal(&self, error: &str, dir: &Path, number: u64) -> Outcome {
        let name = self.file.file_name().unwrap().to_string_lossy().into_owned();
        // A directory of another format is named with the number.
        assert!(error.contains(&name) || name == "FORMAT" && error.contains("has format"), "{error}");
        if number.is_multiple_of(8) {
            let checked = windlass().args(["check", "-o", "json"]).arg(dir).output().unwrap();
            let said =
                [checked.stdout, checked.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(!checked.status.success(), "check finds nothing, the start said: {error}");
            assert!(said.contains(&name) || name == "FORMAT", "check names another file: {said}, the start: {error}");
        }
        Outcome::Refused
    }
}

fn harm(dir: &Path, file: &Path, harm: &Harm) {
    let path = dir.join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    match harm {
        Harm::Flip { byte, bit } => bytes[*byte] ^= 1 << bit,
        Harm::Truncate { to } => bytes.truncate(*to),
        Harm::Swap { with } => bytes = std::fs::read(with).unwrap(),
        Harm::Delete => return std::fs::remove_file(&path).unwrap(),
    }
    // In place: the identity of the file is its inode and its birth.
    let mut open = std::fs::File::options().write(true).truncate(true).open(&path).unwrap();
    open.write_all(&bytes).unwrap();
}

/// Makes a copied directory an original of its own, as a start would.
fn put_identity(dir: &Path) {
    let path = dir.join("IDENTITY");
    std::fs::write(&path, "").unwrap();
    let about = std::fs::metadata(&path).unwrap();
    let born = about.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or_else(|| "unknown".to_owned(), |born| born.as_nanos().to_string());
    std::fs::write(&path, format!("inode {}\nborn {born}\n", about.ino())).unwrap();
}
