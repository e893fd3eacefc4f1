//! NATS JetStream: a work-queue stream of one subject, and a pull consumer with explicit acks. Publishes and acks are
//! requests, whose answers are waited for; those of a batch go out together, a batch of takes is one request.

use std::io;
use std::net::SocketAddr;

use crate::bench::connection::find;
use crate::bench::peer::wire::{Wire, number, unexpected};
use crate::bench::peer::{Errand, Peer};
use crate::bench::server::random_name;

const GROUP: &str = "workers";
const HELLO: &str = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"bench","version":"0","protocol":1}"#;
/// How long a take waits for messages before it is told that there are none.
const EXPIRES_NANOS: u64 = 500_000_000;

/// A client.
pub struct Nats {
    wire: Wire,
    queue: String,
    inbox: String,
    publish: Vec<u8>,
    take: Vec<u8>,
    batch: usize,
}

/// What came for the inbox.
struct Message {
    /// Where its ack goes; empty for plain answers.
    reply: String,
    /// From the headers: the status, if there is one.
    status: Option<u64>,
    body: Vec<u8>,
}

fn request(subject: &str, inbox: &str, body: &str) -> String {
    format!("PUB {subject} {inbox} {}\r\n{body}\r\n", body.len())
}

impl Nats {
    async fn with_inbox(address: SocketAddr, errand: &Errand, inbox: String) -> io::Result<Self> {
        let queue = errand.queue.clone();
        let publish = request(&queue, &inbox, &errand.body).repeat(errand.batch).into_bytes();
        let asked = format!("{{\"batch\":{},\"expires\":{EXPIRES_NANOS}}}", errand.batch);
        let take = request(&format!("$JS.API.CONSUMER.MSG.NEXT.{queue}.{GROUP}"), &inbox, &asked).into_bytes();
        let mut nats = Self { wire: Wire::open(address).await?, queue, inbox, publish, take, batch: errand.batch };
        let line = nats.wire.line().await?;
        if !line.starts_with(b"INFO ") {
            return Err(unexpected(line));
        }
        nats.wire.send(format!("{HELLO}\r\nSUB {} 1\r\nPING\r\n", nats.inbox).as_bytes()).await?;
        match nats.said().await?.as_slice() {
            b"PONG" => Ok(nats),
            other => Err(unexpected(other)),
        }
    }

    /// The next line that is not the server's news of itself or its ping, which is answered.
    async fn said(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let line = self.wire.line().await?.to_vec();
            match line.as_slice() {
                b"PING" => self.wire.send(b"PONG\r\n").await?,
                news if news.starts_with(b"INFO ") => {}
                _ => return Ok(line),
            }
        }
    }

    /// The next message.
    async fn message(&mut self) -> io::Result<Message> {
        let line = self.said().await?;
        let mut words = line.split(|byte| *byte == b' ');
        let with_headers = match words.next() {
            Some(b"MSG") => false,
            Some(b"HMSG") => true,
            _ => return Err(unexpected(&line)),
        };
        // The subject, the subscription, perhaps where to answer, the lengths.
        let words: Vec<&[u8]> = words.skip(2).collect();
        let lengths = if with_headers { 2 } else { 1 };
        let wrong = || unexpected(&line);
        let (reply, lengths) = words.split_at_checked(words.len().wrapping_sub(lengths)).ok_or_else(wrong)?;
        let reply = reply.first().map(|reply| String::from_utf8_lossy(reply).into_owned()).unwrap_or_default();
        let count = |at: usize| lengths.get(at).and_then(|digits| number(digits)).ok_or_else(wrong);
        let (head, all) = if with_headers { (count(0)?, count(1)?) } else { (0, count(0)?) };
        let bytes = self.wire.exact(all as usize + 2).await?;
        let (head, rest) = bytes.split_at_checked(head as usize).ok_or_else(wrong)?;
        let status = head.strip_prefix(b"NATS/1.0 ").and_then(|rest| number(rest.get(..3)?));
        let body = rest.strip_suffix(b"\r\n").unwrap_or_default().to_vec();
        Ok(Message { reply, status, body })
    }

    /// An answer in JSON that reports no error.
    async fn agreed(&mut self) -> io::Result<()> {
        let message = self.message().await?;
        match message.status.is_some() || !message.body.starts_with(b"{") || find(&message.body, b"\"error\"").is_some()
        {
            true => Err(unexpected(&[message.status.unwrap_or(0).to_string().as_bytes(), &message.body].concat())),
            false => Ok(()),
        }
    }

    async fn ask(&mut self, subject: &str, body: &str) -> io::Result<()> {
        self.wire.send(request(subject, &self.inbox, body).as_bytes()).await?;
        self.agreed().await
    }
}

impl Peer for Nats {
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self> {
        Self::with_inbox(address, errand, random_name("_INBOX.bench")?).await
    }

    async fn prepare(&mut self) -> io::Result<()> {
        let queue = self.queue.clone();
        let stream = format!(
            r#"{{"name":"{queue}","subjects":["{queue}"],"retention":"workqueue","storage":"file","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"num_replicas":1}}"#
        );
        self.ask(&format!("$JS.API.STREAM.CREATE.{queue}"), &stream).await?;
        let consumer = format!(
            r#"{{"stream_name":"{queue}","config":{{"durable_name":"{GROUP}","ack_policy":"explicit","ack_wait":120000000000,"deliver_policy":"all","max_ack_pending":100000,"max_deliver":-1}}}}"#
        );
        self.ask(&format!("$JS.API.CONSUMER.DURABLE.CREATE.{queue}.{GROUP}"), &consumer).await
    }

    async fn publish(&mut self) -> io::Result<()> {
        self.wire.send(&self.publish).await?;
        for _ in 0..self.batch {
            self.agreed().await?;
        }
        Ok(())
    }

    async fn begin_taking(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn take_and_ack(&mut self) -> io::Result<u64> {
        self.wire.send(&self.take).await?;
        let (mut acks, mut taken) = (String::new(), 0);
        while taken < self.batch as u64 {
            let message = self.message().await?;
            match message.status {
                None => {
                    acks.push_str(&request(&message.reply, &self.inbox, "+ACK"));
                    taken += 1;
                }
                // No messages; no more of them before the end of the wait.
                Some(404 | 408) => break,
                Some(status) => return Err(unexpected(format!("status {status}").as_bytes())),
            }
        }
        self.wire.send(acks.as_bytes()).await?;
        for _ in 0..taken {
            let answer = self.message().await?;
            if answer.status.is_some() || !answer.body.is_empty() {
                return Err(unexpected(&answer.body));
            }
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
        let hello = format!("{HELLO}\r\nSUB i 1\r\nPING\r\n");
        let put = "PUB q i 2\r\nab\r\n".repeat(2);
        let take = "PUB $JS.API.CONSUMER.MSG.NEXT.q.workers i 31\r\n{\"batch\":2,\"expires\":500000000}\r\n";
        let stored = "MSG i 1 13\r\n{\"seq\":00001}\r\n";
        let acks = "PUB $JS.ACK.1 i 4\r\n+ACK\r\nPUB $JS.ACK.2 i 4\r\n+ACK\r\n";
        let (address, player) = play(vec![
            step("", "INFO {}\r\n"),
            step(&hello, "INFO {}\r\nPONG\r\n"),
            step(&put, &format!("{stored}PING\r\n{stored}")),
            step("PONG\r\n", ""),
            step(take, "MSG i 1 $JS.ACK.1 2\r\nab\r\nHMSG i 1 $JS.ACK.2 10 12\r\nNATS/1.0\r\nab\r\n"),
            step(acks, "MSG i 1 0\r\n\r\nMSG i 1 0\r\n\r\n"),
            step(take, "HMSG i 1 28 28\r\nNATS/1.0 404 No Messages\r\n\r\n\r\n"),
            step(&put, &format!("{stored}MSG i 1 22\r\n{{\"error\":{{\"code\":503}}}}\r\n")),
            step(take, "HMSG i 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"),
        ]);
        run(async {
            let errand = Errand { queue: "q".to_owned(), body: "ab".to_owned(), batch: 2 };
            let mut nats = Nats::with_inbox(address, &errand, "i".to_owned()).await.expect("it listens");
            nats.publish().await.expect("it publishes");
            assert_eq!(nats.take_and_ack().await.expect("it takes"), 2);
            assert_eq!(nats.take_and_ack().await.expect("it takes"), 0);
            let error = nats.publish().await.expect_err("a refusal among the answers");
            assert!(error.to_string().contains("503"), "{error}");
            nats.take_and_ack().await.expect_err("nobody is there to answer");
        });
        player.join().expect("the script is played");
    }
}
