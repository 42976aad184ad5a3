//! System calls that no agent needs: those that look into other processes, change the machine or
//! get round the other walls. They fail with EPERM; nothing is killed, so programs that only try
//! go on.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

/// Denied whatever the arguments are.
const DENIED: [c_long; 54] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The file system's shape.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // The kernel.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    // Opens sockets and files without the checks made here.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The clock and the machine's names.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_kexec_file_load,
];
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: [c_long; 6] = [
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: [c_long; 0] = [];

/// New namespaces of any kind that `clone` can make.
const NAMESPACES: [u64; 7] = [
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];
const NETLINK: u64 = libc::AF_NETLINK as u64;
const MPTCP: u64 = libc::IPPROTO_MPTCP as u64;
const TCP_FASTOPEN_CONNECT: u64 = libc::TCP_FASTOPEN_CONNECT as u64;
/// Bit of the number of a system call in the x32 convention, a second door to all of them.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

fn is(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    is(argument, SeccompCmpOp::Eq, value)
}

fn has(argument: u8, flag: u64) -> Result<SeccompCondition, BackendError> {
    is(argument, SeccompCmpOp::MaskedEq(flag), flag)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

/// Sockets that the network's rules would not see: every kind but local ones, IP and netlink
/// (which lists interfaces); of IP, multipath TCP; connections made by sending. `closed` leaves
/// TCP alone: neither local sockets nor datagrams.
fn sockets(closed: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut kinds = vec![
        rule(vec![
            is(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?,
            is(0, SeccompCmpOp::Ne, libc::AF_INET as u64)?,
            is(0, SeccompCmpOp::Ne, libc::AF_INET6 as u64)?,
            is(0, SeccompCmpOp::Ne, NETLINK)?,
        ])?,
        rule(vec![equal(2, MPTCP)?])?,
        rule(vec![equal(2, libc::IPPROTO_SCTP as u64)?])?,
        rule(vec![equal(2, libc::IPPROTO_DCCP as u64)?])?,
    ];
    if closed {
        let datagram = |family: i32| -> Result<SeccompRule, BackendError> {
            // The low bits are the type, the high ones flags.
            let mask = is(1, SeccompCmpOp::MaskedEq(0xf), libc::SOCK_DGRAM as u64)?;
            rule(vec![equal(0, family as u64)?, mask])
        };
        kinds.push(rule(vec![equal(0, libc::AF_UNIX as u64)?])?);
        kinds.push(datagram(libc::AF_INET)?);
        kinds.push(datagram(libc::AF_INET6)?);
    }
    let fast = libc::MSG_FASTOPEN as u64;
    Ok(BTreeMap::from([
        (libc::SYS_socket, kinds),
        (libc::SYS_sendto, vec![rule(vec![has(3, fast)?])?]),
        (libc::SYS_sendmsg, vec![rule(vec![has(2, fast)?])?]),
        (libc::SYS_sendmmsg, vec![rule(vec![has(3, fast)?])?]),
        (
            libc::SYS_setsockopt,
            vec![rule(vec![
                equal(1, libc::IPPROTO_TCP as u64)?,
                equal(2, TCP_FASTOPEN_CONNECT)?,
            ])?],
        ),
    ]))
}

/// The filters, to be put in force in this order; `closed` as in strict sandboxes.
pub(super) fn filters(closed: bool) -> Result<Vec<BpfProgram>, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let mut denied = sockets(closed)?;
    denied.extend(
        DENIED
            .iter()
            .chain(&DENIED_HERE)
            .map(|&call| (call, Vec::new())),
    );
    let namespaces: Result<Vec<_>, _> = NAMESPACES
        .iter()
        .map(|&flag| rule(vec![has(0, flag)?]))
        .collect();
    denied.insert(libc::SYS_clone, namespaces?);
    // 0xffffffff asks, 0 is the usual one.
    denied.insert(
        libc::SYS_personality,
        vec![rule(vec![
            is(0, SeccompCmpOp::Ne, 0)?,
            is(0, SeccompCmpOp::Ne, 0xffff_ffff)?,
        ])?],
    );
    // The limits of others: the server's, which has the same user.
    denied.insert(
        libc::SYS_prlimit64,
        vec![rule(vec![is(0, SeccompCmpOp::Ne, 0)?])?],
    );
    let allow = SeccompAction::Allow;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let mut main: BpfProgram =
        SeccompFilter::new(denied, allow.clone(), refuse, arch)?.try_into()?;
    refuse_x32(&mut main);
    // Its flags lie in memory, where no filter sees them. ENOSYS makes the C library use `clone`.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 = SeccompFilter::new(clone3, allow, unknown, arch)?.try_into()?;
    Ok(vec![clone3, main])
}

#[cfg(target_arch = "x86_64")]
fn refuse_x32(program: &mut BpfProgram) {
    let instruction = |code: u32, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf,
        k,
    };
    let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let check = [
        // The number of the call is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, refused),
    ];
    program.splice(0..0, check);
}

#[cfg(not(target_arch = "x86_64"))]
fn refuse_x32(_: &mut BpfProgram) {}
