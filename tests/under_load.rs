//! Hostile, slow and very many clients, and machines that stand still, against the real server: good clients are
//! served all the while, memory and processor stay within named bounds, and nothing is lost. Everything is on
//! 127.0.0.1, bounded in number and time.

#![allow(clippy::unwrap_used)]

mod counts;
mod process;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use process::client::Client;
use process::{Process, eventually, serve_command, windlass};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

const V1: &str = "/api/windlass/v1";
/// Most memory that a server may take under any load here. Its own bound for bodies in flight is set to 32 MiB.
const RSS_MIB_MAX: u64 = 512;
/// Most of a processor that a server takes with ten thousand pulls waiting and nothing to do.
const IDLE_SHARE_MAX: f64 = 0.25;
const SETTINGS: &[(&str, &str)] = &[
    ("WINDLASS_LOG_SEGMENT_BYTES", "1 MiB"),
    ("WINDLASS_LIMITS_BODY_BYTES_MAX", "64 KiB"),
    ("WINDLASS_LIMITS_BATCH_BYTES_MAX", "192 KiB"),
    ("WINDLASS_HTTP_REQUEST_BYTES_MAX", "1 MiB"),
    ("WINDLASS_HTTP_BUFFER_BYTES_MAX", "32 MiB"),
    ("WINDLASS_HTTP_WAITING_PER_TOKEN_MAX", "20000"),
    ("WINDLASS_HTTP_HEADER_TIMEOUT", "2 s"),
    ("WINDLASS_HTTP_BODY_TIMEOUT", "3 s"),
];

/// As many open files as the system allows, here and in what is started from here.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

fn start(data: &Path) -> Process {
    let mut command = serve_command(data);
    command.envs(SETTINGS.iter().copied());
    Process::start_command(command, data)
}

fn make_topic(client: &mut Client) {
    client.post(&format!("{V1}/topics"), &json!({"name": "t"})).unwrap().expect(201);
    let settings = json!({"waiting_max": 20_000, "pending_max": 100_000});
    client.post(&format!("{V1}/topics/t/groups"), &json!({"name": "g", "settings": settings})).unwrap().expect(201);
}

/// Memory that the process holds, in MiB.
fn rss_mib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Ticks of processor time that the process has used; 100 are a second.
fn ticks(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Share of one processor that the process takes over this time.
fn share_over(id: u32, span: Duration) -> f64 {
    let (before, begun) = (ticks(id), Instant::now());
    std::thread::sleep(span);
    (ticks(id) - before) as f64 / 100.0 / begun.elapsed().as_secs_f64()
}

fn counts_of(client: &mut Client) -> Value {
    client.get(&format!("{V1}/topics/t/groups/g/counts")).unwrap().expect(200)
}

#[test]
fn ten_thousand_long_polls_cost_no_processor_and_are_all_answered() {
    let files = raise_files();
    let polls = counts::rounds("WINDLASS_POLLS", 1_000, 10_000).min(files.saturating_sub(600));
    let home = tempfile::tempdir().unwrap();
    let server = start(&home.path().join("data"));
    let mut client = server.client();
    make_topic(&mut client);
    let before = rss_mib(server.id());
    let pull = json!({"batch_max": 1, "wait_ms": 120_000, "auto_ack": true}).to_string();
    let mut waiting: Vec<Client> = (0..polls).map(|_| server.client()).collect();
    for poll in &mut waiting {
        let path = format!("{V1}/topics/t/groups/g/pull");
        poll.begin("POST", &path, "content-type: application/json\r\n", pull.as_bytes()).unwrap();
    }
    eventually("all polls to wait", || {
        let status = client.get(&format!("{V1}/status")).unwrap().expect(200);
        (status["topics"][0]["groups"][0]["waiting"].as_u64() == Some(polls)).then_some(())
    });
    let share = share_over(server.id(), Duration::from_millis(if counts::long() { 5_000 } else { 1_000 }));
    let rss = rss_mib(server.id());
    let begun = Instant::now();
    for batch in 0..polls.div_ceil(500) {
        let numbers = batch * 500..polls.min(batch * 500 + 500);
        let messages: Vec<Value> = numbers.map(|number| json!({"body": format!("m{number}")})).collect();
        client.post(&format!("{V1}/topics/t/messages/batch"), &json!({"messages": messages})).unwrap().expect(201);
    }
    let mut got = HashSet::new();
    for poll in &mut waiting {
        let answer = poll.answer().expect("an answer to a poll").expect(200);
        assert_eq!(answer["messages"].as_array().map(Vec::len), Some(1), "{answer}");
        assert!(got.insert(answer["messages"][0]["id"].as_str().unwrap().to_owned()), "a message came twice");
    }
    println!(
        "{polls} long polls: {:.1} % of a processor while they wait, {rss} MiB (of them {before} before), all answered in \
         {:.2} s",
        share * 100.0,
        begun.elapsed().as_secs_f64()
    );
    assert!(share < IDLE_SHARE_MAX, "{share}");
    assert!(rss < RSS_MIB_MAX, "{rss} MiB");
}

/// What hostile clients do, again and again, until told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hostile {
    /// A head, a byte at a time.
    HeaderDrip,
    /// A body, a byte at a time.
    BodyDrip,
    /// Asks for much and reads nothing.
    SlowReader,
    /// Connects and is silent, or closes its half.
    HalfOpen,
    /// Heads without end.
    HeaderFlood,
    /// Bodies that are too large, as fast as they go.
    BodyFlood,
}

const HOSTILE: &[Hostile] = &[
    Hostile::HeaderDrip,
    Hostile::BodyDrip,
    Hostile::SlowReader,
    Hostile::HalfOpen,
    Hostile::HeaderFlood,
    Hostile::BodyFlood,
];

impl Hostile {
    /// One round; how it ends does not matter to anybody.
    fn once(self, address: SocketAddr, number: usize, stop: &AtomicBool) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        let mut answer = [0; 4096];
        match self {
            Self::HeaderDrip => {
                for byte in format!("GET /healthz HTTP/1.1\r\nx: {}", "y".repeat(300)).bytes() {
                    stream.write_all(&[byte])?;
                    pause(stop, 50);
                }
            }
            Self::BodyDrip => {
                let path = format!("{V1}/topics/t/messages");
                write!(stream, "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n")?;
                stream.write_all(&[b'x'; 30_000])?;
                for _ in 0..100 {
                    stream.write_all(b"x")?;
                    pause(stop, 50);
                }
            }
            Self::SlowReader => {
                for _ in 0..200 {
                    write!(stream, "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n")?;
                }
                pause(stop, 1_000);
            }
            Self::HalfOpen if number.is_multiple_of(2) => pause(stop, 1_000),
            Self::HalfOpen => {
                write!(stream, "POST {V1}/topics/t/groups/g/pull HTTP/1.1\r\nhost: a\r\n")?;
                stream.shutdown(Shutdown::Write)?;
                pause(stop, 500);
            }
            Self::HeaderFlood => {
                write!(stream, "GET /healthz HTTP/1.1\r\n")?;
                for line in 0..2_000 {
                    write!(stream, "x-{line}: {}\r\n", "z".repeat(100))?;
                }
                let _ = stream.read(&mut answer)?;
            }
            Self::BodyFlood => {
                let path = format!("{V1}/topics/t/messages/batch");
                write!(stream, "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")?;
                for _ in 0..64 {
                    write!(stream, "10000\r\n{}\r\n", " ".repeat(0x10000))?;
                }
                let _ = stream.read(&mut answer)?;
            }
        }
        Ok(())
    }
}

fn pause(stop: &AtomicBool, millis: u64) {
    let until = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A good client's work: publish, pull, ack, and how long each request took.
fn work(server: &Process, name: &str, rounds: u64, times: &mut Vec<Duration>) {
    let mut client = server.client();
    let mut timed = |method: &str, path: &str, kind: &str, body: &[u8]| {
        let begun = Instant::now();
        let answer = client.ask(method, path, kind, body).unwrap_or_else(|_| panic!("{name}: no answer from {path}"));
        times.push(begun.elapsed());
        assert!(answer.status == 200 || answer.status == 201, "{name}: {path} was answered {}", answer.text());
        answer
    };
    let json_kind = "content-type: application/json\r\n";
    let mut acked = 0;
    for round in 0..rounds {
        let body = format!("{name} {round} {}", "b".repeat(500));
        timed("POST", &format!("{V1}/topics/t/messages"), "content-type: text/plain\r\n", body.as_bytes());
        let pull = json!({"batch_max": 1, "wait_ms": 10_000}).to_string();
        let pulled = timed("POST", &format!("{V1}/topics/t/groups/g/pull"), json_kind, pull.as_bytes()).json();
        let tokens: Vec<&Value> = pulled["messages"].as_array().unwrap().iter().map(|one| &one["token"]).collect();
        acked += tokens.len();
        let ack = json!({"tokens": tokens}).to_string();
        timed("POST", &format!("{V1}/topics/t/groups/g/ack"), json_kind, ack.as_bytes());
    }
    assert_eq!(acked as u64, rounds, "{name}: every publish is somebody's delivery");
}

/// Four good clients at work; their times, in order.
fn good(server: &Process, rounds: u64) -> Vec<Duration> {
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    work(server, &format!("good {number}"), rounds, &mut times);
                    times
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a good client is served")).collect()
    });
    all.sort_unstable();
    all
}

fn p99(times: &[Duration]) -> f64 {
    times[times.len() * 99 / 100].as_secs_f64() * 1_000.0
}

#[test]
fn good_clients_are_served_while_hostile_ones_drip_flood_and_read_nothing() {
    raise_files();
    let rounds = counts::rounds("WINDLASS_LOAD_ROUNDS", 25, 500);
    let each = counts::rounds("WINDLASS_HOSTILE_EACH", 4, 16) as usize;
    let home = tempfile::tempdir().unwrap();
    let server = start(&home.path().join("data"));
    make_topic(&mut server.client());
    let alone = good(&server, rounds);
    let (stop, attempts, most) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let together = std::thread::scope(|scope| {
        let (stop, attempts, most, server) = (&stop, &attempts, &most, &server);
        let _end = AtTheEnd(stop);
        for hostile in HOSTILE {
            for number in 0..each {
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        attempts.fetch_add(1, Ordering::SeqCst);
                        let _ = hostile.once(server.address, number, stop);
                    }
                });
            }
        }
        scope.spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                most.fetch_max(rss_mib(server.id()), Ordering::SeqCst);
                pause(stop, 50);
            }
        });
        eventually("hostile clients at work", || {
            (attempts.load(Ordering::SeqCst) > (each * HOSTILE.len()) as u64).then_some(())
        });
        good(server, rounds)
    });
    let rss = most.load(Ordering::SeqCst);
    println!(
        "{} hostile connections of {} clients; {} requests of good clients, none failed: p99 {:.1} ms alone, {:.1} ms with \
         them; at most {rss} MiB",
        attempts.load(Ordering::SeqCst),
        each * HOSTILE.len(),
        alone.len() + together.len(),
        p99(&alone),
        p99(&together),
    );
    assert!(rss < RSS_MIB_MAX, "{rss} MiB");
    assert_eq!(counts_of(&mut server.client())["ready"], 0);
}

/// Ends the work when it is dropped, so that a test that fails ends.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// `windlass serve` behind a command that does something to the process first.
fn serve_behind(before: &str, data: &Path) -> Command {
    let plain = windlass();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"")]);
    command.arg(plain.get_program()).arg(data);
    for (name, _) in plain.get_envs() {
        command.env_remove(name);
    }
    command.envs(SETTINGS.iter().copied()).env("WINDLASS_LOG_SEGMENT_BYTES", "1 MiB");
    command
}

#[test]
fn more_connections_than_files_neither_end_the_server_nor_make_it_spin() {
    raise_files();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut server = Process::start_command(serve_behind("ulimit -n 160;", &data), &data);
    let mut client = server.client();
    make_topic(&mut client);
    let mut held = Vec::new();
    for _ in 0..400 {
        // Turned away or taken in, all of them stay open on this side.
        if let Ok(mut stream) = TcpStream::connect(server.address) {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n");
            held.push(stream);
        }
    }
    // The log begins new segments meanwhile: it needs files of its own.
    let mut published = 0;
    for _ in 0..60 {
        let answer = client.ask("POST", &format!("{V1}/topics/t/messages"), "", &[b'm'; 60_000]).expect("an answer");
        answer.expect(201);
        published += 1;
    }
    let share = share_over(server.id(), Duration::from_millis(500));
    assert!(server.runs(), "{}", server.said());
    assert!(share < 0.5, "it spins: {share}");
    let connected = held.len();
    drop(held);
    eventually("a new connection to be served", || {
        let mut fresh = server.client();
        fresh.get("/healthz").ok().filter(|answer| answer.status == 200).map(drop)
    });
    assert_eq!(counts_of(&mut server.client())["ready"], published);
    println!("{connected} connections to a server of 160 files: {:.0} % of a processor, served on", share * 100.0);
}

#[test]
fn a_process_that_stands_still_answers_everything_when_it_goes_on() {
    let stops = counts::rounds("WINDLASS_STOPS", 1, 20);
    let home = tempfile::tempdir().unwrap();
    let server = start(&home.path().join("data"));
    make_topic(&mut server.client());
    let stop = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        let (server, stop) = (&server, &stop);
        let _end = AtTheEnd(stop);
        scope.spawn(move || {
            for _ in 0..stops {
                server.signal("STOP");
                pause(stop, 400);
                server.signal("CONT");
                pause(stop, 200);
            }
        });
        good(server, 100 * stops)
    });
    let longest = times.last().unwrap().as_secs_f64();
    println!("{stops} stops of 400 ms: {} requests, all answered, the longest took {longest:.2} s", times.len());
    assert_eq!(counts_of(&mut server.client())["ready"], 0);
}

#[test]
fn a_disk_that_stalls_makes_its_writers_wait_and_loses_nothing() {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: strace is not there, or may not trace");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    // As the tracer's parent the server is the process that this test started, and ends with it.
    let stall = "strace -D -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:delay_enter=300000:when=20+40";
    let mut command = serve_behind("", &data);
    let script = format!("exec {stall} \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"");
    let arguments: Vec<_> = command.get_args().skip(2).map(ToOwned::to_owned).collect();
    let mut stalled = Command::new("sh");
    stalled.args(["-c", &script]).args(arguments);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => stalled.env(name, value),
            None => stalled.env_remove(name),
        };
    }
    command = stalled;
    let server = Process::start_command(command, &data);
    make_topic(&mut server.client());
    let times = good(&server, counts::rounds("WINDLASS_STALL_ROUNDS", 20, 400));
    let longest = times.last().unwrap();
    println!("a sync in forty stalls for 300 ms: {} requests, all answered, the longest took {longest:?}", times.len());
    assert!(*longest >= Duration::from_millis(250), "nothing stalled: {longest:?}");
    assert_eq!(counts_of(&mut server.client())["ready"], 0);
}
