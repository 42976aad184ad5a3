//! The audit log: who did what, and the proof of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use skep_api::AuditEntry;
use skep_audit::verify::{CHECKPOINT, Verified, tile_path};
use skep_audit::{AuditError, Head, PublicKey, verify};
use skep_client::{AuditQuery, Client, PageQuery};
use skep_core::Timestamp;

use super::logs::since;
use crate::failure::{Exit, Failure, Result};
use crate::live::until_interrupted;
use crate::output::{Format, Row};
use crate::session::Session;

mod witness;

/// Entries of one page.
const PAGE: u32 = 1_000;
/// How often `tail` looks.
const LOOK: Duration = Duration::from_secs(1);
/// The largest proof or checkpoint.
const MOST_TEXT: u64 = 1 << 20;
/// Hashes and entries of a full tile.
const TILE: u64 = 256;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Print the last entries, and go on with --follow
    Tail(TailArgs),
    /// Find entries, newest first
    Search(SearchArgs),
    /// Show an entry
    Show(ShowArgs),
    /// Print the proof that an entry is in the log
    Prove(ProveArgs),
    /// Check a proof, an export or a whole log; needs no server, only the log's public key
    Verify(VerifyArgs),
    /// Write entries with their proofs, or the whole log, to take along
    Export(ExportArgs),
    /// Erase the personal data of somebody; the log stays as provable as it was
    Erase(EraseArgs),
    /// Print the log's public key
    Key,
    /// Countersign the log's heads from another machine, and notice when it was rewritten
    Witness(witness::WitnessArgs),
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Entries from this time on: `10m` back from now, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Entries before this time
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<String>,
    /// By this principal
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// This action (`agent:deploy`), or all of a kind (`agent`)
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// About this thing: an agent's name, a call's id
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// With this decision
    #[arg(long, value_name = "allow|deny", value_parser = ["allow", "deny"])]
    decision: Option<String>,
    /// Of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
}

impl FilterArgs {
    fn query(self) -> AuditQuery {
        AuditQuery {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            decision: self.decision,
            request: self.request,
            since: self.since,
            until: self.until,
            page: PageQuery::default(),
        }
    }
}

/// Flags of `audit tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Go on with new entries
    #[arg(short, long)]
    follow: bool,
    /// The last so many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Flags of `audit search`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep audit search --action agent --since 1h
  skep audit search --decision deny --limit 5")]
pub(crate) struct SearchArgs {
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Flags of `audit show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The entry's number
    number: u64,
}

/// Flags of `audit erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
Entries hold commitments in the place of personal data (addresses, e-mail
addresses). What these are of is erased; entries, their proofs and exports stay
as they are. Backups of before hold it still, and bring it back.

Example:
  skep audit show 17                  # says whose address it is
  skep audit erase --person person_01jd4z…")]
pub(crate) struct EraseArgs {
    /// Whom: a user's id, or `person_…`, as `skep audit show` has it
    #[arg(long, value_name = "ID")]
    person: String,
}

/// Flags of `audit prove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --dir the proof is printed as text (c2sp.org/tlog-proof). With it the
entry's bytes and the proof are written to files that `skep audit verify` reads.

Example:
  skep audit prove 17 --dir evidence
  skep audit verify evidence/17.proof --key KEY")]
pub(crate) struct ProveArgs {
    /// The entry's number
    number: u64,
    /// Write the entry and its proof to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Flags of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
FILE is an export (JSON lines), a proof (N.proof, beside N.json), or the folder
of a whole log. The key is what `skep audit key` printed when the log was known
to be right; keep it elsewhere than the log. With --since-checkpoint a log that
was cut, rewritten or rolled back since that checkpoint is noticed too.

Exit code 5 says that something is not as it was.")]
pub(crate) struct VerifyArgs {
    /// What is to be checked
    file: PathBuf,
    /// The log's public key, or a file with it
    #[arg(long, value_name = "KEY")]
    key: String,
    /// A checkpoint of the same log from before
    #[arg(long, value_name = "FILE")]
    since_checkpoint: Option<PathBuf>,
}

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON lines, each with its proof
    Jsonl,
    /// A table, without proofs
    Csv,
    /// The whole log in a folder (c2sp.org/tlog-tiles)
    Tiles,
}

/// Flags of `audit export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep audit export --file audit.jsonl --since 720h
  skep audit export --form tiles --file log")]
pub(crate) struct ExportArgs {
    /// The form
    #[arg(long, value_enum, default_value = "jsonl")]
    form: Form,
    /// The file, or the folder of tiles
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
}

fn text<'a>(entry: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().try_fold(entry, |value, name| value.get(name));
    found.and_then(Value::as_str).unwrap_or_default()
}

/// A thing as people read it: `Agent hello`.
fn thing(entry: &Value, name: &str) -> String {
    let (kind, id) = (text(entry, &[name, "kind"]), text(entry, &[name, "id"]));
    format!("{kind} {id}").trim_end().to_owned()
}

/// What happened, besides who, what and to what.
fn rest(entry: &Value) -> String {
    let times = entry["times"]
        .as_u64()
        .map(|times| format!("{times} times"));
    let mut parts = Vec::new();
    for part in [&["outcome"][..], &["change", "what"], &["reason"]] {
        parts.push(text(entry, part).to_owned());
    }
    parts.extend(times);
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

impl Row for AuditEntry {
    const HEADERS: &'static [&'static str] = &[
        "NUMBER", "TIME", "WHO", "ACTION", "WHAT", "DECISION", "DETAIL",
    ];

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let time = text(&self.entry, &["time"]);
        vec![
            self.number.to_string(),
            time.split('.').next().unwrap_or_default().to_owned(),
            thing(&self.entry, "principal"),
            text(&self.entry, &["action"]).to_owned(),
            thing(&self.entry, "resource"),
            text(&self.entry, &["decision"]).to_owned(),
            rest(&self.entry),
        ]
    }
}

pub(crate) async fn run(session: &Session, verb: AuditVerb) -> Result {
    match verb {
        AuditVerb::Tail(args) => tail(session, args).await,
        AuditVerb::Search(args) => {
            let found = find(&session.client()?, args.filter.query(), args.limit).await?;
            session.output.list(&found)
        }
        AuditVerb::Show(args) => {
            let shown = session.client()?.audit_entry(args.number).await?;
            let lines = lines(&shown);
            session
                .output
                .one(&shown, &shown.number.to_string(), &lines)
        }
        AuditVerb::Prove(args) => prove(session, args).await,
        AuditVerb::Verify(args) => check(session, &args),
        AuditVerb::Export(args) => export(session, args).await,
        AuditVerb::Erase(args) => erase(session, args).await,
        AuditVerb::Key => {
            let head = session.client()?.audit_checkpoint().await?;
            let key = &head.public_key;
            session
                .output
                .done(&serde_json::json!({ "public_key": key }), key, key)
        }
        AuditVerb::Witness(args) => witness::run(session, args).await,
    }
}

fn lines(shown: &AuditEntry) -> Vec<(&'static str, String)> {
    let entry = &shown.entry;
    let of = |path: &[&str]| text(entry, path).to_owned();
    let policies = entry["policies"].as_array().cloned().unwrap_or_default();
    let policies: Vec<&str> = policies.iter().filter_map(Value::as_str).collect();
    let mut lines = vec![
        ("Number", shown.number.to_string()),
        ("Time", of(&["time"])),
        ("Workspace", of(&["workspace"])),
        ("Who", thing(entry, "principal")),
        ("Action", of(&["action"])),
        ("What", thing(entry, "resource")),
        ("Decision", of(&["decision"])),
        ("Policies", policies.join(", ")),
        ("Request", of(&["request"])),
        ("Change", of(&["change", "what"])),
        ("Hash", of(&["change", "hash"])),
        ("Outcome", of(&["outcome"])),
        ("Reason", of(&["reason"])),
        (
            "Times",
            entry["times"]
                .as_u64()
                .map(|it| it.to_string())
                .unwrap_or_default(),
        ),
    ];
    for one in &shown.personal {
        let label = match one.kind.as_str() {
            "address" => "Address",
            "email" => "E-mail",
            _ => "Personal",
        };
        let value = one.value.as_deref().unwrap_or("erased");
        lines.push((label, format!("{value} ({})", one.person)));
    }
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

async fn erase(session: &Session, args: EraseArgs) -> Result {
    let person = &args.person;
    session.confirm(&format!(
        "Erase what is known of {person}? Nobody can tell any more whom their entries are about."
    ))?;
    let erased = session.client()?.audit_erase(person).await?;
    let mut said = match erased.values {
        1 => format!("One value of {person} is erased."),
        values => format!("{values} values of {person} are erased."),
    };
    if !erased.settled {
        said.push_str(" The database's log of writes holds them for some seconds still.");
    }
    session.output.done(&erased, person, &said)
}

/// Entries, newest first, at most so many.
async fn find(client: &Client, mut query: AuditQuery, most: usize) -> Result<Vec<AuditEntry>> {
    let mut found = Vec::new();
    loop {
        let left = u32::try_from(most - found.len()).unwrap_or(PAGE);
        query.page.limit = Some(left.clamp(1, PAGE));
        let page = client.audit_entries(&query).await?;
        found.extend(page.items);
        match page.next {
            Some(next) if found.len() < most => query.page.cursor = Some(next),
            _ => return Ok(found),
        }
    }
}

fn print(session: &Session, entry: &AuditEntry) -> Result {
    if session.output.format != Format::Table {
        return session
            .output
            .raw(format!("{}\n", serde_json::json!(entry)).as_bytes());
    }
    let cells = entry.cells(Timestamp::from_micros(0));
    session
        .output
        .raw((crate::table::clean(&cells.join("  ")) + "\n").as_bytes())
}

async fn tail(session: &Session, args: TailArgs) -> Result {
    let client = session.client()?;
    let query = args.filter.query();
    let mut found = find(&client, query.clone(), args.limit as usize).await?;
    found.reverse();
    if !args.follow {
        return session.output.list(&found);
    }
    until_interrupted(async {
        let mut next = found.last().map_or(0, |entry| entry.number + 1);
        for entry in &found {
            print(session, entry)?;
        }
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            let mut newer = Vec::new();
            let mut page = query.clone();
            page.page.limit = Some(PAGE);
            // Newest first, until what was printed.
            loop {
                let found = client.audit_entries(&page).await?;
                let whole = found.items.last().is_none_or(|entry| entry.number < next);
                newer.extend(found.items.into_iter().filter(|entry| entry.number >= next));
                match found.next {
                    Some(cursor) if !whole => page.page.cursor = Some(cursor),
                    _ => break,
                }
            }
            for entry in newer.iter().rev() {
                print(session, entry)?;
                next = entry.number + 1;
            }
        }
    })
    .await
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::plain(format!("{path}: {error}"))
}

async fn prove(session: &Session, args: ProveArgs) -> Result {
    let proof = session.client()?.audit_proof(args.number).await?;
    let Some(dir) = args.dir else {
        return match session.output.format {
            Format::Table | Format::Html => session.output.raw(proof.proof.as_bytes()),
            _ => session.output.one(&proof, &proof.number.to_string(), &[]),
        };
    };
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    let entry = dir.join(format!("{}.json", args.number));
    let path = dir.join(format!("{}.proof", args.number));
    fs::write(&entry, &proof.entry).map_err(failed(&entry))?;
    fs::write(&path, &proof.proof).map_err(failed(&path))?;
    let shown = path.display().to_string();
    let said = format!(
        "{} and {shown} prove entry {}.",
        entry.display(),
        args.number
    );
    session.output.done(&proof, &shown, &said)
}

/// A file that is small, or what is wrong with it.
fn small(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(failed(path))?;
    file.take(MOST_TEXT)
        .read_to_string(&mut text)
        .map_err(failed(path))?;
    Ok(text)
}

/// The key of a flag: its text, or a file with it.
fn public_key(given: &str) -> Result<PublicKey> {
    let text = match Path::new(given).is_file() {
        true => small(Path::new(given))?,
        false => given.to_owned(),
    };
    PublicKey::parse(&text).map_err(|error| {
        Failure::usage(error.to_string()).hint("Give what `skep audit key` printed.")
    })
}

/// Something is not as it was: exit code 5.
fn broken(error: &AuditError) -> Failure {
    let failure = Failure::new(Exit::Watched, error.to_string());
    failure.hint("Keep everything as it is, and compare with earlier exports and witnesses.")
}

/// What `verify` tells.
#[derive(Debug, Serialize)]
struct Told {
    entries: u64,
    pruned: u64,
    size: u64,
    actions: BTreeMap<String, u64>,
}

fn check(session: &Session, args: &VerifyArgs) -> Result {
    let key = public_key(&args.key)?;
    let earlier = match &args.since_checkpoint {
        Some(path) => {
            let note = small(path)?;
            Some(verify::head(note.as_bytes(), &key).map_err(|error| broken(&error))?)
        }
        None => None,
    };
    let mut actions = BTreeMap::new();
    let each = |_: u64, entry: &str| {
        let entry: Value = serde_json::from_str(entry).unwrap_or_default();
        *actions
            .entry(text(&entry, &["action"]).to_owned())
            .or_insert(0) += 1;
    };
    let verified = check_file(&args.file, &key, earlier.as_ref(), each)?;
    let Verified {
        entries,
        pruned,
        head,
    } = verified;
    let mut said = format!(
        "{entries} entries are in the log of {} entries that {} signed, as they were written.",
        head.size,
        key.name().unwrap_or_default()
    );
    if pruned > 0 {
        said.push_str(&format!(
            " {pruned} of them were pruned: their hashes are there, and no more."
        ));
    }
    let size = head.size;
    let told = Told {
        entries,
        pruned,
        size,
        actions,
    };
    session.output.done(&told, &size.to_string(), &said)
}

fn check_file(
    path: &Path,
    key: &PublicKey,
    earlier: Option<&Head>,
    mut each: impl FnMut(u64, &str),
) -> Result<Verified> {
    if path.is_dir() {
        return verify::tiles(path, key, earlier, each).map_err(|error| broken(&error));
    }
    if earlier.is_some() {
        let why = "only a whole log can be compared with an earlier checkpoint";
        return Err(Failure::usage(why).hint("Export it with `--form tiles`."));
    }
    if path.extension().is_some_and(|it| it == "proof") {
        let proof = small(path)?;
        let entry = path.with_extension("json");
        let bytes = fs::read(&entry).map_err(failed(&entry))?;
        let proven = verify::entry(&bytes, &proof, key);
        let (number, head) = proven.map_err(|error| broken(&error))?;
        each(number, &String::from_utf8_lossy(&bytes));
        return Ok(Verified {
            entries: 1,
            pruned: 0,
            head,
        });
    }
    let file = File::open(path).map_err(failed(path))?;
    verify::export(BufReader::new(file), key, each).map_err(|error| broken(&error))
}

async fn export(session: &Session, args: ExportArgs) -> Result {
    let client = session.client()?;
    let shown = args.file.display().to_string();
    if args.file.exists() {
        let why = format!("{shown} is there already");
        return Err(Failure::usage(why).hint("Name another one with --file."));
    }
    let said = match args.form {
        Form::Jsonl => {
            let answer = client.audit_export(&args.filter.query()).await?;
            let size = super::backup::save(answer, &args.file, None).await?;
            format!(
                "The entries with their proofs are in {shown}: {}.",
                crate::output::human_bytes(size)
            )
        }
        Form::Csv => {
            let found = find(&client, args.filter.query(), usize::MAX).await?;
            fs::write(&args.file, csv(&found)).map_err(failed(&args.file))?;
            format!("{} entries are in {shown}, without proofs.", found.len())
        }
        Form::Tiles => {
            let size = tiles(&client, &args.file).await?;
            format!("The log of {size} entries is in {shown}.")
        }
    };
    session
        .output
        .done(&serde_json::json!({ "file": shown }), &shown, &said)
}

/// A table of RFC 4180, oldest first. A cell that a spreadsheet would take for a formula is one no
/// more.
fn csv(found: &[AuditEntry]) -> String {
    let cell = |text: &str| {
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = text.replace('"', "\"\"");
        format!("\"{}{text}\"", if formula { "'" } else { "" })
    };
    let mut table = String::from("number,time,who,action,what,decision,detail,request\r\n");
    for entry in found.iter().rev() {
        let cells = [
            entry.number.to_string(),
            text(&entry.entry, &["time"]).to_owned(),
            thing(&entry.entry, "principal"),
            text(&entry.entry, &["action"]).to_owned(),
            thing(&entry.entry, "resource"),
            text(&entry.entry, &["decision"]).to_owned(),
            rest(&entry.entry),
            text(&entry.entry, &["request"]).to_owned(),
        ];
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        table.push_str(&cells.join(","));
        table.push_str("\r\n");
    }
    table
}

/// Fetches the whole log; its checkpoint comes last, so that a folder that is cut short has none.
async fn tiles(client: &Client, folder: &Path) -> Result<u64> {
    let head = client.audit_checkpoint().await?;
    let mut level = 0_u32;
    loop {
        let hashes = head.size.checked_shr(8 * level).unwrap_or(0);
        // Partial tiles above the lowest level follow from those below.
        let count = match level {
            0 => hashes.div_ceil(TILE),
            _ => hashes / TILE,
        };
        if count == 0 {
            break;
        }
        for number in 0..count {
            let width = (hashes - number * TILE).min(TILE);
            let width = usize::try_from(width).unwrap_or_default();
            fetch(client, folder, &level.to_string(), number, width).await?;
            if level == 0 {
                fetch(client, folder, "entries", number, width).await?;
            }
        }
        level += 1;
    }
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let checkpoint = folder.join(CHECKPOINT);
    fs::write(&checkpoint, &head.checkpoint).map_err(failed(&checkpoint))?;
    Ok(head.size)
}

async fn fetch(client: &Client, folder: &Path, kind: &str, number: u64, width: usize) -> Result {
    let answer = client.audit_tile(kind, number, width).await?;
    let path = folder.join(tile_path(kind, number, width));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    fs::write(&path, answer.bytes().await?).map_err(failed(&path))
}
