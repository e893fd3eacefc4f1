//! The servers that a user could install in the place of windlass, under the same loads. One module per protocol
//! speaks what the loads need and no more; every answer is read and checked.

mod amqp;
mod beanstalkd;
mod nats;
mod postgresql;
mod redis;
mod wire;

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::task::LocalSet;

use crate::bench::load::{Report, SETTLE};
use crate::bench::process::cpu_time;
use crate::bench::server::random_name;
use crate::bench::speech::text;

/// Whose protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeerKind {
    /// Redis: a stream and a consumer group.
    Redis,
    /// beanstalkd: a tube.
    Beanstalkd,
    /// NATS JetStream: a work-queue stream and a pull consumer.
    Nats,
    /// PostgreSQL: a plain table, taken with SKIP LOCKED.
    Postgresql,
    /// RabbitMQ: a quorum queue with publisher confirms.
    Rabbitmq,
}

/// A load for a peer that runs already. Its durability is its own affair: see benches/peers.
#[derive(Debug, Args)]
pub struct PeerArguments {
    /// Whose protocol.
    #[arg(long, value_enum)]
    kind: PeerKind,
    /// Where it listens; without any access control.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Take and ack of this many messages, which are published beforehand. Without it: publishes.
    #[arg(long, value_name = "COUNT")]
    backlog: Option<u64>,
    /// Connections at once.
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    connections: usize,
    /// Messages that are sent, or asked for, before answers are waited for.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    batch: usize,
    /// Bytes of a body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    body_bytes: usize,
    /// Seconds of publishing; most seconds of taking.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    duration: u64,
}

/// What all connections of a load have in common.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Name of the queue, which nobody used before.
    pub queue: String,
    /// Every message's body: letters.
    pub body: String,
    /// Messages of one turn.
    pub batch: usize,
}

/// One connection to a peer.
pub trait Peer: Sized + 'static {
    /// Connects, and says what every connection must say first.
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self>;

    /// Makes the queue; asked of one connection, before the others are opened.
    async fn prepare(&mut self) -> io::Result<()>;

    /// Publishes a batch; returns when the server has answered for all of it.
    async fn publish(&mut self) -> io::Result<()>;

    /// Asked once before the first take.
    async fn begin_taking(&mut self) -> io::Result<()>;

    /// Takes up to a batch and acks it: how many. None: the backlog is gone, or the others hold the last ones.
    async fn take_and_ack(&mut self) -> io::Result<u64>;
}

/// Runs the load that the arguments ask for.
pub fn run(arguments: &PeerArguments) -> io::Result<Report> {
    let wrong = || io::Error::other(format!("`{}` is not HOST:PORT", arguments.address));
    let address = arguments.address.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match arguments.kind {
            PeerKind::Redis => drive::<redis::Redis>(address, arguments).await,
            PeerKind::Beanstalkd => drive::<beanstalkd::Beanstalkd>(address, arguments).await,
            PeerKind::Nats => drive::<nats::Nats>(address, arguments).await,
            PeerKind::Postgresql => drive::<postgresql::Postgresql>(address, arguments).await,
            PeerKind::Rabbitmq => drive::<amqp::Rabbitmq>(address, arguments).await,
        }
    })
}

/// What the tasks of a load share.
struct Progress {
    report: RefCell<Report>,
    begun: Instant,
    end: Instant,
    /// Messages after which there is nothing more to do.
    enough: u64,
}

impl Progress {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end && self.report.borrow().messages < self.enough
    }

    /// Counts one turn.
    fn done(&self, turn_begun: Instant, messages: u64) {
        let mut report = self.report.borrow_mut();
        report.times.add(turn_begun.elapsed());
        report.messages += messages;
        // What is waited for at the end of a backlog is no work.
        report.elapsed = self.begun.elapsed();
    }
}

async fn drive<P: Peer>(address: SocketAddr, arguments: &PeerArguments) -> io::Result<Report> {
    let queue = random_name("bench")?;
    let errand = |batch: usize| Errand { queue: queue.clone(), body: text(arguments.body_bytes), batch };
    let own = errand(arguments.batch.max(1));
    let mut first = P::open(address, &own).await?;
    first.prepare().await?;
    if let Some(backlog) = arguments.backlog {
        fill::<P>(address, &errand(FILL_BATCH), backlog).await?;
    }
    let mut peers = vec![first];
    while peers.len() < arguments.connections.max(1) {
        peers.push(P::open(address, &own).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let cpu = || cpu_time(std::process::id()).unwrap_or_default();
    let (cpu_before, begun) = (cpu(), Instant::now());
    let progress = Rc::new(Progress {
        report: RefCell::default(),
        begun,
        end: begun + Duration::from_secs(arguments.duration),
        enough: arguments.backlog.unwrap_or(u64::MAX),
    });
    let tasks: Vec<_> = peers
        .into_iter()
        .map(|peer| {
            let (progress, batch) = (progress.clone(), own.batch as u64);
            let takes = arguments.backlog.is_some();
            tokio::task::spawn_local(async move {
                let done = if takes { consume(peer, &progress).await } else { produce(peer, batch, &progress).await };
                if let Err(error) = done {
                    progress.report.borrow_mut().fail(&error);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(io::Error::other)?;
    }
    let mut report = progress.report.take();
    report.generator_cpu = cpu().saturating_sub(cpu_before);
    Ok(report)
}

async fn produce<P: Peer>(mut peer: P, batch: u64, progress: &Progress) -> io::Result<()> {
    while progress.goes_on() {
        let begun = Instant::now();
        peer.publish().await?;
        progress.done(begun, batch);
    }
    Ok(())
}

async fn consume<P: Peer>(mut peer: P, progress: &Progress) -> io::Result<()> {
    peer.begin_taking().await?;
    while progress.goes_on() {
        let begun = Instant::now();
        match peer.take_and_ack().await? {
            0 => return Ok(()),
            taken => progress.done(begun, taken),
        }
    }
    Ok(())
}

/// Messages of one turn while the backlog is published.
const FILL_BATCH: usize = 100;
/// Connections that publish the backlog.
const FILLERS: u64 = 16;

/// Publishes the backlog, rounded up to whole batches.
async fn fill<P: Peer>(address: SocketAddr, errand: &Errand, backlog: u64) -> io::Result<()> {
    let turns = backlog.div_ceil(FILL_BATCH as u64);
    let mut tasks = Vec::new();
    for place in 0..FILLERS.min(turns) {
        let share = turns / FILLERS + u64::from(place < turns % FILLERS);
        let mut peer = P::open(address, errand).await?;
        tasks.push(tokio::task::spawn_local(async move {
            for _ in 0..share {
                peer.publish().await?;
            }
            Ok::<_, io::Error>(())
        }));
    }
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(())
}
