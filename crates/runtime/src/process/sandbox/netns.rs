//! A network of an agent's own: a namespace in which there is nothing but loopback. The shim enters
//! it before it starts the agent, so that whatever socket either of them makes stands there.
//!
//! Two things lead out and in. Where the agent may connect to ([`Way`]) the shim listens inside, and
//! the server accepts there and carries what comes to where it leads. Sockets for the way in are made
//! here and handed to the server, which then connects by itself. See `process/network.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::spec::HostPort;

/// The instance's file of names.
pub(super) const HOSTS: &str = "hosts";
/// Loopback, which is the first interface of every network.
const LOOPBACK: &[u8] = b"lo";
const LOOPBACK_INDEX: libc::c_int = 1;
/// Where the first named host is found inside; each has an address of its own.
const NAMED: [u8; 3] = [127, 99, 0];
/// Named hosts of one agent; specifications hold fewer.
const MOST_NAMES: usize = 250;

/// A way out of an agent's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    /// Where the agent finds it.
    pub(crate) at: SocketAddr,
    /// Where it leads.
    pub(crate) to: HostPort,
}

/// What is written down of a network of an agent's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Network {
    /// In the order of the shim's listening sockets.
    pub(crate) ways: Vec<Way>,
    /// Whether a user namespace goes with it.
    pub(crate) user: bool,
}

/// A network that this process has entered.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) network: Network,
    pub(crate) listeners: Vec<OwnedFd>,
}

/// Where these hosts are found in an agent's network: an address is itself, a name has an address of
/// loopback of its own.
pub(crate) fn ways(hosts: impl IntoIterator<Item = HostPort>) -> Vec<Way> {
    let hosts: BTreeSet<HostPort> = hosts.into_iter().collect();
    let names: BTreeSet<&str> = hosts.iter().filter_map(name).collect();
    let place = |host: &HostPort| -> Option<IpAddr> {
        if let Some(address) = host.address() {
            return Some(address);
        }
        let Some(name) = name(host) else {
            return Some(Ipv4Addr::LOCALHOST.into());
        };
        let index = names.iter().take(MOST_NAMES).position(|it| *it == name)?;
        let [a, b, c] = NAMED;
        Some(Ipv4Addr::new(a, b, c, u8::try_from(index + 1).ok()?).into())
    };
    let mut ways: Vec<Way> = Vec::new();
    for to in &hosts {
        let Some(at) = place(to).map(|address| SocketAddr::new(address, to.port)) else {
            continue;
        };
        // `localhost` and its address are one.
        if !ways.iter().any(|way| way.at == at) {
            let to = to.clone();
            ways.push(Way { at, to });
        }
    }
    ways
}

/// The name of a host that is to be found by it.
fn name(host: &HostPort) -> Option<&str> {
    (host.address().is_none() && host.host != "localhost").then_some(host.host.as_str())
}

/// The file of names for an agent with these ways; none when there is no name.
fn names(ways: &[Way]) -> Option<String> {
    let named: BTreeSet<(IpAddr, &str)> = ways
        .iter()
        .filter_map(|way| Some((way.at.ip(), name(&way.to)?)))
        .collect();
    if named.is_empty() {
        return None;
    }
    let own = rustix::system::uname();
    let own = own.nodename().to_string_lossy().into_owned();
    let mut text = format!("127.0.0.1 localhost {own}\n::1 localhost ip6-localhost ip6-loopback\n");
    for (address, name) in named {
        text.push_str(&format!("{address} {name}\n"));
    }
    Some(text)
}

/// What makes this user itself in a user namespace of its own.
struct Maps {
    user: String,
    group: String,
}

impl Maps {
    /// `None` when none is needed: this process may make networks as it is.
    fn needed() -> Option<Self> {
        let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        let has =
            rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
        let itself = |id: u32| format!("{id} {id} 1");
        (!has).then(|| Self {
            user: itself(rustix::process::geteuid().as_raw()),
            group: itself(rustix::process::getegid().as_raw()),
        })
    }
}

/// Enters a network of its own. Only system calls: it runs between fork and exec, too.
fn leave(maps: Option<&Maps>) -> io::Result<()> {
    let mut flags = UnshareFlags::NEWNET;
    if maps.is_some() {
        flags |= UnshareFlags::NEWUSER;
    }
    #[expect(unsafe_code, reason = "the only way to unshare")]
    // SAFETY: descriptors are not unshared, so none of them is lost.
    unsafe {
        rustix::thread::unshare_unsafe(flags)?;
    }
    if let Some(maps) = maps {
        let tell = |path: &std::ffi::CStr, text: &str| -> io::Result<()> {
            let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text.as_bytes())?;
            Ok(())
        };
        tell(c"/proc/self/setgroups", "deny")?;
        tell(c"/proc/self/uid_map", &maps.user)?;
        tell(c"/proc/self/gid_map", &maps.group)?;
    }
    let socket = socket(AddressFamily::INET)?;
    bring_up(socket.as_fd())
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family,
        SocketType::DGRAM,
        flags,
        None,
    )?)
}

/// A request about loopback.
fn about_loopback() -> libc::ifreq {
    #[expect(unsafe_code, reason = "a C structure")]
    // SAFETY: all of it is numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(LOOPBACK) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request
}

fn ask<T>(socket: BorrowedFd<'_>, what: libc::Ioctl, request: &T) -> io::Result<()> {
    #[expect(unsafe_code, reason = "interfaces are set by ioctl")]
    // SAFETY: the descriptor is open, and each request is handed the structure that it reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_ref(request)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn bring_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = about_loopback();
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    ask(socket, libc::SIOCSIFFLAGS as libc::Ioctl, &request)
}

/// Makes an address of elsewhere one of loopback's. `number` tells those of version 4 apart.
fn add(address: IpAddr, number: usize) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => {
            let socket = socket(AddressFamily::INET)?;
            let mut request = about_loopback();
            let label = format!("lo:{number}");
            for (to, from) in request.ifr_name.iter_mut().zip(label.bytes()) {
                *to = libc::c_char::from_ne_bytes([from]);
            }
            let mut set = |what: libc::Ioctl, address: Ipv4Addr| {
                request.ifr_ifru.ifru_addr = v4(address);
                ask(socket.as_fd(), what, &request)
            };
            set(libc::SIOCSIFADDR as libc::Ioctl, address)?;
            set(libc::SIOCSIFNETMASK as libc::Ioctl, Ipv4Addr::BROADCAST)
        }
        IpAddr::V6(address) => {
            let request = libc::in6_ifreq {
                ifr6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                ifr6_prefixlen: 128,
                ifr6_ifindex: LOOPBACK_INDEX,
            };
            let socket = socket(AddressFamily::INET6)?;
            ask(socket.as_fd(), libc::SIOCSIFADDR as libc::Ioctl, &request)
        }
    }
}

fn v4(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0_u8; 14];
    // The port comes first.
    data[2..6].copy_from_slice(&address.octets());
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data.map(|byte| libc::c_char::from_ne_bytes([byte])),
    }
}

/// Enters a network with these ways out. `folder` is the instance's.
pub(super) fn enter(folder: &Path, ways: &[Way]) -> Result<Entered, String> {
    let maps = Maps::needed();
    leave(maps.as_ref()).map_err(|error| why(maps.is_some(), &error))?;
    let made = || -> io::Result<Vec<OwnedFd>> {
        let elsewhere: BTreeSet<IpAddr> = ways.iter().map(|way| way.at.ip()).collect();
        for (number, address) in elsewhere.into_iter().enumerate() {
            if !address.is_loopback() {
                add(address, number)?;
            }
        }
        if let Some(names) = names(ways) {
            fs::write(folder.join(HOSTS), names)?;
        }
        let listen = |way: &Way| TcpListener::bind(way.at).map(OwnedFd::from);
        ways.iter().map(listen).collect()
    };
    Ok(Entered {
        listeners: made().map_err(|error| format!("the ways out of its network: {error}"))?,
        network: Network {
            ways: ways.to_vec(),
            user: maps.is_some(),
        },
    })
}

/// Enters the network that another process is in.
pub(super) fn join(process: BorrowedFd<'_>, network: &Network) -> io::Result<()> {
    let mut kinds = ThreadNameSpaceType::NETWORK;
    if network.user {
        kinds |= ThreadNameSpaceType::USER;
    }
    Ok(rustix::thread::move_into_thread_name_spaces(
        process, kinds,
    )?)
}

/// Whether a network of its own can be had here: by trying it in a process that ends at once.
pub(super) fn attempt() -> Result<(), String> {
    // No error that any of these calls has.
    const WORKED: i32 = libc::EOWNERDEAD;
    let maps = Maps::needed();
    let user = maps.is_some();
    let mut command = Command::new("/");
    #[expect(unsafe_code, reason = "it is tried between fork and exec")]
    // SAFETY: only system calls run there, on memory that was prepared before.
    unsafe {
        command.pre_exec(move || {
            leave(maps.as_ref())?;
            Err(io::Error::from_raw_os_error(WORKED))
        });
    }
    match command.status() {
        Err(error) if error.raw_os_error() == Some(WORKED) => Ok(()),
        Err(error) => Err(why(user, &error)),
        Ok(_) => Err("it could not be tried".to_owned()),
    }
}

/// Why there is none, and what to do.
fn why(user: bool, error: &io::Error) -> String {
    let is =
        |path: &str, wanted: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == wanted);
    let settings = [
        ("/proc/sys/user/max_net_namespaces", "0", false),
        ("/proc/sys/user/max_user_namespaces", "0", true),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", true),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            true,
        ),
    ];
    let found = settings
        .iter()
        .find(|(path, value, of_users)| (user || !of_users) && is(path, value));
    match found {
        Some((path, value, of_users)) => {
            let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
            let other = match of_users {
                true => ", or give the server CAP_SYS_ADMIN and CAP_NET_ADMIN",
                false => "",
            };
            format!("{name} is {value} ({error}): change it{other}")
        }
        None if user => format!(
            "no user namespace with a network can be made here ({error}): allow that, or give the \
             server CAP_SYS_ADMIN and CAP_NET_ADMIN"
        ),
        None => format!("no network namespace can be made here: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(hosts: &[&str]) -> Vec<(String, String)> {
        let hosts = hosts.iter().filter_map(|host| HostPort::parse(host));
        let ways = ways(hosts);
        ways.iter()
            .map(|way| (way.at.to_string(), way.to.to_string()))
            .collect()
    }

    #[test]
    fn names_have_addresses_of_their_own_and_addresses_are_themselves() {
        let pairs = found(&[
            "b.example:443",
            "a.example:443",
            "a.example:80",
            "10.0.0.5:5432",
            "localhost:27017",
            "127.0.0.1:27017",
            "[::1]:9",
            "b.example:443",
        ]);
        let expected = [
            ("10.0.0.5:5432", "10.0.0.5:5432"),
            ("127.0.0.1:27017", "127.0.0.1:27017"),
            ("[::1]:9", "[::1]:9"),
            ("127.99.0.1:80", "a.example:80"),
            ("127.99.0.1:443", "a.example:443"),
            ("127.99.0.2:443", "b.example:443"),
        ];
        assert_eq!(
            pairs,
            expected.map(|(at, to)| (at.to_owned(), to.to_owned()))
        );
    }

    #[test]
    fn names_are_written_down_only_when_there_are_some() {
        let of = |host: &str| names(&ways(HostPort::parse(host)));
        assert_eq!(of("localhost:1"), None);
        assert_eq!(of("10.0.0.5:1"), None);
        let text = of("db.example:5432").unwrap_or_default();
        assert!(text.ends_with("\n127.99.0.1 db.example\n"), "{text}");
    }
}
