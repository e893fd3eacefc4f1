//! A connection to a server that speaks its own protocol: whole requests out, lines or counted bytes in.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const READ_BYTES: usize = 64 << 10;
/// Bytes of one line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A kept connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in it the next answer begins.
    at: usize,
}

impl Wire {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES), at: 0 })
    }

    /// Sends all of it.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next line, without its end (CR LF).
    pub async fn line(&mut self) -> io::Result<&[u8]> {
        let mut looked = 0;
        let length = loop {
            let rest = self.buffer.get(self.at + looked..).unwrap_or_default();
            if let Some(found) = memchr::memmem::find(rest, b"\r\n") {
                break looked + found;
            }
            // The end of what was looked at may be the first half of a line's end.
            looked = (looked + rest.len()).saturating_sub(1);
            if looked > LINE_BYTES_MAX {
                return Err(io::Error::other("an answer whose line does not end"));
            }
            self.read_some().await?;
        };
        let from = self.at;
        self.at += length + 2;
        Ok(self.buffer.get(from..from + length).unwrap_or_default())
    }

    /// The next `count` bytes.
    pub async fn exact(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() < self.at + count {
            self.read_some().await?;
        }
        let from = self.at;
        self.at += count;
        Ok(self.buffer.get(from..from + count).unwrap_or_default())
    }

    /// Waits until something is there to read.
    pub async fn ready(&mut self) -> io::Result<()> {
        match self.at < self.buffer.len() {
            true => Ok(()),
            false => self.read_some().await,
        }
    }

    /// Reads more. What was taken already is forgotten first. May be cancelled without loss.
    async fn read_some(&mut self) -> io::Result<()> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > READ_BYTES {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// An answer that is not the one that was to come.
pub fn unexpected(said: &[u8]) -> io::Error {
    let said: String = String::from_utf8_lossy(said).chars().take(300).collect();
    io::Error::other(format!("the server answered: {said}"))
}

/// A number in decimal digits, with nothing before or behind.
pub fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A server that hears and says exactly what a test tells it.
#[cfg(test)]
pub mod scripted {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread::JoinHandle;

    /// What must be heard, byte for byte, and what is said then.
    pub type Step = (Vec<u8>, Vec<u8>);

    /// Plays the steps to one connection. The thread ends when all were played.
    pub fn play(steps: Vec<Step>) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let player = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            for (number, (hears, says)) in steps.into_iter().enumerate() {
                let mut heard = vec![0; hears.len()];
                stream.read_exact(&mut heard).expect("what the step is to hear");
                let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                assert_eq!(heard, hears, "step {number}: {:?} is not {:?}", shown(&heard), shown(&hears));
                stream.write_all(&says).expect("it hears");
            }
        });
        (address, player)
    }

    /// Runs a client to its end on a runtime of its own.
    pub fn run<T>(client: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client)
    }

    #[test]
    fn lines_and_counts_are_read_whole_however_they_arrive() {
        let says = [b"a\r".to_vec(), b"\nbb\r\n12345".to_vec()];
        let steps = says.into_iter().map(|says| (b"?".to_vec(), says)).collect();
        let (address, player) = play(steps);
        run(async {
            let mut wire = super::Wire::open(address).await.expect("it listens");
            wire.send(b"?").await.expect("it hears");
            wire.ready().await.expect("something to read");
            wire.send(b"?").await.expect("it hears");
            assert_eq!(wire.line().await.expect("a line"), b"a");
            assert_eq!(wire.line().await.expect("a line"), b"bb");
            assert_eq!(wire.exact(5).await.expect("bytes"), b"12345");
            assert!(wire.line().await.is_err(), "the connection has ended");
        });
        player.join().expect("the script is played");
    }
}
