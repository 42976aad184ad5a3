//! The way into and out of an agent's network of its own. A socket belongs to the network that it was
//! made in, whoever uses it: the shim, which is inside, makes sockets and hands them out at its
//! [`Counter`]; the server connects them to the agent, and accepts what the agent connects to.
//!
//! Asking is one datagram with a descriptor that the answer goes to, so the shim keeps no state of who
//! asks and waits for nobody, and a server that adopts an instance asks as the first one did.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
    socketpair,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::files;
use super::running::register;
use super::sandbox::netns::{Network, Way};
use crate::driver::Sockets;
use crate::spec::HostPort;

/// Bytes of the key, before they are written as text.
const KEY_BYTES: usize = 16;
/// Bytes of a question; longer ones are cut and so refused.
const MOST_QUESTION: usize = 64;
/// Questions that are answered before the shim looks at its other duties.
const ROUND: usize = 16;
/// Sockets of one answer.
const BATCH: usize = 4;
/// Descriptors of one answer: more ways out than a specification has.
const MOST_FDS: usize = 128;
/// Time in which the shim must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure to get the listening sockets.
const RETRY: Duration = Duration::from_secs(1);
/// After a failure to accept, which is a lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections out of one instance at once; more wait until one of them ends.
const MOST_CARRIED: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes on their way in each direction of a connection.
const BUFFER: usize = 16 << 10;

/// What is asked for, in one byte behind the key.
const FOR_SOCKETS: u8 = b's';
const FOR_LISTENERS: u8 = b'l';

/// The place in an instance's folder, by a path that is short wherever the folder is; it is good while
/// the folder is held open.
fn place(folder: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = rustix::fs::open(folder, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{}", held.as_raw_fd(), files::NETWORK);
    Ok((held, path.into()))
}

/// Where the shim hands out sockets.
pub(super) struct Counter {
    questions: UnixDatagram,
    key: String,
    listeners: Vec<OwnedFd>,
}

impl Counter {
    /// Opens it in the instance's folder, with a new key.
    pub(super) fn open(folder: &Path, listeners: Vec<OwnedFd>) -> io::Result<Self> {
        let mut random = [0; KEY_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(files::NETWORK_KEY))?
            .write_all(key.as_bytes())?;
        let (_held, path) = place(folder)?;
        let questions = UnixDatagram::bind(path)?;
        questions.set_nonblocking(true)?;
        Ok(Self {
            questions,
            key,
            listeners,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.questions.as_fd()
    }

    /// Answers those who wait, some of them.
    pub(super) fn serve(&self) {
        for _ in 0..ROUND {
            let mut question = [0; MOST_QUESTION];
            let Ok((length, fds)) = receive(self.questions.as_fd(), &mut question, 1) else {
                return;
            };
            let Some(answer) = fds.first() else { continue };
            let Some((&what, key)) = question[..length].split_last() else {
                continue;
            };
            if key != self.key.as_bytes() {
                continue;
            }
            // Whoever gets no answer sees that its end is closed.
            let _ = self.answer(what, answer.as_fd());
        }
    }

    fn answer(&self, what: u8, to: BorrowedFd<'_>) -> io::Result<()> {
        if what == FOR_LISTENERS {
            let all: Vec<_> = self.listeners.iter().map(AsFd::as_fd).collect();
            return send(to, &[what], &all);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = || socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let made = (0..BATCH).map(|_| made()).collect::<Result<Vec<_>, _>>()?;
        send(
            to,
            &[what],
            &made.iter().map(AsFd::as_fd).collect::<Vec<_>>(),
        )
    }
}

/// Sends bytes with descriptors, and waits for nobody.
fn send(to: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

/// Receives what was sent so, when something is there.
fn receive(
    from: BorrowedFd<'_>,
    bytes: &mut [u8],
    most: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some.take(most));
        }
    }
    Ok((got.bytes, fds))
}

/// The network of an instance, as the server uses it.
pub(super) struct Inner {
    folder: PathBuf,
    /// Sockets that were handed out and are not used yet; `None` when the instance has ended.
    spare: Mutex<Option<Vec<OwnedFd>>>,
}

impl Inner {
    /// Asks the shim.
    async fn ask(&self, what: u8) -> io::Result<Vec<OwnedFd>> {
        let folder = self.folder.clone();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let asked = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let mut question = std::fs::read(folder.join(files::NETWORK_KEY))?;
            question.push(what);
            let (_held, path) = place(&folder)?;
            let to = UnixDatagram::unbound()?;
            to.connect(path)?;
            send(to.as_fd(), &question, &[theirs.as_fd()])
        });
        asked.await.map_err(io::Error::other)??;
        let ours = register(ours, Interest::READABLE)?;
        let answered = ours.async_io(Interest::READABLE, |fd| {
            receive(fd.as_fd(), &mut [0], MOST_FDS)
        });
        let (length, fds) = tokio::time::timeout(ANSWER_TIMEOUT, answered)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the shim did not answer"))??;
        match length {
            0 => Err(io::Error::other("the shim gives no sockets")),
            _ => Ok(fds),
        }
    }
}

#[async_trait]
impl Sockets for Inner {
    async fn socket(&self) -> io::Result<TcpSocket> {
        let ended = || io::Error::new(io::ErrorKind::ConnectionRefused, "the instance has ended");
        // Held while the shim is asked: one question at a time brings enough for those who wait.
        let mut spare = self.spare.lock().await;
        let left = spare.as_mut().ok_or_else(ended)?;
        if left.is_empty() {
            left.extend(self.ask(FOR_SOCKETS).await?);
        }
        let socket = left.pop().ok_or_else(ended)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// The server's hold on an instance's network, until it is closed.
pub(super) struct Hold {
    pub(super) inner: Arc<Inner>,
    carrying: AbortHandle,
}

impl Hold {
    /// Takes hold of it, and begins to carry what comes out. Must run in a runtime.
    pub(super) fn take(folder: PathBuf, network: Network) -> Self {
        let inner = Arc::new(Inner {
            folder,
            spare: Mutex::new(Some(Vec::new())),
        });
        let carrying = tokio::spawn(carry_all(inner.clone(), network.ways)).abort_handle();
        Self { inner, carrying }
    }

    /// Lets it go: the network ends when nobody holds a socket of it.
    pub(super) async fn close(&self) {
        self.carrying.abort();
        self.inner.spare.lock().await.take();
    }
}

/// Carries what comes out of an instance's network until it is told to end.
async fn carry_all(inner: Arc<Inner>, ways: Vec<Way>) {
    let listeners = loop {
        match inner.ask(FOR_LISTENERS).await {
            Ok(listeners) => break listeners,
            Err(error) => tracing::warn!(%error, "an agent's ways out cannot be had yet"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let places = Arc::new(Semaphore::new(MOST_CARRIED));
    let mut all = JoinSet::new();
    for (listener, way) in listeners.into_iter().zip(ways) {
        let listener = StdListener::from(listener);
        let ready = listener.set_nonblocking(true);
        match ready.and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => drop(all.spawn(carry(listener, way.to, places.clone()))),
            Err(error) => tracing::error!(%error, to = %way.to, "a way out cannot be opened"),
        }
    }
    while all.join_next().await.is_some() {}
}

/// Carries what comes on one way.
async fn carry(listener: TcpListener, to: HostPort, places: Arc<Semaphore>) {
    let mut carried = JoinSet::new();
    loop {
        while carried.try_join_next().is_some() {}
        // Those for whom there is no place wait in the listening socket's queue.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((inside, _)) => {
                let to = to.clone();
                carried.spawn(async move {
                    if let Err(error) = join(inside, &to).await {
                        tracing::debug!(%error, %to, "a connection of an agent's");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, %to, "nothing is accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Joins a connection of an agent's with where it leads.
async fn join(mut inside: TcpStream, to: &HostPort) -> io::Result<()> {
    let connecting = TcpStream::connect((to.host.as_str(), to.port));
    let mut outside = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    inside.set_nodelay(true)?;
    outside.set_nodelay(true)?;
    // A host that is switched off says no goodbye.
    rustix::net::sockopt::set_socket_keepalive(&outside, true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await?;
    Ok(())
}
