//! Who has said yes to which secret for which command. Kept in the user's own folder for what programs
//! remember, never in the lock file, which others write too.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_core::Timestamp;

use super::file::failed;
use crate::cmd::message;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Row, age};
use crate::session::state_home;

/// Consents of one agent's file.
const MOST: usize = 4_096;
const FORM: u32 = 1;

/// A program that is to be started.
pub(super) struct Program {
    /// Where it was found.
    pub(super) path: PathBuf,
    /// A mark of all that a consent is for.
    pub(super) mark: String,
}

/// One consent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Consent {
    /// The credential.
    entry: String,
    /// Where the program was, for people.
    program: PathBuf,
    /// What it is for: [`Program::mark`].
    mark: String,
    /// The session in which it counts; always, when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    at: String,
}

impl Row for Consent {
    const HEADERS: &'static [&'static str] = &["ENTRY", "PROGRAM", "FOR", "AGE"];

    fn name(&self) -> String {
        self.entry.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let lasts = self.session.as_ref().map_or("always", |_| "a session");
        vec![
            self.entry.clone(),
            self.program.display().to_string(),
            lasts.to_owned(),
            age(&self.at, now),
        ]
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    consents: Vec<Consent>,
}

fn hashed(file: &File) -> std::io::Result<[u8; 32]> {
    let mut sha = Sha256::new();
    let mut file = file;
    let mut piece = vec![0; 64 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(sha.finalize().into()),
            length => sha.update(&piece[..length]),
        }
    }
}

/// The program that a name means, as a shell finds it.
fn found(name: &OsString) -> Result<PathBuf> {
    let is_program = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match is_program(&path) {
            true => Ok(path),
            false => Err(failed(&path, "it is no program that can be started")),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).map(|folder| folder.join(name));
    let mut all = all.filter(|path| path.is_absolute() && is_program(path));
    all.next().ok_or_else(|| {
        Failure::new(
            Exit::Failure,
            format!("there is no program `{}`", name.to_string_lossy()),
        )
        .hint("Name it with its path.")
    })
}

impl Program {
    /// The program of a command. Its mark is over where it is and what it holds, the folder that it runs in,
    /// its arguments, and what the files hold that these name: an interpreter's script counts.
    pub(super) fn of(command: &[OsString]) -> Result<Self> {
        let Some((name, args)) = command.split_first() else {
            return Err(Failure::usage("there is no command"));
        };
        let path = found(name)?;
        let mut sha = Sha256::new();
        let mut part = |bytes: &[u8]| {
            sha.update((bytes.len() as u64).to_be_bytes());
            sha.update(bytes);
        };
        let real = fs::canonicalize(&path).map_err(|error| failed(&path, error))?;
        let content = File::open(&real).and_then(|file| hashed(&file));
        part(b"skep lock run 1");
        part(std::env::current_dir()?.as_os_str().as_bytes());
        part(path.as_os_str().as_bytes());
        part(real.as_os_str().as_bytes());
        part(&content.map_err(|error| failed(&real, error))?);
        for arg in args {
            part(arg.as_bytes());
            let file = Path::new(arg);
            if file.is_file() {
                let content = File::open(file).and_then(|file| hashed(&file));
                part(&content.map_err(|error| failed(file, error))?);
            }
        }
        let mark = sha.finalize();
        let mark = mark.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path, mark })
    }
}

/// The session of this terminal: it ends with the process that leads it. There is none to know when its
/// leader is outside of the container (pid 0), where a number would stand for anybody's.
pub(super) fn this_session() -> Option<String> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    let leader = after_name(&own, SESSION).filter(|it| *it != "0")?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let about = fs::read_to_string(format!("/proc/{leader}/stat")).ok()?;
    let started = after_name(&about, STARTED)?;
    Some(format!("{}:{leader}:{started}", boot.trim()))
}

/// Where session and start stand behind the name in `/proc/PID/stat` (proc_pid_stat(5), fields 6 and 22).
const SESSION: usize = 3;
const STARTED: usize = 19;

/// A field of `/proc/PID/stat` by its place behind the name, which may hold anything.
fn after_name(stat: &str, place: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(place)
}

/// The consents for one agent's file.
pub(super) struct Consents {
    path: PathBuf,
    pub(super) all: Vec<Consent>,
    _lock: File,
}

impl Consents {
    /// What is kept for an agent; nobody else changes it until this is dropped.
    pub(super) fn of(agent: &str) -> Result<Option<Self>> {
        let Some(state) = state_home() else {
            return Ok(None);
        };
        let folder = state.join("skep").join("consents");
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(&folder, error))?;
        let path = folder.join(format!("{agent}.json"));
        let lock = message::lock(&path)?;
        let all = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(&path, error)),
            Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
                Ok(kept) if kept.version == FORM => kept.consents,
                _ => {
                    return Err(failed(&path, "it holds no consents")
                        .hint("Remove it; you are asked again then."));
                }
            },
        };
        Ok(Some(Self {
            path,
            all,
            _lock: lock,
        }))
    }

    /// Whether somebody has said yes before.
    pub(super) fn has(&self, entry: &str, program: &Program, session: Option<&str>) -> bool {
        self.all.iter().any(|it| {
            let counts = it.session.is_none() || it.session.as_deref() == session;
            it.entry == entry && it.mark == program.mark && counts
        })
    }

    /// Keeps a yes, for a session or always.
    pub(super) fn keep(
        &mut self,
        entry: &str,
        program: &Program,
        session: Option<String>,
    ) -> Result {
        self.all
            .retain(|it| it.entry != entry || it.mark != program.mark);
        if self.all.len() >= MOST {
            return Err(failed(
                &self.path,
                format!("it holds {MOST} consents, and takes no more"),
            )
            .hint("`skep lock consents --forget` takes them back."));
        }
        self.all.push(Consent {
            entry: entry.to_owned(),
            program: program.path.clone(),
            mark: program.mark.clone(),
            session,
            at: Timestamp::system_now().to_string(),
        });
        self.write()
    }

    /// Takes back every consent, or those for one entry. Tells how many.
    pub(super) fn forget(&mut self, entry: Option<&str>) -> Result<usize> {
        let before = self.all.len();
        self.all
            .retain(|it| entry.is_some_and(|entry| entry != it.entry));
        self.write()?;
        Ok(before - self.all.len())
    }

    fn write(&self) -> Result {
        let kept = Kept {
            version: FORM,
            consents: self.all.clone(),
        };
        let text = serde_json::to_string_pretty(&kept).map_err(anyhow::Error::from)?;
        message::replace(&self.path, text.as_bytes())
    }
}
