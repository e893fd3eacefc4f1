//! Redis: a stream with one consumer group. Publish is XADD, take is XREADGROUP, ack is XACK. A batch of publishes
//! goes out together (the protocol pipelines), a batch of takes and of acks is one command.
//!
//! An acked message stays in the stream: trimming it, which a user must do some day, is not asked for here.

use std::io;
use std::net::SocketAddr;

use crate::bench::peer::wire::{Wire, number, unexpected};
use crate::bench::peer::{Errand, Peer};

const GROUP: &str = "bench";

/// A client.
pub struct Redis {
    wire: Wire,
    queue: String,
    publish: Vec<u8>,
    take: Vec<u8>,
    batch: usize,
}

/// A command as an array of bulk strings.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Redis {
    /// A line that begins with `mark` and goes on with a number.
    async fn counted(&mut self, mark: u8) -> io::Result<Option<usize>> {
        let line = self.wire.line().await?;
        match line.split_first() {
            Some((first, b"-1")) if *first == mark => Ok(None),
            Some((first, digits)) if *first == mark => match number(digits) {
                Some(count) => Ok(Some(count as usize)),
                None => Err(unexpected(line)),
            },
            _ => Err(unexpected(line)),
        }
    }

    /// An array of exactly this many.
    async fn array_of(&mut self, wanted: usize) -> io::Result<()> {
        match self.counted(b'*').await? {
            Some(count) if count == wanted => Ok(()),
            other => Err(io::Error::other(format!("an array of {other:?} where {wanted} were to come"))),
        }
    }

    /// A bulk string.
    async fn bulk(&mut self) -> io::Result<&[u8]> {
        let count = self.counted(b'$').await?.ok_or_else(|| io::Error::other("nothing where a string was to come"))?;
        let bytes = self.wire.exact(count + 2).await?;
        Ok(bytes.get(..count).unwrap_or_default())
    }

    /// The ids of what was taken; none if nothing is waiting.
    async fn taken(&mut self) -> io::Result<Vec<Vec<u8>>> {
        if self.counted(b'*').await?.is_none() {
            return Ok(Vec::new());
        }
        // One stream: its name and its entries; each entry: its id and its one field.
        self.array_of(2).await?;
        self.bulk().await?;
        let count = self.counted(b'*').await?.unwrap_or(0);
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            self.array_of(2).await?;
            ids.push(self.bulk().await?.to_vec());
            self.array_of(2).await?;
            self.bulk().await?;
            self.bulk().await?;
        }
        Ok(ids)
    }
}

impl Peer for Redis {
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self> {
        let queue = errand.queue.clone();
        let add = command(&[b"XADD", queue.as_bytes(), b"*", b"b", errand.body.as_bytes()]);
        let batch = errand.batch.to_string();
        let take = ["XREADGROUP", "GROUP", GROUP, "one", "COUNT", &batch, "STREAMS", &queue, ">"].map(str::as_bytes);
        Ok(Self {
            wire: Wire::open(address).await?,
            publish: add.repeat(errand.batch),
            take: command(&take),
            batch: errand.batch,
            queue,
        })
    }

    async fn prepare(&mut self) -> io::Result<()> {
        let make = ["XGROUP", "CREATE", &self.queue, GROUP, "0", "MKSTREAM"].map(str::as_bytes);
        self.wire.send(&command(&make)).await?;
        match self.wire.line().await? {
            b"+OK" => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn publish(&mut self) -> io::Result<()> {
        self.wire.send(&self.publish).await?;
        for _ in 0..self.batch {
            self.bulk().await?;
        }
        Ok(())
    }

    async fn begin_taking(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn take_and_ack(&mut self) -> io::Result<u64> {
        self.wire.send(&self.take).await?;
        let ids = self.taken().await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut words: Vec<&[u8]> = vec![b"XACK", self.queue.as_bytes(), GROUP.as_bytes()];
        words.extend(ids.iter().map(Vec::as_slice));
        self.wire.send(&command(&words)).await?;
        match self.counted(b':').await? {
            Some(acked) if acked == ids.len() => Ok(acked as u64),
            other => Err(io::Error::other(format!("{other:?} of {} acks were done", ids.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::wire::scripted::{play, run};

    fn step(hears: &str, says: &str) -> (Vec<u8>, Vec<u8>) {
        (hears.into(), says.into())
    }

    #[test]
    fn a_batch_is_published_taken_and_acked() {
        let add = "*5\r\n$4\r\nXADD\r\n$1\r\nq\r\n$1\r\n*\r\n$1\r\nb\r\n$2\r\nab\r\n";
        let entries =
            "*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nb\r\n$2\r\nab\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nb\r\n$2\r\nab\r\n";
        let take = "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$5\r\nbench\r\n$3\r\none\r\n$5\r\nCOUNT\r\n$1\r\n2\r\n$7\r\nSTREAMS\r\n$1\r\nq\r\n$1\r\n>\r\n";
        let ack = "*5\r\n$4\r\nXACK\r\n$1\r\nq\r\n$5\r\nbench\r\n$3\r\n1-0\r\n$3\r\n2-0\r\n";
        let make = "*6\r\n$6\r\nXGROUP\r\n$6\r\nCREATE\r\n$1\r\nq\r\n$5\r\nbench\r\n$1\r\n0\r\n$8\r\nMKSTREAM\r\n";
        let (address, player) = play(vec![
            step(make, "+OK\r\n"),
            step(&add.repeat(2), "$3\r\n1-0\r\n$3\r\n2-0\r\n"),
            step(take, &format!("*1\r\n*2\r\n$1\r\nq\r\n{entries}")),
            step(ack, ":2\r\n"),
            step(take, "*-1\r\n"),
            step(&add.repeat(2), "$3\r\n3-0\r\n-MISCONF the log cannot be written\r\n"),
            step(take, &format!("*1\r\n*2\r\n$1\r\nq\r\n{entries}")),
            step(ack, ":1\r\n"),
        ]);
        run(async {
            let errand = Errand { queue: "q".to_owned(), body: "ab".to_owned(), batch: 2 };
            let mut redis = Redis::open(address, &errand).await.expect("it listens");
            redis.prepare().await.expect("it makes a stream");
            redis.publish().await.expect("it publishes");
            assert_eq!(redis.take_and_ack().await.expect("it takes"), 2);
            assert_eq!(redis.take_and_ack().await.expect("it takes"), 0);
            let error = redis.publish().await.expect_err("a refusal among the answers");
            assert!(error.to_string().contains("MISCONF"), "{error}");
            redis.take_and_ack().await.expect_err("an ack too few");
        });
        player.join().expect("the script is played");
    }
}
