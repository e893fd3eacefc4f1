//! RabbitMQ over AMQP 0.9.1: a quorum queue. Publishes are persistent and confirmed; those of a batch go out together.
//! A take is what the server pushes to a consumer with a prefetch; an ack covers all up to the last one of the batch
//! and, as the protocol has it, is not answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bench::peer::wire::{Wire, unexpected};
use crate::bench::peer::{Errand, Peer};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// Bytes of a frame that both sides agree on.
const FRAME_MAX: u32 = 128 << 10;
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Of a message's header: only the delivery mode is told.
const DELIVERY_MODE: u16 = 0x1000;
const PERSISTENT: u8 = 2;
/// Deliveries on the way to a consumer, beside the batch it works on.
const PREFETCH_MIN: u16 = 16;
/// How long nothing more must come until the backlog counts as gone.
const QUIET: Duration = Duration::from_millis(300);

/// Class and method.
type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);
const QOS: Method = (60, 10);
const QOS_OK: Method = (60, 11);
const CONSUME: Method = (60, 20);
const CONSUME_OK: Method = (60, 21);
const PUBLISH: Method = (60, 40);
const DELIVER: Method = (60, 60);
const ACK: Method = (60, 80);
const CONFIRM: Method = (85, 10);
const CONFIRM_OK: Method = (85, 11);

/// A client.
pub struct Rabbitmq {
    wire: Wire,
    queue: String,
    publish: Vec<u8>,
    batch: usize,
    body_bytes: usize,
    /// Publishes sent and confirmed on this channel: tags count from 1.
    sent: u64,
    confirmed: u64,
}

/// A frame as it came.
struct Frame {
    kind: u8,
    body: Vec<u8>,
}

fn frame(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&[kind], &channel.to_be_bytes()[..], &length.to_be_bytes(), body, &[FRAME_END]].concat()
}

fn method(channel: u16, (class, method): Method, arguments: &[&[u8]]) -> Vec<u8> {
    let body = [&class.to_be_bytes()[..], &method.to_be_bytes(), &arguments.concat()].concat();
    frame(METHOD, channel, &body)
}

/// A short string: at most 255 bytes.
fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap_or(u8::MAX)], text.as_bytes()].concat()
}

fn long(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()[..], text.as_bytes()].concat()
}

/// One message: method, header, body.
fn publish(queue: &str, body: &str) -> Vec<u8> {
    let bytes = (body.len() as u64).to_be_bytes();
    let header = [&60_u16.to_be_bytes()[..], &[0, 0], &bytes, &DELIVERY_MODE.to_be_bytes(), &[PERSISTENT]].concat();
    [
        method(1, PUBLISH, &[&[0, 0], &short(""), &short(queue), &[0]]),
        frame(HEADER, 1, &header),
        frame(BODY, 1, body.as_bytes()),
    ]
    .concat()
}

impl Frame {
    /// Its arguments, if it is this method.
    fn of(&self, (class, method): Method) -> Option<&[u8]> {
        let named = [class.to_be_bytes(), method.to_be_bytes()].concat();
        if self.kind == METHOD { self.body.strip_prefix(named.as_slice()) } else { None }
    }

    fn refused(&self) -> io::Error {
        unexpected(&[format!("frame of kind {}: ", self.kind).as_bytes(), &self.body].concat())
    }
}

/// The number of a delivery or a confirmation, at `at`.
fn tag(arguments: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(arguments.get(at..at + 8)?.try_into().ok()?))
}

impl Rabbitmq {
    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let head: [u8; 7] = self.wire.exact(7).await?.try_into().unwrap_or_default();
            let [kind, _, _, length @ ..] = head;
            let length = u32::from_be_bytes(length) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(unexpected(&head));
            }
            let bytes = self.wire.exact(length + 1).await?;
            let (body, end) = bytes.split_at(length);
            if end != [FRAME_END] {
                return Err(io::Error::other("a frame without its end"));
            }
            if kind != HEARTBEAT {
                return Ok(Frame { kind, body: body.to_vec() });
            }
        }
    }

    /// Waits for a method.
    async fn hear(&mut self, wanted: Method) -> io::Result<()> {
        let frame = self.frame().await?;
        frame.of(wanted).map(|_| ()).ok_or_else(|| frame.refused())
    }

    async fn ask(&mut self, asked: Method, arguments: &[&[u8]], wanted: Method) -> io::Result<()> {
        self.wire.send(&method(1, asked, arguments)).await?;
        self.hear(wanted).await
    }

    /// The next delivery's tag; its header and body are read as well.
    async fn delivery(&mut self) -> io::Result<u64> {
        let frame = self.frame().await?;
        let arguments = frame.of(DELIVER).ok_or_else(|| frame.refused())?;
        // Behind the consumer's tag, a short string.
        let at = 1 + usize::from(arguments.first().copied().unwrap_or(0));
        let tag = tag(arguments, at).ok_or_else(|| frame.refused())?;
        let header = self.frame().await?;
        if header.kind != HEADER {
            return Err(header.refused());
        }
        let mut missing = self.body_bytes;
        while missing > 0 {
            let body = self.frame().await?;
            if body.kind != BODY || body.body.len() > missing {
                return Err(body.refused());
            }
            missing -= body.body.len();
        }
        Ok(tag)
    }
}

impl Peer for Rabbitmq {
    async fn open(address: SocketAddr, errand: &Errand) -> io::Result<Self> {
        let mut rabbitmq = Self {
            wire: Wire::open(address).await?,
            queue: errand.queue.clone(),
            publish: publish(&errand.queue, &errand.body).repeat(errand.batch),
            batch: errand.batch,
            body_bytes: errand.body.len(),
            sent: 0,
            confirmed: 0,
        };
        rabbitmq.wire.send(b"AMQP\0\0\x09\x01").await?;
        rabbitmq.hear(START).await?;
        let who = [&[0; 4][..], &short("PLAIN"), &long("\0guest\0guest"), &short("en_US")];
        rabbitmq.wire.send(&method(0, START_OK, &who)).await?;
        rabbitmq.hear(TUNE).await?;
        let tuned: [&[u8]; 3] = [&1_u16.to_be_bytes(), &FRAME_MAX.to_be_bytes(), &[0, 0]];
        let open = method(0, OPEN, &[&short("/"), &short(""), &[0]]);
        rabbitmq.wire.send(&[method(0, TUNE_OK, &tuned), open].concat()).await?;
        rabbitmq.hear(OPEN_OK).await?;
        rabbitmq.ask(CHANNEL_OPEN, &[&short("")], CHANNEL_OPEN_OK).await?;
        rabbitmq.ask(CONFIRM, &[&[0]], CONFIRM_OK).await?;
        Ok(rabbitmq)
    }

    async fn prepare(&mut self) -> io::Result<()> {
        let durable = 0b10;
        let entry = [short("x-queue-type"), b"S".to_vec(), long("quorum")].concat();
        let table = [&u32::try_from(entry.len()).unwrap_or(0).to_be_bytes()[..], &entry].concat();
        let queue = short(&self.queue);
        self.ask(DECLARE, &[&[0, 0], &queue, &[durable], &table], DECLARE_OK).await
    }

    async fn publish(&mut self) -> io::Result<()> {
        self.wire.send(&self.publish).await?;
        self.sent += self.batch as u64;
        while self.confirmed < self.sent {
            let frame = self.frame().await?;
            // A nack is a refusal, too.
            let arguments = frame.of(ACK).ok_or_else(|| frame.refused())?;
            let tag = tag(arguments, 0).ok_or_else(|| frame.refused())?;
            match arguments.get(8) {
                // All up to this one.
                Some(1) => self.confirmed = self.confirmed.max(tag),
                _ => self.confirmed += 1,
            }
        }
        Ok(())
    }

    async fn begin_taking(&mut self) -> io::Result<()> {
        let prefetch = u16::try_from(self.batch * 2).unwrap_or(u16::MAX).max(PREFETCH_MIN);
        self.ask(QOS, &[&[0; 4], &prefetch.to_be_bytes(), &[0]], QOS_OK).await?;
        let queue = short(&self.queue);
        self.ask(CONSUME, &[&[0, 0], &queue, &short(""), &[0], &[0; 4]], CONSUME_OK).await
    }

    async fn take_and_ack(&mut self) -> io::Result<u64> {
        let (mut taken, mut last) = (0, 0);
        while taken < self.batch as u64 {
            match tokio::time::timeout(QUIET, self.wire.ready()).await {
                Ok(more) => more?,
                Err(_) => break,
            }
            last = self.delivery().await?;
            taken += 1;
        }
        if taken > 0 {
            self.wire.send(&method(1, ACK, &[&last.to_be_bytes(), &[1]])).await?;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peer::wire::scripted::{play, run};

    fn delivered(tag: u8) -> Vec<u8> {
        let deliver = [&b"\x01\0\x01\0\0\0\x13\0\x3c\0\x3c\x02ct\0\0\0\0\0\0\0"[..], &[tag], b"\0\0\x01q\xce"].concat();
        let header = b"\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x02\x10\0\x02\xce".to_vec();
        [deliver, header, b"\x03\0\x01\0\0\0\x02ab\xce".to_vec()].concat()
    }

    #[test]
    fn a_batch_is_published_taken_and_acked() {
        let put = [
            &b"\x01\0\x01\0\0\0\x0a\0\x3c\0\x28\0\0\0\x01q\0\xce"[..],
            b"\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x02\x10\0\x02\xce",
            b"\x03\0\x01\0\0\0\x02ab\xce",
        ];
        let put = put.concat().repeat(2);
        let start_ok = b"\x01\0\0\0\0\0\x24\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US\xce";
        let tune_ok =
            b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1f\0\x01\0\x02\0\0\0\0\xce\x01\0\0\0\0\0\x08\0\x0a\0\x28\x01/\0\0\xce";
        let declare = b"\x01\0\x01\0\0\0\x25\0\x32\0\x0a\0\0\x01q\x02\0\0\0\x18\x0cx-queue-typeS\0\0\0\x06quorum\xce";
        let qos = b"\x01\0\x01\0\0\0\x0b\0\x3c\0\x0a\0\0\0\0\0\x10\0\xce";
        let consume = b"\x01\0\x01\0\0\0\x0e\0\x3c\0\x14\0\0\x01q\0\0\0\0\0\0\xce";
        let (address, player) = play(vec![
            (b"AMQP\0\0\x09\x01".to_vec(), method(0, START, &[b"whatever"])),
            (start_ok.to_vec(), [frame(HEARTBEAT, 0, b""), method(0, TUNE, &[&[0; 8]])].concat()),
            (tune_ok.to_vec(), method(0, OPEN_OK, &[&[0]])),
            (b"\x01\0\x01\0\0\0\x05\0\x14\0\x0a\0\xce".to_vec(), method(1, CHANNEL_OPEN_OK, &[&[0; 4]])),
            (b"\x01\0\x01\0\0\0\x05\0\x55\0\x0a\0\xce".to_vec(), method(1, CONFIRM_OK, &[])),
            (declare.to_vec(), method(1, DECLARE_OK, &[])),
            (put.clone(), b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x02\x01\xce".to_vec()),
            (qos.to_vec(), method(1, QOS_OK, &[])),
            (consume.to_vec(), [method(1, CONSUME_OK, &[]), delivered(1), delivered(2)].concat()),
            (b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x02\x01\xce".to_vec(), Vec::new()),
            (put, b"\x01\0\x01\0\0\0\x0e\0\x3c\0\x78\0\0\0\0\0\0\0\x03\0\0\xce".to_vec()),
        ]);
        run(async {
            let errand = Errand { queue: "q".to_owned(), body: "ab".to_owned(), batch: 2 };
            let mut rabbitmq = Rabbitmq::open(address, &errand).await.expect("it listens");
            rabbitmq.prepare().await.expect("it makes a queue");
            rabbitmq.publish().await.expect("it publishes");
            rabbitmq.begin_taking().await.expect("it consumes");
            assert_eq!(rabbitmq.take_and_ack().await.expect("it takes"), 2);
            assert_eq!(rabbitmq.take_and_ack().await.expect("nothing comes"), 0);
            rabbitmq.publish().await.expect_err("a nack");
        });
        player.join().expect("the script is played");
    }
}
