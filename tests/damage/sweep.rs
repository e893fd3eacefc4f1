//! Damages an image in one place, starts on it, and judges what comes of it. Three outcomes there are, and every
//! other one fails the test.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use windlass::disk::Disk as _;
use windlass::engine::{Engine as _, RecoverError};
use windlass::log::{MarkError, OpenError, Place, check, read_mark};

use crate::rig::{Image, Running, delete};
use crate::scene::seen::{Probed, Seen, look_for, probe};
use crate::scene::{Facts, Stage};

/// No single case takes this long, or it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far before a flipped byte the damage may be said to begin: a frame is named by its first byte.
const FRAME_BYTES_MAX: u64 = (64 << 10) / 4 + 96;

/// What was done to one file.
#[derive(Debug, Clone)]
pub enum Harm {
    Flip {
        byte: usize,
        bit: u32,
    },
    Truncate {
        to: usize,
    },
    Delete,
    /// It holds what the other holds.
    Swap {
        with: PathBuf,
    },
}

/// What was true at one lsn.
pub struct Moment {
    pub seen: Seen,
    pub probed: Probed,
    pub facts: Facts,
}

/// An image and what it must still tell.
pub struct Subject {
    pub name: &'static str,
    pub image: Image,
    /// By the last lsn of the log.
    pub moments: BTreeMap<u64, Moment>,
    /// Everything up to here stays, whatever is cut; after a clean stop that is everything.
    pub proven: u64,
    /// Whether the index of the image covers anything.
    pub has_index: bool,
}

impl Subject {
    fn whole(&self) -> &Moment {
        self.moments.values().next_back().expect("a moment")
    }
}

/// One of the three, the first in two forms: a start can come to nothing, or one message can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything is there.
    Served,
    /// Everything but messages whose bytes were hit, and whoever asks for those is told the file and the byte.
    Unread,
    /// No start, and the file is named.
    Refused,
    /// The tail was cut, kept aside and counted.
    Cut,
}

/// One damage to one subject.
pub struct Case<'a> {
    pub subject: &'a Subject,
    pub file: PathBuf,
    pub harm: Harm,
}

impl Trial for Case<'_> {
    fn text(&self) -> String {
        format!("{}: {} {:?}", self.subject.name, self.file.display(), self.harm)
    }

    fn run(&self) -> Outcome {
        let image = self.damaged();
        let before = image.fork();
        match image.start() {
            Ok(running) => self.judge_start(running),
            Err(error) => {
                self.judge_refusal(&error, &before);
                Outcome::Refused
            }
        }
    }
}

impl Case<'_> {
    fn damaged(&self) -> Image {
        let (image, file) = (self.subject.image.fork(), self.file.as_path());
        match &self.harm {
            Harm::Flip { byte, bit } => assert!(image.disk.flip(file, *byte, *bit)),
            Harm::Truncate { to } => image.disk.put(file, image.disk.dump(file).unwrap()[..*to].to_vec()),
            Harm::Delete => delete(&image, file),
            Harm::Swap { with } => image.disk.put(file, image.disk.dump(with).unwrap()),
        }
        image
    }

    fn judge_start(&self, mut running: Running) -> Outcome {
        let report = running.local().report().clone();
        let moment = if report.cut.is_empty() {
            self.subject.whole()
        } else {
            assert!(report.last.get() >= self.subject.proven, "a cut took what was proven: {report:?}");
            for cut in &report.cut {
                let kept = cut.kept_as.as_ref().expect("what is cut is kept aside");
                assert!(running.disk().exists(&Path::new("/log").join(kept)).unwrap());
                assert_eq!(Some(cut.file.as_str()), self.file.file_name().and_then(|name| name.to_str()));
            }
            let engine = running.local();
            let status = running.wait(async move { engine.status().await });
            assert_eq!(status.torn.len(), report.cut.len(), "a cut is counted");
            let moment = self.subject.moments.get(&report.last.get());
            moment.unwrap_or_else(|| panic!("no commit ended at lsn {}", report.last))
        };
        match judge_seen(&mut running, moment, &self.file, self.subject.has_index) {
            Outcome::Served if !report.cut.is_empty() => Outcome::Cut,
            outcome => outcome,
        }
    }

    fn judge_refusal(&self, error: &RecoverError, before: &Image) {
        let mine = self.file.file_name().unwrap().to_string_lossy().into_owned();
        let named = match error {
            RecoverError::Log(OpenError::Damaged { file, at_byte, .. }) => {
                if let Harm::Flip { byte, .. } = self.harm {
                    let byte = byte as u64;
                    assert!(*at_byte <= byte && byte - at_byte <= FRAME_BYTES_MAX, "byte {at_byte} is named: {error}");
                }
                file.clone()
            }
            RecoverError::Log(OpenError::MissingSegment { file, .. }) => {
                assert!(!matches!(self.harm, Harm::Flip { .. }), "{error}");
                file.clone()
            }
            RecoverError::Mark(MarkError::Damaged { path, .. }) => path.file_name().unwrap().to_string_lossy().into(),
            other => panic!("refused for another reason: {other:?}"),
        };
        assert_eq!(named, mine, "{error}");
        self.judge_check(&named, before);
    }

    /// `check` sees what the start saw, as far as it does not take the word of the index.
    fn judge_check(&self, named: &str, before: &Image) {
        let Ok(mark) = read_mark(&before.disk, Path::new("/")) else { return };
        let report = check(&before.disk, Path::new("/"), Place::Original, mark, &mut |_| {}).unwrap();
        match report.damage {
            Some(damage) => assert_eq!(damage.file, named),
            None => {
                let anew = before.without_index().start();
                assert!(anew.is_ok(), "the start refuses, and check finds nothing: {:?}", anew.err());
            }
        }
    }
}

/// Compares all that an engine shows, and what its clients can still do, with what was true. Messages that do not
/// read must lie in `file`, and whoever asks must be told the place.
pub fn judge_seen(stage: &mut impl Stage, moment: &Moment, file: &Path, has_index: bool) -> Outcome {
    let seen = look_for(stage, Some(&moment.seen));
    if seen.unreadable.is_empty() {
        assert_same(&seen, &moment.seen);
        assert_eq!(probe(stage, &moment.facts), moment.probed);
        return Outcome::Served;
    }
    assert!(has_index, "a replay of the whole log reads every byte: {:?}", seen.unreadable);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let number = name.trim_end_matches(".seg").trim_start_matches('0');
    for why in seen.unreadable.values() {
        assert!(why.contains(&format!("segment {number}")) && why.contains("byte "), "it names no place: {why}");
    }
    let mut rest = seen.clone();
    rest.unreadable.clear();
    assert_same(&rest, &moment.seen.without(&seen.unreadable));
    Outcome::Unread
}

fn assert_same(seen: &Seen, expected: &Seen) {
    for (place, one) in &expected.messages {
        assert_eq!(Some(one), seen.messages.get(place), "{place:?}");
    }
    assert_eq!(seen, expected);
}

/// Numbers of the outcomes, and how long it took.
#[derive(Debug, Default)]
pub struct Tally {
    pub outcomes: BTreeMap<Outcome, u64>,
    pub cases: u64,
    pub took: Duration,
    pub slowest: Duration,
}

impl Tally {
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }
}

/// Something that can be damaged and judged.
pub trait Trial: Sync {
    fn text(&self) -> String;
    /// Damages, starts, judges.
    fn run(&self) -> Outcome;
}

/// Runs all cases, on all processors, and fails with those that went wrong.
pub fn run(cases: &[impl Trial]) -> Tally {
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| case.run()));
                    let _ = sender.send((case, outcome, begun.elapsed()));
                }
            });
        }
        drop(sender);
        for _ in cases {
            let Ok((case, outcome, took)) = results.recv_timeout(PATIENCE) else {
                eprintln!("a case hangs, one of the {workers} before {:?}", next.load(Ordering::Relaxed));
                std::process::exit(101);
            };
            tally.cases += 1;
            tally.slowest = tally.slowest.max(took);
            match outcome {
                Ok(outcome) => *tally.outcomes.entry(outcome).or_default() += 1,
                Err(panic) => wrong.push(format!("{}: {}", case.text(), text_of(&panic))),
            }
        }
    });
    tally.took = begun.elapsed();
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    tally
}

fn text_of(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    text.chars().take(600).collect()
}
