//! What runs beside the writer: checkpoints and rebuilds of the index, loads of blocks, scans of the
//! front, the end of the log. Plain code: a thread each in the local engine, seeded moments in the simulator.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::engine::checkpoint;
use crate::engine::command::{Candidate, JobDone};
use crate::engine::entry::{Entry, TopicNo};
use crate::engine::recover::{IndexPlace, Source, rebuild, scanned_entries};
use crate::engine::writer::{Job, Writer};
use crate::index::{Index, IndexReader, Stopgap};
use crate::log::{Fatal, LogReader, write_mark};
use crate::model::{Lsn, Millis};

/// How long an index stays in memory before its place on disk is tried again.
const STOPGAP_TIME: Duration = Duration::from_secs(60);
/// Records read for one chunk of a scan, in bytes.
const SCAN_BYTES: usize = 2 << 20;

/// The index as the threads beside the writer share it.
pub struct IndexShared {
    reader: RwLock<(u64, Arc<dyn IndexReader>)>,
}

impl IndexShared {
    /// What recovery left.
    pub fn new(generation: u64, reader: Arc<dyn IndexReader>) -> Self {
        Self { reader: RwLock::new((generation, reader)) }
    }

    fn get(&self) -> (u64, Arc<dyn IndexReader>) {
        let held = self.reader.read().unwrap_or_else(PoisonError::into_inner);
        (held.0, held.1.clone())
    }

    fn set(&self, generation: u64, reader: Arc<dyn IndexReader>) {
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = (generation, reader);
    }
}

/// Writes the index, one job after the other.
pub struct IndexWorker {
    /// `None` after it failed, until it is built again.
    index: Option<Box<dyn Index>>,
    place: Arc<dyn IndexPlace>,
    reader: LogReader,
    shared: Arc<IndexShared>,
    limits: crate::engine::Limits,
    clock: Arc<dyn Clock>,
    /// Boot time at which the place of an index was last tried.
    tried_at: Millis,
}

impl IndexWorker {
    /// A worker over the index that recovery left; what it writes is `shared` with who reads blocks.
    pub fn new(index: Box<dyn Index>, source: &Source, reader: LogReader, shared: Arc<IndexShared>) -> Self {
        let (place, clock) = (source.place.clone(), source.clock.clone());
        let tried_at = clock.boot();
        Self { index: Some(index), place, reader, shared, limits: source.limits, clock, tried_at }
    }

    /// Writes a checkpoint or builds the index anew; `None`: the job is somebody else's.
    pub fn run(&mut self, job: Job) -> Option<JobDone> {
        match job {
            Job::Checkpoint(delta) => Some(self.checkpoint(*delta)),
            Job::Rebuild { upto, segments, generation } => Some(self.rebuild(upto, &segments, generation)),
            Job::Load { .. } | Job::Scan { .. } | Job::Sync(_) => None,
        }
    }

    fn checkpoint(&mut self, delta: checkpoint::Delta) -> JobDone {
        let generation = delta.mark.generation;
        let is_time = self.clock.boot().since(self.tried_at) >= STOPGAP_TIME;
        let result = match &mut self.index {
            Some(index) if index.is_stopgap() && is_time => {
                Err("it is in memory only, and its place is tried again".to_owned())
            }
            Some(index) => checkpoint::write(&mut **index, delta).map_err(|error| error.to_string()),
            None => Err("the index is being built again".to_owned()),
        };
        if let (Ok(()), Some(index)) = (&result, &self.index) {
            self.shared.set(generation, index.reader());
        }
        JobDone::Checkpoint { generation, result }
    }

    fn rebuild(&mut self, upto: Lsn, segments: &[u64], generation: u64) -> JobDone {
        self.index = None;
        self.tried_at = self.clock.boot();
        let fill = |mut index: Box<dyn Index>| -> Result<(Box<dyn Index>, u64), String> {
            let generation = rebuild(&mut *index, &self.reader, segments, upto, generation, self.limits)?;
            Ok((index, generation))
        };
        let anew = self.place.set_aside().and_then(|()| self.place.open()).map_err(|error| error.to_string());
        let built = anew.and_then(fill).or_else(|error| {
            tracing::error!(%error, "no index could be made: until one can, it is in memory");
            fill(Box::<Stopgap>::default())
        });
        match built {
            Ok((index, generation)) => {
                self.shared.set(generation, index.reader());
                self.index = Some(index);
                JobDone::Rebuilt { generation, result: Ok(()) }
            }
            Err(error) => JobDone::Rebuilt { generation, result: Err(error) },
        }
    }
}

/// Reads one chunk of the records of a segment.
pub fn scan(reader: &LogReader, segment: u64, skip: usize) -> JobDone {
    match try_scan(reader, segment, skip) {
        Ok((frames, candidates, end)) => JobDone::Scanned { segment, frames, candidates, end, failed: None },
        Err(error) => {
            JobDone::Scanned { segment, frames: skip, candidates: Vec::new(), end: true, failed: Some(error) }
        }
    }
}

fn try_scan(reader: &LogReader, segment: u64, skip: usize) -> Result<(usize, Vec<Candidate>, bool), String> {
    let mut scan = reader.scan(segment).map_err(|error| error.to_string())?;
    let (mut frames, mut bytes, mut candidates) = (0, 0, Vec::new());
    while let Some(frame) = scan.next() {
        let frame = frame.map_err(|error| error.to_string())?;
        frames += 1;
        if frames <= skip {
            continue;
        }
        for (_, entry) in scanned_entries(reader, &frame, &scan)? {
            let rows: Vec<(u32, u64, crate::engine::entry::RowDisk)> = match entry {
                Entry::Published { topic, first_offset, rows, .. } => {
                    rows.into_iter().zip(first_offset..).map(|(row, offset)| (topic, offset, row)).collect()
                }
                Entry::Rewritten { topic, rows } => {
                    rows.into_iter().map(|kept| (topic, kept.offset, kept.row)).collect()
                }
                _ => continue,
            };
            for (topic, offset, row) in rows {
                let loc = crate::log::Loc { segment: row.segment, position: row.position, length: row.length };
                let record = reader.read(loc).map_err(|error| error.to_string())?;
                bytes += row.length as usize;
                candidates.push(Candidate { topic, offset, row, head: record.head, body: record.body });
            }
        }
        if bytes >= SCAN_BYTES {
            return Ok((frames, candidates, false));
        }
    }
    Ok((frames, candidates, true))
}

/// Reads a block from the index.
pub fn load(shared: &IndexShared, topic: TopicNo, block: u64) -> JobDone {
    let (generation, reader) = shared.get();
    let stored = checkpoint::load_block(&*reader, topic, block).map_err(|error| error.to_string());
    JobDone::Loaded { generation, topic, block, stored }
}

/// Ends the log of a writer that has stopped, leaves the mark of a clean stop, tells who waits for it.
pub fn finish(writer: Writer, disk: &dyn Disk, data_dir: &Path, random: u64) -> Result<(), Fatal> {
    let (mark, reply) = writer.finish()?;
    if let Err(error) = write_mark(disk, data_dir, mark, random) {
        tracing::error!(%error, "the mark of a clean stop could not be written");
    }
    if let Some(reply) = reply {
        let _ = reply.send(());
    }
    Ok(())
}
