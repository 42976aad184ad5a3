//! `lock edit`: a layer or an entry in the editor of who sits there. Meanwhile it lies in the open, in a
//! folder of its own that is in memory where that can be had, and is wiped and removed whatever happens.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use skep_lock::{Entries, Open, Value};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use zeroize::Zeroizing;

use super::content;
use super::file::{self, KeyArgs, refused};
use super::{layer_or_none, parts, saved};
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// Where memory file systems are, besides the user's own.
const SHARED_MEMORY: &str = "/dev/shm";
/// What statfs calls file systems in memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// The editor of who has named none.
const EDITOR: &str = "vi";
/// Time for an editor to end when it is told to.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes that are wiped at once.
const PIECE: usize = 64 << 10;
/// Bytes of what is edited.
const MOST: u64 = skep_lock::MOST_LAYER as u64;

/// Flags of `lock edit`.
#[derive(Debug, Args)]
#[command(after_help = "\
A layer is edited as JSON, an entry that is a text as it is. The editor is
$VISUAL, else $EDITOR, else vi. Meanwhile the text lies decrypted in a file that
nobody else may read, in memory where there is a file system for that
($XDG_RUNTIME_DIR, /dev/shm), and is overwritten and removed afterwards. Nothing
is written when nothing was changed, or when the editor fails.

Examples:
  skep lock edit personality/prompt
  skep lock edit memory")]
pub(crate) struct EditArgs {
    /// LAYER/ENTRY, or LAYER
    what: String,
    /// Make a new entry of JSON, not a text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// The folder in which something lies in the open. Dropped, it is wiped and gone.
struct Desk {
    folder: TempDir,
    file: PathBuf,
}

fn is_in_memory(folder: &Path) -> bool {
    let about = rustix::fs::statfs(folder);
    about.is_ok_and(|about| u64::try_from(about.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

impl Desk {
    fn new(session: &Session, name: &str) -> Result<Self> {
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let all = own.into_iter().chain([PathBuf::from(SHARED_MEMORY)]);
        let mut builder = tempfile::Builder::new();
        builder
            .prefix("skep-edit-")
            .permissions(fs::Permissions::from_mode(0o700));
        let in_memory = all
            .filter(|folder| folder.is_absolute() && is_in_memory(folder))
            .find_map(|folder| builder.tempdir_in(folder).ok());
        let folder = match in_memory {
            Some(folder) => folder,
            None => {
                session.output.complain(
                    "There is no file system in memory: what is edited lies on the disk meanwhile.",
                );
                builder.tempdir()?
            }
        };
        let file = folder.path().join(name);
        Ok(Self { folder, file })
    }

    fn write(&self, text: &str) -> Result {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    fn read(&self) -> Result<Zeroizing<String>> {
        let failed =
            |why: &str| Failure::plain(format!("what was edited {why}; nothing was written"));
        let file = fs::File::open(&self.file).map_err(|_| failed("is gone"))?;
        let length = file.metadata()?.len().min(MOST);
        let length = usize::try_from(length).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        file.take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(failed("has more than 32 MiB"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| failed("is no UTF-8"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Overwrites what lies there, also what the editor left beside it.
    fn wipe(&self) -> io::Result<()> {
        let zeros = vec![0; PIECE];
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            let mut file = OpenOptions::new().write(true).open(entry.path())?;
            let mut left = file.metadata()?.len();
            file.rewind()?;
            while left > 0 {
                let piece = left.min(PIECE as u64);
                file.write_all(&zeros[..usize::try_from(piece).unwrap_or(PIECE)])?;
                left -= piece;
            }
            // In memory there is nothing to wait for.
            let _ = file.sync_all();
        }
        Ok(())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The folder is removed all the same.
        let _ = self.wipe();
    }
}

/// Signals that end this program, which has something to clear away first.
struct Ends {
    interrupt: Signals,
    others: [(Signals, i32); 3],
}

impl Ends {
    fn new() -> Result<Self> {
        let kind = |kind: SignalKind| signal(kind).map(|it| (it, kind.as_raw_value()));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            others: [
                kind(SignalKind::terminate())?,
                kind(SignalKind::hangup())?,
                kind(SignalKind::quit())?,
            ],
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        let [terminate, hangup, quit] = &mut self.others;
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.0.recv() => terminate.1,
            _ = hangup.0.recv() => hangup.1,
            _ = quit.0.recv() => quit.1,
        }
    }
}

/// Tells an editor to end, and waits a while for that.
async fn stop(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Lets the editor run on the file until it ends.
async fn edited(desk: &Desk, ends: &mut Ends) -> Result {
    let set = |name: &str| std::env::var(name).ok().filter(|it| !it.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR"));
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    // A shell reads it, as everywhere: it may have arguments.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{editor} \"$@\""))
        .arg(&editor)
        .arg(&desk.file)
        .current_dir(desk.folder.path());
    let mut child = command.spawn()?;
    let is_terminal = io::stdin().is_terminal();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            number = ends.next() => {
                // Ctrl-C in a terminal is the editor's, which has heard it as well.
                if is_terminal && number == SignalKind::interrupt().as_raw_value() {
                    continue;
                }
                stop(&mut child).await;
                return Err(Failure::passed(128 + number));
            }
        }
    };
    match status.success() {
        true => Ok(()),
        false => Err(Failure::plain(format!(
            "the editor ended with {status}; nothing was written"
        ))
        .hint(format!("It is `{editor}`; VISUAL or EDITOR names another."))),
    }
}

/// What is edited.
enum Was {
    Layer(Entries),
    Text(Option<Zeroizing<String>>),
    Json(Option<Value>),
}

impl Was {
    fn text(&self) -> Result<Zeroizing<String>> {
        let json = |text: serde_json::Result<String>| {
            text.map(Zeroizing::new)
                .map_err(|error| Failure::from(anyhow::Error::from(error)))
        };
        let mut text = match self {
            Self::Layer(entries) => json(serde_json::to_string_pretty(entries))?,
            Self::Json(Some(value)) => json(serde_json::to_string_pretty(value))?,
            Self::Text(Some(text)) => text.clone(),
            Self::Text(None) | Self::Json(None) => return Ok(Zeroizing::default()),
        };
        if self.ends_by_itself(&text) {
            return Ok(text);
        }
        // Editors end the last line.
        text.push('\n');
        Ok(text)
    }

    /// Whether a line break at the end is the text's own.
    fn ends_by_itself(&self, text: &str) -> bool {
        matches!(self, Self::Text(_)) && text.ends_with('\n')
    }

    /// The entries of the layer as they are to be; nothing when it is as it was.
    fn changed(
        &self,
        entry: Option<&str>,
        layer: &Entries,
        text: &str,
    ) -> Result<Option<Entries>, String> {
        let value: Value = match self {
            Self::Layer(was) => {
                let now = content::entries(text)?;
                return Ok((now != *was).then_some(now));
            }
            Self::Text(was) => {
                let own = was.as_ref().is_some_and(|was| self.ends_by_itself(was));
                let text = match own {
                    true => text,
                    false => text.strip_suffix('\n').unwrap_or(text),
                };
                if was.as_ref().map_or("", |was| was.as_str()) == text {
                    return Ok(None);
                }
                Value::text(text)
            }
            Self::Json(None) if text.trim().is_empty() => return Ok(None),
            Self::Json(was) => {
                let now: serde_json::Value =
                    serde_json::from_str(text).map_err(|error| error.to_string())?;
                let now = Value::from(now);
                if was.as_ref() == Some(&now) {
                    return Ok(None);
                }
                now
            }
        };
        let mut entries = layer.clone();
        entries.insert(entry.unwrap_or_default().to_owned(), value);
        Ok(Some(entries))
    }
}

/// Asks whether to go back to what is wrong.
fn again(session: &Session, why: &str) -> Result {
    session
        .output
        .complain(&format!("It cannot be written: {why}."));
    if session.global.no_input || !io::stdin().is_terminal() {
        return Err(Failure::plain(
            "what was edited is not right; nothing was written",
        ));
    }
    write!(io::stderr(), "Back to the editor? [Y/n] ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    match line.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" if !line.is_empty() => Ok(()),
        _ => Err(Failure::new(Exit::Cancelled, "nothing was written")),
    }
}

/// Lets it be edited until it is right, and writes it into the open file. Tells whether it did.
async fn write(
    session: &Session,
    args: &EditArgs,
    path: &Path,
    open: &mut Open,
    entries: &Entries,
) -> Result<bool> {
    let (layer, entry) = parts(&args.what);
    let was = match entry.map(|entry| entries.get(entry)) {
        None => Was::Layer(entries.clone()),
        Some(None) if args.json => Was::Json(None),
        Some(None) => Was::Text(None),
        Some(Some(Value::Text(text))) => Was::Text(Some(text.clone())),
        Some(Some(value)) => Was::Json(Some(value.clone())),
    };
    // Taken before anything lies in the open: from here on a signal leaves nothing behind.
    let mut ends = Ends::new()?;
    let ending = if matches!(was, Was::Text(_)) {
        "md"
    } else {
        "json"
    };
    let desk = Desk::new(session, &format!("{layer}.{ending}"))?;
    desk.write(&was.text()?)?;
    loop {
        edited(&desk, &mut ends).await?;
        let text = desk.read()?;
        let wrong = match was.changed(entry, entries, &text) {
            Ok(None) => return Ok(false),
            Ok(Some(now)) => match open.put(layer, &now) {
                Ok(()) => return Ok(true),
                Err(
                    error @ (skep_lock::LockError::Content { .. }
                    | skep_lock::LockError::TooMuch { .. }),
                ) => error.to_string(),
                Err(error) => return Err(refused(path, error)),
            },
            Err(why) => why,
        };
        again(session, &wrong)?;
    }
}

pub(super) async fn edit(session: &Session, args: &EditArgs) -> Result {
    let (layer, _) = parts(&args.what);
    // Held all the while: other commands on this file wait.
    let (held, mut open) = file::open(session, &args.key)?;
    let may = open.may_write(layer);
    may.map_err(|error| refused(&held.path, error))?;
    let entries = layer_or_none(&held, &open, layer)?;
    if !write(session, args, &held.path, &mut open, &entries).await? {
        return session.output.say("Nothing was changed.");
    }
    saved(session, &held, open, &format!("{} is written.", args.what))
}
