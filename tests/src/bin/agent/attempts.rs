//! What a hostile agent tries: each answers `done`, with what it got, or `refused`, with why.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Bytes of one file that fills the disk.
const PIECE: usize = 1 << 20;
/// A host that does not answer in this time does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

fn text<'a>(query: &'a str, name: &str) -> &'a str {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find_map(|(key, value)| (key == name).then_some(value))
        .unwrap_or_default()
}

fn number<T: std::str::FromStr>(query: &str, name: &str) -> io::Result<T> {
    text(query, name)
        .parse()
        .map_err(|_| io::Error::other(format!("no {name}")))
}

/// Tries what the path says.
pub(crate) fn attempt(path: &str, query: &str) -> String {
    let file = text(query, "path");
    let result = match path.trim_start_matches("/try/") {
        "read" => fs::read(file).map(|bytes| format!("{} bytes", bytes.len())),
        "list" => fs::read_dir(file).map(|entries| format!("{} entries", entries.count())),
        "write" => fs::write(file, "x").map(|()| String::new()),
        "rename" => {
            let home = std::env::var("HOME").unwrap_or_default();
            rename(Path::new(&home)).map(|()| String::new())
        }
        "connect" => number(query, "port")
            .and_then(|port: u16| connect(text(query, "host"), port))
            .map(|_| String::new()),
        "exchange" => number(query, "port").and_then(|port| exchange(text(query, "host"), port)),
        "sockets" => sockets(file, text(query, "key")),
        "skep" => skep(),
        "multipath" => number(query, "port").and_then(multipath),
        "bind" => number(query, "port")
            .and_then(|port: u16| TcpListener::bind(("127.0.0.1", port)))
            .map(|_| String::new()),
        "datagram" => UdpSocket::bind("127.0.0.1:0").map(|_| String::new()),
        "local" => UnixStream::connect(file).map(|_| String::new()),
        "abstract" => SocketAddr::from_abstract_name(text(query, "name"))
            .and_then(|address| UnixStream::connect_addr(&address))
            .map(|_| String::new()),
        "network" => fs::read_link("/proc/self/ns/net").map(|at| at.display().to_string()),
        "fork" => number(query, "n").and_then(fork),
        "fill" => number(query, "n").and_then(fill),
        "environ" => number(query, "pid").and_then(|pid: i32| {
            fs::read(format!("/proc/{pid}/environ")).map(|bytes| format!("{} bytes", bytes.len()))
        }),
        "memory" => number(query, "pid").and_then(memory),
        "vm" => number(query, "pid").and_then(vm),
        "ptrace" => number(query, "pid").and_then(ptrace),
        "signal" => number(query, "pid").and_then(signal),
        "namespace" => namespace(),
        other => Err(io::Error::other(format!("no attempt {other}"))),
    };
    match result {
        Ok(got) => format!("done {got}"),
        Err(error) => format!("refused {error}"),
    }
}

/// Connects to a host, or to this machine.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let mut addresses = (host, port).to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
}

/// Sends some bytes, and waits for as many.
fn exchange(host: &str, port: u16) -> io::Result<String> {
    let mut stream = connect(host, port)?;
    stream.write_all(b"hello")?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard)?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

/// Asks another instance's shim for sockets of its network, as its server does.
fn sockets(place: &str, key: &str) -> io::Result<String> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let (mut ours, theirs) = UnixStream::pair()?;
    let to = UnixDatagram::unbound()?;
    to.connect(place)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let question = format!("{key}s");
    let bytes = [io::IoSlice::new(question.as_bytes())];
    sendmsg(&to, &bytes, &mut control, SendFlags::empty())?;
    drop(theirs);
    // An end without an answer is a refusal.
    let mut answer = [0];
    ours.read_exact(&mut answer)?;
    Ok(String::new())
}

/// Asks Skep how it is, and tells the first line of its answer.
fn skep() -> io::Result<String> {
    let url = std::env::var("SKEP_URL").map_err(io::Error::other)?;
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    let request =
        format!("GET /api/v1/health/basic HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn rename(home: &Path) -> io::Result<()> {
    fs::create_dir_all(home.join("one"))?;
    fs::create_dir_all(home.join("two"))?;
    fs::write(home.join("one/file"), "x")?;
    fs::rename(home.join("one/file"), home.join("two/file"))
}

/// Starts so many processes, and ends them.
fn fork(count: usize) -> io::Result<String> {
    let mut children: Vec<Child> = Vec::new();
    let mut result = Ok(());
    while children.len() < count && result.is_ok() {
        match Command::new("sleep").arg("60").spawn() {
            Ok(child) => children.push(child),
            Err(error) => result = Err(error),
        }
    }
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    result.map(|()| format!("{} processes", children.len()))
}

/// Writes so many files.
fn fill(count: usize) -> io::Result<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    for index in 0..count {
        let mut file = File::create(Path::new(&home).join(format!("fill-{index}")))?;
        file.write_all(&vec![b'x'; PIECE])?;
    }
    Ok(format!("{count} files"))
}

/// The first readable place of a process's memory.
fn place(pid: i32) -> io::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let start = maps.split('-').next().unwrap_or_default();
    u64::from_str_radix(start, 16).map_err(io::Error::other)
}

fn memory(pid: i32) -> io::Result<String> {
    let mut file = File::open(format!("/proc/{pid}/mem"))?;
    file.seek(SeekFrom::Start(place(pid)?))?;
    let mut bytes = [0; 16];
    file.read_exact(&mut bytes)?;
    Ok(format!("{bytes:?}"))
}

fn checked(result: i64) -> io::Result<String> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        got => Ok(got.to_string()),
    }
}

#[expect(unsafe_code, reason = "an attack")]
fn vm(pid: i32) -> io::Result<String> {
    let at = place(pid).unwrap_or(0x1000);
    let mut bytes = [0_u8; 16];
    let here = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let there = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(usize::try_from(at).unwrap_or(0)),
        iov_len: bytes.len(),
    };
    // SAFETY: `here` is our own buffer; `there` is looked at in the other process only.
    let read = unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
    checked(i64::try_from(read).unwrap_or(-1))
}

/// The thread that attaches ends at once: whoever it holds goes on.
#[expect(unsafe_code, reason = "an attack")]
fn ptrace(pid: i32) -> io::Result<String> {
    let attach = move || {
        let nothing = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: no memory of ours is handed over.
        checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) })
    };
    let ended = std::thread::spawn(attach).join();
    ended.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

#[expect(unsafe_code, reason = "an attack")]
fn signal(pid: i32) -> io::Result<String> {
    // SAFETY: the signal 0 only asks.
    checked(unsafe { libc::kill(pid, 0) }.into())
}

#[expect(unsafe_code, reason = "an attack")]
fn namespace() -> io::Result<String> {
    // SAFETY: hosts' names are of no interest to this program.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUTS) }.into())
}

/// Connects by multipath TCP, which is no TCP to Landlock.
#[expect(unsafe_code, reason = "an attack")]
fn multipath(port: u16) -> io::Result<String> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: a new descriptor is ours.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the address lives as long as the call, and this is its length.
    let connected = unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        libc::connect(fd, (&raw const address).cast(), length)
    };
    checked(connected.into())
}
