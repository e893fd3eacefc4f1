//! PostgreSQL: a plain table. Publish is an INSERT (a batch: one INSERT of many rows). A take opens a transaction and
//! locks the oldest free rows (SKIP LOCKED); the ack deletes them and commits. The open transaction is the lease: the
//! cheapest one there is, since nothing is written before the ack. Statements are prepared once per connection.

use std::io;
use std::net::SocketAddr;

use crate::bench::peer::wire::{Wire, number, unexpected};
use crate::bench::peer::{Errand, Peer};

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;
const USER: &str = "bench";
const DATABASE: &str = "postgres";
/// Bytes of one message of the server.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A client.
pub struct Postgresql {
    wire: Wire,
    queue: String,
    batch: usize,
    publish: Vec<u8>,
    take: Vec<u8>,
    /// What is parsed before the first use, once the table is there.
    unparsed: Vec<u8>,
}

/// What one round of requests was answered.
#[derive(Debug, Default)]
struct Answer {
    /// First columns of the rows.
    ids: Vec<String>,
    /// Tags of the commands, such as `INSERT 0 1`.
    tags: Vec<String>,
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    framed(b'P', &[ended(name), ended(sql), vec![0, 0]].concat())
}

/// Runs a prepared statement; at most 65535 parameters.
fn execute(name: &str, parameters: &[&[u8]]) -> Vec<u8> {
    let mut bind = [ended(""), ended(name), vec![0, 0]].concat();
    bind.extend_from_slice(&u16::try_from(parameters.len()).unwrap_or(u16::MAX).to_be_bytes());
    for parameter in parameters {
        bind.extend_from_slice(&u32::try_from(parameter.len()).unwrap_or(u32::MAX).to_be_bytes());
        bind.extend_from_slice(parameter);
    }
    bind.extend_from_slice(&[0, 0]);
    [framed(b'B', &bind), framed(b'E', &[0; 5])].concat()
}

fn sync() -> Vec<u8> {
    framed(b'S', &[])
}

/// The first column of a row.
fn first_column(row: &[u8]) -> Option<String> {
    let length = u32::from_be_bytes(row.get(2..6)?.try_into().ok()?) as usize;
    String::from_utf8(row.get(6..6 + length)?.to_vec()).ok()
}

impl Postgresql {
    /// Sends requests and reads all answers to them.
    async fn ask(&mut self, requests: &[u8]) -> io::Result<Answer> {
        self.wire.send(requests).await?;
        let mut answer = Answer::default();
        loop {
            let head: [u8; 5] = self.wire.exact(5).await?.try_into().unwrap_or_default();
            let [kind, length @ ..] = head;
            let length = (u32::from_be_bytes(length) as usize).saturating_sub(4);
            if length > MESSAGE_BYTES_MAX {
                return Err(io::Error::other("an answer that is not PostgreSQL's"));
            }
            let body = self.wire.exact(length).await?;
            match kind {
                b'Z' => return Ok(answer),
                b'E' => return Err(unexpected(body)),
                b'R' if body != [0; 4] => return Err(io::Error::other("the server wants a password")),
                b'D' => answer.ids.push(first_column(body).ok_or_else(|| unexpected(body))?),
                b'C' => answer.tags.push(String::from_utf8_lossy(body).trim_end_matches('\0').to_owned()),
                // Settings, keys, notices, and that a step was taken.
                b'R' | b'S' | b'K' | b'N' | b'1' | b'2' | b'n' | b's' => {}
                other => return Err(io::Error::other(format!("an answer of the unknown kind {other}"))),
            }
        }
    }

    async fn parse_once(&mut self) -> io::Result<()> {
        let unparsed = std::mem::take(&mut self.unparsed);
        if !unparsed.is_empty() {
            self.ask(&unparsed).await?;
        }
        Ok(())
    }
}

impl Peer for Postgresql {
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self> {
        let (queue, batch) = (errand.queue.clone(), errand.batch);
        let places: Vec<String> = (1..=batch).map(|place| format!("(${place})")).collect();
        let unparsed = [
            parse("put", &format!("INSERT INTO \"{queue}\" (body) VALUES {}", places.join(","))),
            parse("begin", "BEGIN"),
            parse(
                "take",
                &format!("SELECT id, body FROM \"{queue}\" ORDER BY id LIMIT {batch} FOR UPDATE SKIP LOCKED"),
            ),
            parse("ack", &format!("DELETE FROM \"{queue}\" WHERE id = ANY ($1::bigint[])")),
            parse("commit", "COMMIT"),
            sync(),
        ];
        let mut postgresql = Self {
            wire: Wire::open(address).await?,
            publish: [execute("put", &vec![errand.body.as_bytes(); batch]), sync()].concat(),
            take: [execute("begin", &[]), execute("take", &[]), sync()].concat(),
            unparsed: unparsed.concat(),
            queue,
            batch,
        };
        let said = [ended("user"), ended(USER), ended("database"), ended(DATABASE), vec![0]].concat();
        let length = u32::try_from(said.len() + 8).unwrap_or(u32::MAX);
        let hello = [&length.to_be_bytes()[..], &PROTOCOL.to_be_bytes(), &said].concat();
        postgresql.ask(&hello).await?;
        Ok(postgresql)
    }

    async fn prepare(&mut self) -> io::Result<()> {
        let table = format!("CREATE TABLE \"{}\" (id bigserial PRIMARY KEY, body text NOT NULL)", self.queue);
        self.ask(&framed(b'Q', &ended(&table))).await?;
        Ok(())
    }

    async fn publish(&mut self) -> io::Result<()> {
        self.parse_once().await?;
        let publish = std::mem::take(&mut self.publish);
        let answer = self.ask(&publish).await?;
        self.publish = publish;
        match answer.tags.as_slice() {
            [tag] if *tag == format!("INSERT 0 {}", self.batch) => Ok(()),
            other => Err(unexpected(other.concat().as_bytes())),
        }
    }

    async fn begin_taking(&mut self) -> io::Result<()> {
        self.parse_once().await
    }

    async fn take_and_ack(&mut self) -> io::Result<u64> {
        let take = std::mem::take(&mut self.take);
        let ids = self.ask(&take).await?.ids;
        self.take = take;
        if ids.is_empty() {
            self.ask(&[execute("commit", &[]), sync()].concat()).await?;
            return Ok(0);
        }
        let list = format!("{{{}}}", ids.join(","));
        let answer = self.ask(&[execute("ack", &[list.as_bytes()]), execute("commit", &[]), sync()].concat()).await?;
        let acked = answer.tags.first().and_then(|tag| number(tag.strip_prefix("DELETE ")?.as_bytes()));
        match (acked, answer.tags.get(1).map(String::as_str)) {
            (Some(acked), Some("COMMIT")) if acked == ids.len() as u64 => Ok(acked),
            _ => Err(unexpected(answer.tags.concat().as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::wire::scripted::{play, run};

    const READY: &[u8] = b"Z\0\0\0\x05I";

    #[test]
    fn a_batch_is_published_taken_and_acked() {
        let hello = b"\0\0\0\x26\0\x03\0\0user\0bench\0database\0postgres\0\0";
        let put = b"B\0\0\0\x1b\0put\0\0\0\0\x02\0\0\0\x02ab\0\0\0\x02ab\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
        let take = b"B\0\0\0\x11\0begin\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0B\0\0\0\x10\0take\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
        let ack = b"B\0\0\0\x18\0ack\0\0\0\0\x01\0\0\0\x05{7,9}\0\0E\0\0\0\x09\0\0\0\0\0B\0\0\0\x12\0commit\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
        let row = |id: &[u8]| framed(b'D', &[b"\0\x02\0\0\0\x01", id, b"\0\0\0\x02ab"].concat());
        let tag = |tag: &str| framed(b'C', &ended(tag));
        let parsed = [&b"1\0\0\0\x04".repeat(5)[..], READY].concat();
        let mut parses = Vec::new();
        for (name, sql) in [
            ("put", "INSERT INTO \"q\" (body) VALUES ($1),($2)"),
            ("begin", "BEGIN"),
            ("take", "SELECT id, body FROM \"q\" ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED"),
            ("ack", "DELETE FROM \"q\" WHERE id = ANY ($1::bigint[])"),
            ("commit", "COMMIT"),
        ] {
            parses.extend_from_slice(&[b"P", &(name.len() as u32 + sql.len() as u32 + 8).to_be_bytes()[..]].concat());
            parses.extend_from_slice(format!("{name}\0{sql}\0\0\0").as_bytes());
        }
        parses.extend_from_slice(b"S\0\0\0\x04");
        let (address, player) = play(vec![
            (hello.to_vec(), [b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0", READY].concat()),
            (parses, parsed),
            (put.to_vec(), [tag("INSERT 0 2"), READY.to_vec()].concat()),
            (take.to_vec(), [tag("BEGIN"), row(b"7"), row(b"9"), tag("SELECT 2"), b"Z\0\0\0\x05T".to_vec()].concat()),
            (ack.to_vec(), [tag("DELETE 2"), tag("COMMIT"), READY.to_vec()].concat()),
            (put.to_vec(), [tag("INSERT 0 1"), READY.to_vec()].concat()),
            (put.to_vec(), [framed(b'E', b"SERROR\0Mdisk full\0\0"), READY.to_vec()].concat()),
        ]);
        run(async {
            let errand = Errand { queue: "q".to_owned(), body: "ab".to_owned(), batch: 2 };
            let mut postgresql = Postgresql::open(address, &errand).await.expect("it listens");
            postgresql.publish().await.expect("it publishes");
            assert_eq!(postgresql.take_and_ack().await.expect("it takes"), 2);
            postgresql.publish().await.expect_err("a row too few");
            let error = postgresql.publish().await.expect_err("a refusal");
            assert!(error.to_string().contains("disk full"), "{error}");
        });
        player.join().expect("the script is played");
    }
}
