//! `backup`: make one of a running server, see which there are, check one, bring one back.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use skep_api::{Backup, BackupState, NewBackup};
use skep_backup::{BackupError, Summary, Target, folder};
use skep_backup_s3::{Bucket, BucketError, is_bucket};
use skep_client::{Answer, Client};
use skep_core::Timestamp;
use skep_crypto::passphrase::Passphrase;
use skep_store::{Db, Options};
use tempfile::TempDir;

use super::store::Engine;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Row, human_bytes};
use crate::session::{Session, is_local};

/// How often the server is asked whether a backup is done.
const LOOK: Duration = Duration::from_millis(250);

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Make a backup of the running server
    Create(CreateArgs),
    /// List the backups of the server, or of a folder
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Read a backup and check every byte of it; needs no server
    Verify(VerifyArgs),
    /// Bring a backup back onto an empty data folder; needs no server
    Restore(RestoreArgs),
}

/// Flags of `backup create`.
#[derive(Debug, Args)]
#[command(after_help = "\
The backup is made in the server's own folder while it serves. It is encrypted
when there is a passphrase: in --passphrase-file, else in `backup.passphrase`
(SKEP_BACKUP_PASSPHRASE or SKEP_BACKUP_PASSPHRASE_FILE).")]
pub(crate) struct CreateArgs {
    /// Copy it into this folder of this machine too
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// A file with the passphrase to encrypt it with
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    passphrase_file: Option<PathBuf>,
    /// Do not encrypt it, whatever the configuration says
    #[arg(long)]
    plain: bool,
    /// Do not wait until it is done
    #[arg(long, conflicts_with = "to")]
    no_wait: bool,
}

/// Flags of `backup list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Those in this folder or bucket (`s3://…`), without a server
    #[arg(long, value_name = "PLACE")]
    r#in: Option<String>,
}

/// Flags of `backup verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The backup: a file, or `s3://BUCKET/PREFIX/NAME`
    file: PathBuf,
    /// A file with its passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Flags of `backup restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
All of it comes back or nothing. Then start a server on the folder: agents that
ran are started, calls that ran are tried again, calls that waited go on.

Example:
  skep backup restore skep-20261121T122400.123456Z.backup --data-dir /var/lib/skep")]
pub(crate) struct RestoreArgs {
    /// The backup: a file, or `s3://BUCKET/PREFIX/NAME`
    file: PathBuf,
    /// The data folder: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The database to fill, when it is not to be the folder's own: `postgres://…`,
    /// or `@FILE` with that in it
    #[arg(
        long,
        value_name = "STORE",
        default_value = "sqlite",
        hide_default_value = true
    )]
    store: Engine,
    /// A file with the backup's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Self::plain(error.to_string()).hint(error.hint())
    }
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        Self::plain(error.to_string())
            .hint("Check the address, backup.endpoint, backup.region and the access key.")
    }
}

impl Row for Backup {
    const HEADERS: &'static [&'static str] = &["NAME", "STATE", "SIZE", "ENCRYPTED", "REASON"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let encrypted = if self.encrypted { "yes" } else { "no" };
        vec![
            self.name.clone(),
            self.state.as_str().to_owned(),
            self.bytes.map_or_else(|| "-".to_owned(), human_bytes),
            encrypted.to_owned(),
            self.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

fn read_passphrase(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The passphrase from its file, else from the configuration.
fn passphrase(session: &Session, file: Option<&Path>) -> Result<Option<String>> {
    if let Some(path) = file {
        return read_passphrase(path).map(Some);
    }
    let config = session.config(Vec::new())?;
    let kept = config.settings().backup_passphrase.as_ref();
    Ok(kept.map(|text| text.reveal().to_owned()))
}

fn checked(text: Option<String>) -> Result<Option<Passphrase>> {
    let made = text.map(Passphrase::new).transpose();
    made.map_err(|error| Failure::usage(error.to_string()))
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result {
    let client = session.client()?;
    let text = match args.plain {
        true => None,
        false => passphrase(session, args.passphrase_file.as_deref())?,
    };
    if text.is_some() && client.url().starts_with("http:") && !is_local(client.url()) {
        let detail = "the passphrase would go over an unencrypted connection";
        return Err(Failure::usage(detail).hint(
            "Reach the server by https, or let it use its own: unset SKEP_BACKUP_PASSPHRASE here.",
        ));
    }
    let wanted = NewBackup {
        encrypt: args.plain.then_some(false),
        passphrase: text,
    };
    let mut backup = client.create_backup(&wanted).await?;
    if args.no_wait {
        let said = format!("{} is being made.", backup.name);
        return session.output.done(&backup, &backup.name, &said);
    }
    let mut tick = tokio::time::interval(LOOK);
    while backup.state == BackupState::Running {
        tick.tick().await;
        backup = client.backup(&backup.name).await?;
    }
    if backup.state == BackupState::Failed {
        let why = backup.reason.unwrap_or_default();
        let failure = Failure::new(Exit::Watched, format!("the backup was not made: {why}"));
        return Err(failure.hint("See the server's log, and `skep health`."));
    }
    let size = human_bytes(backup.bytes.unwrap_or(0));
    let mut said = format!("{} is done: {size}.", backup.name);
    if let Some(to) = &args.to {
        let path = fetch(&client, &backup, to).await?;
        said = format!("{} is done: {size}.", path.display());
    }
    session.output.done(&backup, &backup.name, &said)
}

/// Fetches a backup.
async fn fetch(client: &Client, backup: &Backup, to: &Path) -> Result<PathBuf> {
    let file = to.join(&backup.name);
    let failed = |error: std::io::Error| Failure::plain(format!("{}: {error}", to.display()));
    let mut make = fs::DirBuilder::new();
    make.recursive(true)
        .mode(0o700)
        .create(to)
        .map_err(failed)?;
    let answer = client.backup_content(&backup.name).await?;
    save(answer, &file, backup.bytes).await?;
    Ok(file)
}

/// Writes what comes to a file, which has its name when it is whole and on disk. Tells its size.
pub(crate) async fn save(mut answer: Answer, file: &Path, expected: Option<u64>) -> Result<u64> {
    let partial = folder::partial(file);
    let failed = |error: std::io::Error| Failure::plain(format!("{}: {error}", file.display()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut out = options.open(&partial).map_err(failed)?;
    let copied = async {
        let mut size = 0;
        while let Some(piece) = answer.chunk().await? {
            out.write_all(&piece).map_err(failed)?;
            size += piece.len() as u64;
        }
        if expected.is_some_and(|expected| expected != size) {
            return Err(Failure::plain("the file came only in part").hint("Try again."));
        }
        out.sync_all().map_err(failed)?;
        fs::rename(&partial, file).map_err(failed)?;
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|it| it.sync_all()).map_err(failed)?;
        Ok(size)
    };
    let copied = copied.await;
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied
}

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result {
    let Some(path) = &args.r#in else {
        return session
            .output
            .list(&session.client()?.backups().await?.items);
    };
    let found = match is_bucket(path) {
        true => bucket(session, path)?.list().await?,
        false => folder::list(Path::new(path))?,
    };
    let rows: Vec<Backup> = found
        .into_iter()
        .rev()
        .map(|found| Backup {
            name: found.name,
            state: BackupState::Done,
            bytes: Some(found.bytes),
            encrypted: found.encrypted.unwrap_or(false),
            reason: None,
        })
        .collect();
    session.output.list(&rows)
}

fn bucket(session: &Session, url: &str) -> Result<Bucket> {
    let config = session.config(Vec::new())?;
    let made = skep_server::bucket(config.settings(), url);
    made.map_err(|error| Failure::public(&error))
}

/// The file of a backup; one in a bucket is fetched into this folder, and goes when this is dropped.
fn here(session: &Session, file: &Path, into: &Path) -> Result<(PathBuf, Option<TempDir>)> {
    let Some(url) = file.to_str().filter(|text| is_bucket(text)) else {
        return Ok((file.to_owned(), None));
    };
    let (place, name) = url.rsplit_once('/').unwrap_or((url, ""));
    let bucket = bucket(session, place)?;
    let failed = |error: std::io::Error| Failure::plain(format!("{}: {error}", into.display()));
    let folder = TempDir::with_prefix_in(".skep-fetch-", into).map_err(failed)?;
    let path = folder.path().join("backup");
    let fetching = bucket.fetch(name, &path);
    crate::runtime()?.block_on(fetching)?;
    Ok((path, Some(folder)))
}

pub(crate) fn verify(session: &Session, args: &VerifyArgs) -> Result {
    let passphrase = checked(passphrase(session, args.passphrase_file.as_deref())?)?;
    let (file, _fetched) = here(session, &args.file, &std::env::temp_dir())?;
    let summary = skep_backup::verify(&file, passphrase.as_ref())?;
    show(session, &args.file, &summary, "is whole")
}

#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    #[serde(flatten)]
    summary: &'a Summary,
}

fn show(session: &Session, file: &Path, summary: &Summary, what: &str) -> Result {
    let output = &session.output;
    let totals = &summary.totals;
    if output.format != Format::Table {
        let file = file.display().to_string();
        return output.one(
            &Shown {
                file: file.clone(),
                summary,
            },
            &file,
            &[],
        );
    }
    let rows: u64 = totals.tables.values().map(|table| table.rows).sum();
    output.say(&format!("{} {what}.", file.display()))?;
    let lines = [
        (
            "Made",
            format!(
                "{} by Skep {}",
                summary.manifest.created_at, summary.manifest.skep
            ),
        ),
        ("Rows", format!("{rows} in {} tables", totals.tables.len())),
        ("Blobs", totals.blobs.to_string()),
        (
            "Files",
            match totals.skipped {
                0 => totals.files.to_string(),
                left => format!("{} ({left} could not be read)", totals.files),
            },
        ),
        ("Content", human_bytes(totals.bytes)),
    ];
    match output.quiet {
        true => Ok(()),
        false => output.one(&(), "", &lines),
    }
}

pub(crate) fn restore(session: &Session, args: &RestoreArgs) -> Result {
    let passphrase = checked(passphrase(session, args.passphrase_file.as_deref())?)?;
    let database = args.store.url()?;
    let target = Target {
        data: args.data_dir.clone(),
        database: database.clone(),
        sets: skep_server::migrations().to_vec(),
    };
    // Beside the data folder there is room for what comes into it.
    let beside = std::path::absolute(&args.data_dir)?;
    let beside = beside.parent().unwrap_or(Path::new("/"));
    let (file, _fetched) = here(session, &args.file, beside)?;
    let restored = skep_backup::restore(&file, passphrase.as_ref(), &target)?;
    new_keys(&args.data_dir, database.clone(), restored.has_key)?;
    let summary = restored.finish()?;
    show(session, &args.file, &summary, "is restored")?;
    let data = args.data_dir.display();
    let store = match database {
        Some(_) => ", with store.url as you gave it here",
        None => "",
    };
    session.output.say(&format!(
        "Start a server on it with `skep up --data {data}`{store}."
    ))
}

/// A key for who has the folder, unless the first one came along: it is in encrypted backups only. The
/// audit log goes on under another name: what was written after the backup is not in it.
fn new_keys(data: &Path, database: Option<String>, has_key: bool) -> Result {
    let public = |error: &dyn skep_core::PublicError| Failure::public(error);
    crate::runtime()?.block_on(async {
        let options = Options::new(data).database(database);
        let db = Db::open(options, &skep_server::migrations()).map_err(|error| public(&error))?;
        let made = skep_server::restored(&db, has_key).await;
        db.close().await;
        made.map_err(|error| public(&error))
    })
}
