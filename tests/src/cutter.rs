//! A way to a database that breaks at the worst moment: when a commit has been sent and taken, and
//! before its sender hears of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// The end of the protocol's message that commits.
const COMMIT: &[u8] = b"COMMIT\0";
const BUFFER: usize = 64 << 10;

#[derive(Default)]
struct State {
    /// What a transaction carries whose commit is to be cut.
    needle: Option<Vec<u8>>,
    cuts: u32,
}

/// The way, from a port of this machine to the database's socket.
pub struct Cutter {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Cutter {
    /// A way to the database behind this socket; nothing is cut before [`Cutter::cut`].
    ///
    /// # Panics
    /// When no port is free.
    pub async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let of_task = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(database) = UnixStream::connect(&socket).await {
                    tokio::spawn(pass(client, database, of_task.clone()));
                }
            }
        });
        Self { address, state }
    }

    /// How the database is reached this way.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://skep@{}/postgres?sslmode=disable", self.address)
    }

    /// Cuts the commit of the next transaction that carries this.
    pub fn cut(&self, needle: &[u8]) {
        self.state.lock().needle = Some(needle.to_vec());
    }

    /// How many commits were cut.
    #[must_use]
    pub fn cuts(&self) -> u32 {
        self.state.lock().cuts
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

async fn pass(client: TcpStream, database: UnixStream, state: Arc<Mutex<State>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let (mut sent, mut told) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut carries = false;
    loop {
        tokio::select! {
            count = from_client.read(&mut sent) => {
                let Some(count) = count.ok().filter(|count| *count > 0) else { return };
                let bytes = &sent[..count];
                let needle = state.lock().needle.clone();
                carries |= needle.is_some_and(|needle| contains(bytes, &needle));
                if to_database.write_all(bytes).await.is_err() {
                    return;
                }
                let commits = bytes.ends_with(COMMIT);
                if commits && carries {
                    // The database's word that it is done, which nobody gets to hear.
                    let _ = from_database.read(&mut told).await;
                    let mut state = state.lock();
                    state.needle = None;
                    state.cuts += 1;
                    return;
                }
                carries &= !commits;
            }
            count = from_database.read(&mut told) => {
                let Some(count) = count.ok().filter(|count| *count > 0) else { return };
                if to_client.write_all(&told[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
