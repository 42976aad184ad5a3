//! A connection of plain bytes, for what no HTTP client would say.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Server, eventually};

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection with what has been read of it and not looked at yet.
pub struct Wire<T = TcpStream> {
    stream: T,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its status.
    pub status: u16,
    /// Its status line and headers, in lower case.
    pub head: String,
    /// Its body, as text.
    pub body: String,
}

impl Said {
    /// A header's value; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut of_name = lines.filter(|(field, _)| *field == name);
        of_name.next().map_or("", |(_, value)| value)
    }
}

impl Wire {
    /// A connection to a server.
    ///
    /// # Panics
    /// When there is none.
    pub async fn open(server: &Server) -> Self {
        let address = server.address();
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Waits until the other side has read all that was said.
    ///
    /// # Panics
    /// When it does not read.
    pub async fn heard(&self) {
        let of = |address: std::io::Result<SocketAddr>| address.expect("an address").port();
        let (here, there) = (of(self.stream.local_addr()), of(self.stream.peer_addr()));
        eventually("the reading of what was said", async || {
            let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
            let (unsent, _) = waits(&table, here, there)?;
            let (_, unread) = waits(&table, there, here)?;
            (unsent == "00000000" && unread == "00000000").then_some(())
        })
        .await;
    }
}

/// The bytes that wait to be sent and to be read at one end of a connection, as the kernel writes
/// them.
fn waits(table: &str, local: u16, remote: u16) -> Option<(&str, &str)> {
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    let mut lines = table.lines().map(|line| line.split_whitespace());
    lines.find_map(|mut words| {
        let (at, with) = (words.nth(1)?, words.next()?);
        let queues = words.nth(1)?.split_once(':')?;
        (at.ends_with(&local) && with.ends_with(&remote)).then_some(queues)
    })
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// Over any stream.
    pub const fn over(stream: T) -> Self {
        let read = Vec::new();
        Self { stream, read }
    }

    /// The stream itself.
    pub const fn stream(&self) -> &T {
        &self.stream
    }

    /// Sends bytes. The other side may have hung up already: what it said still counts.
    pub async fn say(&mut self, bytes: &[u8]) {
        let _ = self.try_say(bytes).await;
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other side has hung up.
    pub async fn try_say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        // A TLS stream holds on to them otherwise.
        self.stream.flush().await
    }

    /// Reads more; false at the end, be it a good one or not.
    ///
    /// # Panics
    /// When nothing comes and the connection stays open.
    async fn more(&mut self) -> bool {
        let reading = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read));
        let reading = reading.await.expect("neither a byte nor an end came");
        reading.is_ok_and(|count| count > 0)
    }

    /// Everything up to the connection's end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// The next answer of a request that is no HEAD; none when the connection ends instead.
    pub async fn answer(&mut self) -> Option<Said> {
        let mut said = self.head().await?;
        said.body = if said.header("transfer-encoding") == "chunked" {
            self.chunks().await?
        } else {
            let length = said.header("content-length").parse().unwrap_or(0);
            self.take(length).await?
        };
        Some(said)
    }

    /// The head of the next answer.
    ///
    /// # Panics
    /// When what comes is no HTTP.
    pub async fn head(&mut self) -> Option<Said> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 "), "{head}");
        let status = head[9..12].parse().expect("a status");
        let body = String::new();
        Some(Said { status, head, body })
    }

    /// Whether nothing is there to be read now, and the connection is open.
    pub async fn is_quiet(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        let now = tokio::time::timeout(Duration::ZERO, reading).await;
        now.is_err() && self.read.is_empty()
    }

    async fn chunks(&mut self) -> Option<String> {
        let mut body = String::new();
        loop {
            let end = loop {
                if let Some(at) = self.read.windows(2).position(|it| it == b"\r\n") {
                    break at + 2;
                }
                if !self.more().await {
                    return None;
                }
            };
            let line = self.take(end).await?;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
            body.push_str(&self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// The next bytes, so many; none when the connection ends before.
    pub async fn take(&mut self, count: usize) -> Option<String> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        let bytes: Vec<u8> = self.read.drain(..count).collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
