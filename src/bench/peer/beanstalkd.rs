//! beanstalkd: a tube of jobs. Publish is put, take is reserve, ack is delete. The protocol knows no batches: the
//! commands of one go out together.

use std::io;
use std::net::SocketAddr;

use crate::bench::peer::wire::{Wire, number, unexpected};
use crate::bench::peer::{Errand, Peer};

/// Seconds in which a job must be deleted.
const RUN_SECONDS: u64 = 120;
const RESERVE: &[u8] = b"reserve-with-timeout 0\r\n";

/// A client.
pub struct Beanstalkd {
    wire: Wire,
    publish: Vec<u8>,
    take: Vec<u8>,
    batch: usize,
}

impl Beanstalkd {
    async fn answer(&mut self, wanted: &[u8]) -> io::Result<()> {
        match self.wire.line().await? {
            line if line == wanted => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The id of a job, or nothing if none is waiting.
    async fn reserved(&mut self) -> io::Result<Option<u64>> {
        let line = self.wire.line().await?;
        if line == b"TIMED_OUT" {
            return Ok(None);
        }
        let told = line.strip_prefix(b"RESERVED ").map(|rest| rest.split(|byte| *byte == b' ').map(number));
        let Some([Some(id), Some(bytes)]) =
            told.and_then(|numbers| <[_; 2]>::try_from(numbers.collect::<Vec<_>>()).ok())
        else {
            return Err(unexpected(line));
        };
        self.wire.exact(bytes as usize + 2).await?;
        Ok(Some(id))
    }
}

impl Peer for Beanstalkd {
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self> {
        let put = format!("put 0 0 {RUN_SECONDS} {}\r\n{}\r\n", errand.body.len(), errand.body);
        let mut beanstalkd = Self {
            wire: Wire::open(address).await?,
            publish: put.as_bytes().repeat(errand.batch),
            take: RESERVE.repeat(errand.batch),
            batch: errand.batch,
        };
        let queue = &errand.queue;
        beanstalkd.wire.send(format!("use {queue}\r\nwatch {queue}\r\n").as_bytes()).await?;
        beanstalkd.answer(format!("USING {queue}").as_bytes()).await?;
        beanstalkd.answer(b"WATCHING 2").await?;
        Ok(beanstalkd)
    }

    async fn prepare(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn publish(&mut self) -> io::Result<()> {
        self.wire.send(&self.publish).await?;
        for _ in 0..self.batch {
            let line = self.wire.line().await?;
            if !line.starts_with(b"INSERTED ") {
                return Err(unexpected(line));
            }
        }
        Ok(())
    }

    async fn begin_taking(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn take_and_ack(&mut self) -> io::Result<u64> {
        self.wire.send(&self.take).await?;
        let mut deletes = String::new();
        let mut taken = 0;
        for _ in 0..self.batch {
            if let Some(id) = self.reserved().await? {
                deletes.push_str(&format!("delete {id}\r\n"));
                taken += 1;
            }
        }
        self.wire.send(deletes.as_bytes()).await?;
        for _ in 0..taken {
            self.answer(b"DELETED").await?;
        }
        Ok(taken)
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
        let put = "put 0 0 120 2\r\nab\r\n";
        let reserve = "reserve-with-timeout 0\r\n".repeat(2);
        let (address, player) = play(vec![
            step("use q\r\nwatch q\r\n", "USING q\r\nWATCHING 2\r\n"),
            step(&put.repeat(2), "INSERTED 1\r\nINSERTED 2\r\n"),
            step(&reserve, "RESERVED 1 2\r\nab\r\nRESERVED 2 2\r\nab\r\n"),
            step("delete 1\r\ndelete 2\r\n", "DELETED\r\nDELETED\r\n"),
            step(&reserve, "RESERVED 3 2\r\nab\r\nTIMED_OUT\r\n"),
            step("delete 3\r\n", "NOT_FOUND\r\n"),
            step(&put.repeat(2), "INSERTED 4\r\nOUT_OF_MEMORY\r\n"),
        ]);
        run(async {
            let errand = Errand { queue: "q".to_owned(), body: "ab".to_owned(), batch: 2 };
            let mut beanstalkd = Beanstalkd::open(address, &errand).await.expect("it listens");
            beanstalkd.prepare().await.expect("nothing to do");
            beanstalkd.publish().await.expect("it publishes");
            assert_eq!(beanstalkd.take_and_ack().await.expect("it takes"), 2);
            let error = beanstalkd.take_and_ack().await.expect_err("a job that is not there");
            assert!(error.to_string().contains("NOT_FOUND"), "{error}");
            let error = beanstalkd.publish().await.expect_err("a refusal among the answers");
            assert!(error.to_string().contains("OUT_OF_MEMORY"), "{error}");
        });
        player.join().expect("the script is played");
    }
}
