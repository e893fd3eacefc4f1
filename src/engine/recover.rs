//! From what is on disk to a writer that may go on: the checkpoint, then the log behind it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::codec;
use crate::disk::Disk;
use crate::engine::block::BlockDisk;
use crate::engine::checkpoint;
use crate::engine::entry::Entry;
use crate::engine::places::{Places, mend_own};
use crate::engine::placing::Staged;
use crate::engine::state::State;
use crate::engine::writer::{Writer, WriterOptions};
use crate::engine::{Limits, TornTail};
use crate::index::{Index, IndexError, IndexReader, Mark, Stopgap};
use crate::log::{
    CutTail, Epoch, Fatal, FrameKind, Known, Log, LogReader, MarkError, OpenError, Opening, Options, RecoveryReport,
    Replay, ReplayFrame, ReplayStart, read_mark,
};
use crate::model::Lsn;

/// Where the index lies: opened, or set aside and begun anew.
pub trait IndexPlace: Send + Sync {
    /// Opens what is there.
    fn open(&self) -> Result<Box<dyn Index>, IndexError>;
    /// Puts what is there out of the way, so that the next open finds nothing.
    fn set_aside(&self) -> Result<(), IndexError>;
}

/// What an engine is recovered from.
pub struct Source {
    /// The file system of the log.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Layout and rules of the log.
    pub log: Options,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Where the index lies.
    pub place: Arc<dyn IndexPlace>,
    /// Bounds.
    pub limits: Limits,
    /// Durability of leases, pace of checkpoints.
    pub options: WriterOptions,
    /// The directory is a copy: its index is not to be opened.
    pub index_is_foreign: bool,
}

/// What recovery came to.
pub struct Recovered {
    pub writer: Writer,
    pub index: Box<dyn Index>,
    pub report: RecoveryReport,
    /// Why the index was set aside, if it was.
    pub index_lost: Option<String>,
}

/// Why an engine could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The mark of a clean stop.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// Not even a new index could be made.
    #[error("the index could not be made anew: {0}")]
    Index(#[from] IndexError),
    /// The device failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Recovers an engine. An index that cannot be trusted is set aside; the log alone decides.
pub fn recover(source: &Source) -> Result<Recovered, RecoverError> {
    let mut lost = None;
    let mut opened = None;
    // What a first attempt cuts off, a second finds cut already.
    let mut cuts = Vec::new();
    if source.index_is_foreign {
        lost = Some("the directory is a copy".to_owned());
    } else {
        match open_index(source) {
            Ok(found) => opened = Some(found),
            Err(error) => lost = Some(error.to_string()),
        }
    }
    if let Some((index, state, mark)) = opened {
        match with_index(source, index, state, mark, (None, &mut cuts)) {
            Err(RecoverError::Log(OpenError::Replay { why, .. })) => lost = Some(why),
            other => return other,
        }
    }
    let anew = source.place.set_aside().and_then(|()| source.place.open()).map_err(|error| error.to_string());
    let why = match anew {
        Ok(index) => {
            match with_index(source, index, State::new(source.limits), Mark::default(), (lost.clone(), &mut cuts)) {
                Err(RecoverError::Log(OpenError::Replay { why, .. })) => why,
                other => return other,
            }
        }
        Err(why) => why,
    };
    tracing::error!(why, "no index could be made: until one can, it is in memory");
    with_index(source, Box::new(Stopgap::default()), State::new(source.limits), Mark::default(), (lost, &mut cuts))
}

fn open_index(source: &Source) -> Result<(Box<dyn Index>, State, Mark), IndexError> {
    let index = source.place.open()?;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> Result<_, IndexError> {
        match index.mark()? {
            Some(mark) => Ok((State::restore(&*index, mark, source.limits)?, mark)),
            None => Ok((State::new(source.limits), Mark::default())),
        }
    }));
    let (state, mark) = found.unwrap_or_else(|_| Err(IndexError::Panicked("while it was read".to_owned())))?;
    Ok((index, state, mark))
}

fn with_index(
    source: &Source,
    index: Box<dyn Index>,
    state: State,
    mark: Mark,
    (lost, cuts): (Option<String>, &mut Vec<CutTail>),
) -> Result<Recovered, RecoverError> {
    let mut receiver = Receiver {
        place: source.place.clone(),
        limits: source.limits,
        reader: index.reader(),
        index,
        state,
        generation: mark.generation,
        applied: mark.applied,
        cut_short: mark.cut_short,
        lost,
        failed: None,
        first_frame: false,
        whole: false,
        cuts: Vec::new(),
    };
    let opening = Opening {
        disk: source.disk.clone(),
        data_dir: source.data_dir.clone(),
        options: source.log.clone(),
        clock: source.clock.clone(),
        clean: read_mark(&*source.disk, &source.data_dir)?,
        known: (mark.generation > 0).then_some(Known { epoch: receiver.state.epoch, lsn: mark.applied }),
    };
    let opened = Log::open(opening, &mut receiver);
    cuts.append(&mut receiver.cuts);
    let (log, mut report) = opened?;
    report.cut.clone_from(cuts);
    receiver.recount().map_err(|why| OpenError::Replay { first: report.last, why })?;
    let Receiver { index, state, generation, applied, lost, .. } = receiver;
    let mut state = state;
    state.epoch = log.epoch();
    let mut writer = Writer::new(state, log, source.clock.clone(), source.options.clone(), (generation, applied));
    writer.torn = report
        .cut
        .iter()
        .map(|cut| TornTail { file: cut.file.clone(), at_byte: cut.at_byte, bytes: cut.bytes })
        .collect();
    writer.take_over()?;
    Ok(Recovered { writer, index, report, index_lost: lost })
}

/// Takes the frames of a log into a state.
struct Receiver {
    place: Arc<dyn IndexPlace>,
    limits: Limits,
    index: Box<dyn Index>,
    reader: Arc<dyn IndexReader>,
    state: State,
    generation: u64,
    applied: Lsn,
    /// Single values of the index are newer than its mark.
    cut_short: bool,
    lost: Option<String>,
    failed: Option<String>,
    /// The next frame is the first of a whole log: its head counts.
    first_frame: bool,
    /// The replay begins at the first segment kept.
    whole: bool,
    cuts: Vec<CutTail>,
}

impl Receiver {
    /// The index is of no use for this log: begin without it.
    fn begin_anew(&mut self, why: &str) {
        self.lost.get_or_insert_with(|| why.to_owned());
        self.state = State::new(self.limits);
        (self.generation, self.applied, self.cut_short) = (0, Lsn::NONE, false);
        let anew = self.place.set_aside().and_then(|()| self.place.open());
        match anew {
            Ok(index) => {
                self.reader = index.reader();
                self.index = index;
            }
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    fn recount(&mut self) -> Result<(), String> {
        self.state.matured_to = self.state.now;
        self.state.staged = Staged::default();
        let (reader, failed) = (&self.reader, &mut self.failed);
        self.state.recount(&mut |topic, block| load(&**reader, topic, block, failed));
        self.state.drop_placeholders();
        self.failed.take().map_or(Ok(()), Err)
    }
}

pub(super) fn load(reader: &dyn IndexReader, topic: u32, block: u64, failed: &mut Option<String>) -> Option<BlockDisk> {
    match checkpoint::load_block(reader, topic, block) {
        Ok(stored) => Some(stored),
        Err(error) => {
            failed.get_or_insert_with(|| error.to_string());
            None
        }
    }
}

impl Replay for Receiver {
    fn cut(&mut self, cut: &CutTail) {
        self.cuts.push(cut.clone());
    }

    fn start(&mut self, start: ReplayStart) {
        match start {
            ReplayStart::Whole(_) => {
                (self.first_frame, self.whole) = (true, true);
                if self.applied != Lsn::NONE || self.generation > 0 {
                    self.begin_anew("the log does not go with it");
                }
            }
            ReplayStart::Continue(_) => {}
        }
    }

    fn frame(&mut self, frame: &ReplayFrame<'_>) -> Result<(), String> {
        let head = frame.kind() == FrameKind::Head;
        if head && !std::mem::take(&mut self.first_frame) {
            return Ok(());
        }
        self.first_frame = false;
        for (lsn, bytes) in frame.entries() {
            let mut entry: Entry = codec::decode(bytes).map_err(|error| error.to_string())?;
            if self.cut_short && self.state.is_turning_point(&entry) {
                return Err("a checkpoint was cut short after a reboot, or after groups changed".to_owned());
            }
            let (reader, failed) = (&self.reader, &mut self.failed);
            let mut loader = |topic, block| load(&**reader, topic, block, failed);
            if frame.is_rewritten() {
                mend_own(&mut entry, || {
                    Ok::<_, String>(frame.records().map(|record| (record.id, record.loc)).collect())
                })?;
                self.state.mend_others(&mut entry, &mut loader);
            }
            self.state.apply(&entry, lsn, &mut loader);
        }
        self.state.saw_frame(frame.time().get(), frame.boot().get());
        self.state.epoch = frame.epoch();
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        // Over a checkpoint that was cut short the state is right at the end only: a cursor may be newer than what it
        // left pending, and rows that seem settled would go. That replay is no longer than one checkpoint waits.
        if self.state.unsaved() < self.limits.rebuild_rows || self.cut_short {
            return Ok(());
        }
        if self.whole {
            self.generation += 1;
            let delta = self.state.spill(self.generation);
            checkpoint::write(&mut *self.index, delta).map_err(|error| error.to_string())?;
        } else if !self.state.staged.is_open() {
            let upto = frame.entries().map(|(lsn, _)| lsn).last().unwrap_or(self.applied).max(self.applied);
            self.generation += 1;
            store(&mut *self.index, &mut self.state, self.generation, upto).map_err(|error| error.to_string())?;
            self.applied = upto;
        }
        Ok(())
    }

    fn head(&mut self, _epoch: Epoch) -> Vec<Vec<u8>> {
        self.state.head_entries()
    }
}

/// Writes a checkpoint of a replay, and lets go of its blocks. In its middle the replay must have begun with a
/// checkpoint: what is live and was said before is known only then.
fn store(index: &mut dyn Index, state: &mut State, generation: u64, upto: Lsn) -> Result<(), IndexError> {
    let delta = state.freeze(generation, upto);
    checkpoint::write(index, delta)?;
    for topic in state.topics.values_mut() {
        for block in topic.rows.thaw() {
            topic.rows.evict(block);
        }
    }
    Ok(())
}

/// Entries of a frame of a running log; those beside their records tell where these lie.
pub fn scanned_entries(
    reader: &LogReader,
    frame: &crate::log::ScanFrame,
    scan: &crate::log::Scan,
) -> Result<Vec<(Lsn, Entry)>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut entries = Vec::new();
    for (place, bytes) in (0..).zip(frame.entries()) {
        let mut entry: Entry = codec::decode(bytes).map_err(|error| text(&error))?;
        if frame.is_rewritten() {
            mend_own(&mut entry, || {
                let locs = scan.record_locs(frame).map_err(|error| text(&error))?;
                let named = |loc| reader.read(loc).map(|record| (record.id, loc)).map_err(|error| text(&error));
                locs.into_iter().map(named).collect::<Result<Places, String>>()
            })?;
        }
        let lsn = if frame.kind == FrameKind::Head { Lsn::NONE } else { frame.first.plus(place) };
        entries.push((lsn, entry));
    }
    Ok(entries)
}

/// Builds an index anew from a running log, up to an lsn. `generation` is the first one it may use.
pub fn rebuild(
    index: &mut dyn Index,
    reader: &LogReader,
    segments: &[u64],
    upto: Lsn,
    generation: u64,
    limits: Limits,
) -> Result<u64, String> {
    let mut state = State::new(limits);
    let mut generation = generation;
    let index_reader = index.reader();
    let mut failed = None;
    let mut first = true;
    'segments: for segment in segments {
        let mut scan = reader.scan(*segment).map_err(|error| error.to_string())?;
        while let Some(frame) = scan.next() {
            let frame = frame.map_err(|error| error.to_string())?;
            if frame.first > upto {
                break 'segments;
            }
            if frame.kind == FrameKind::Head && !first {
                continue;
            }
            first = false;
            for (lsn, mut entry) in scanned_entries(reader, &frame, &scan)? {
                if lsn <= upto {
                    let mut loader = |topic, block| load(&*index_reader, topic, block, &mut failed);
                    if frame.is_rewritten() {
                        state.mend_others(&mut entry, &mut loader);
                    }
                    state.apply(&entry, lsn, &mut loader);
                }
            }
            state.saw_frame(frame.time.get(), frame.boot.get());
            state.epoch = frame.epoch;
            if let Some(failed) = failed.take() {
                return Err(failed);
            }
            if state.unsaved() >= limits.rebuild_rows {
                generation += 1;
                let delta = state.spill(generation);
                checkpoint::write(index, delta).map_err(|error| error.to_string())?;
            }
        }
    }
    state.drop_placeholders();
    generation += 1;
    store(index, &mut state, generation, upto).map_err(|error| error.to_string())?;
    Ok(generation)
}
