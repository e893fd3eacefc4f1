//! HTTP/1.1 by hand, as much as the generator needs: one request at a time on a kept connection,
//! answers with a content length.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
const READ_BYTES: usize = 64 << 10;

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    /// The answer read last, head and body.
    buffer: Vec<u8>,
    body_at: usize,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES), body_at: 0 })
    }

    /// Where it leads.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Sends a whole request and reads the answer: its status. The body is [`Connection::body`].
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (status, length) = loop {
            self.read_some().await?;
            if let Some(head_end) = find(&self.buffer, b"\r\n\r\n") {
                self.body_at = head_end + 4;
                let head = self.buffer.get(..head_end).unwrap_or_default();
                break read_head(head).ok_or_else(|| io::Error::other("an answer that is not HTTP"))?;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("an answer whose head does not end"));
            }
        };
        while self.buffer.len() < self.body_at + length {
            self.read_some().await?;
        }
        Ok(status)
    }

    /// The body of the answer read last.
    pub fn body(&self) -> &[u8] {
        self.buffer.get(self.body_at..).unwrap_or_default()
    }

    async fn read_some(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

/// Status and content length; no length means no body.
pub fn read_head(head: &[u8]) -> Option<(u16, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            return Some((status, value.trim().parse().ok()?));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some((status, 0))
}

/// The bytes of a request; `headers` has the host.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_chunks_are_refused() {
        assert_eq!(read_head(b"HTTP/1.1 201 Created\r\nContent-Length: 7"), Some((201, 7)));
        assert_eq!(read_head(b"HTTP/1.1 204 No Content\r\ndate: x"), Some((204, 0)));
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"), None);
        assert_eq!(read_head(b"nonsense"), None);
    }
}
