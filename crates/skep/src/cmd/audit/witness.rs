//! `audit witness`: whoever runs it on a machine of their own notices when the log is rewritten.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use skep_audit::verify::CHECKPOINT;
use skep_audit::{Hash, Head, PublicKey, WitnessKey, verify};
use skep_client::Client;
use skep_core::Timestamp;

use super::{broken, failed, public_key, small};
use crate::failure::{Failure, Result};
use crate::live::until_interrupted;
use crate::session::Session;

/// The witness's own key, in its folder.
const KEY: &str = "witness.key";
/// What is kept of a log that was rewritten.
const EVIDENCE: &str = "rewritten";

/// Flags of `audit witness`.
#[derive(Debug, Args)]
#[command(after_help = "\
The folder keeps the witness's key and the last head that it saw, with both
signatures. The first run makes the key and prints its public part. When the log
was rewritten or rolled back, what proves it is kept in the folder and the exit
code is 5.")]
pub(crate) struct WitnessArgs {
    /// The witness's folder
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The log's public key, or a file with it
    #[arg(long, value_name = "KEY")]
    key: String,
    /// The witness's name, for a new key
    #[arg(long, value_name = "NAME", default_value = "skep-witness")]
    name: String,
    /// Go on, and look so often
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
}

/// The witness's key; made by the first run.
fn own_key(session: &Session, args: &WitnessArgs) -> Result<WitnessKey> {
    let wrong = |error: skep_audit::AuditError| Failure::usage(error.to_string());
    fs::create_dir_all(&args.dir).map_err(failed(&args.dir))?;
    let path = args.dir.join(KEY);
    if path.is_file() {
        return WitnessKey::parse(&small(&path)?).map_err(wrong);
    }
    let (key, text) = WitnessKey::generate(&args.name).map_err(wrong)?;
    private(&path, &text)?;
    session
        .output
        .note(&format!("The witness's public key: {}", key.public()));
    Ok(key)
}

/// Writes a file for its owner only.
fn private(path: &Path, text: &str) -> Result {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed(path))
}

pub(super) async fn run(session: &Session, args: WitnessArgs) -> Result {
    let log = public_key(&args.key)?;
    let own = own_key(session, &args)?;
    let client = session.client()?;
    let every = match &args.every {
        None => return look(session, &client, &args.dir, &log, &own).await,
        Some(text) => skep_core::units::parse_duration(text)
            .filter(|every| *every >= Duration::from_secs(1))
            .ok_or_else(|| {
                Failure::usage("--every takes a duration of a second or more, such as 1m")
            })?,
    };
    until_interrupted(async {
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            look(session, &client, &args.dir, &log, &own).await?;
        }
    })
    .await
}

/// Looks once.
async fn look(
    session: &Session,
    client: &Client,
    dir: &Path,
    log: &PublicKey,
    own: &WitnessKey,
) -> Result {
    let path = dir.join(CHECKPOINT);
    let seen = match path.is_file() {
        true => {
            let note = small(&path)?;
            own.public()
                .check(note.as_bytes())
                .map_err(|error| broken(&error))?;
            Some(verify::head(note.as_bytes(), log).map_err(|error| broken(&error))?)
        }
        false => None,
    };
    let new = client.audit_checkpoint().await?;
    let proof = match &seen {
        Some(seen) if 0 < seen.size && seen.size < new.size => {
            let proof = client.audit_consistency(seen.size, new.size).await?;
            hashes(&proof.proof).ok_or_else(|| Failure::plain("the proof is malformed"))?
        }
        _ => Vec::new(),
    };
    let note = new.checkpoint.as_bytes();
    let now = Timestamp::system_now();
    let signed = own.cosign(log, seen.as_ref(), note, &proof, now);
    let head: Head = signed.map_err(|error| {
        let evidence = dir.join(format!("{EVIDENCE}-{}", new.size));
        // That it is told matters more than that it is kept.
        if let Err(error) = fs::write(&evidence, note) {
            session
                .output
                .complain(&format!("{}: {error}", evidence.display()));
        }
        broken(&error)
    })?;
    let partial = dir.join("checkpoint.new");
    fs::write(&partial, &head.note).map_err(failed(&partial))?;
    fs::rename(&partial, &path).map_err(failed(&path))?;
    let said = format!("The log has {} entries and only grew.", head.size);
    session.output.done(
        &serde_json::json!({ "size": head.size }),
        &head.size.to_string(),
        &said,
    )
}

fn hashes(proof: &[String]) -> Option<Vec<Hash>> {
    let hash = |text: &String| Some(Hash(STANDARD.decode(text).ok()?.try_into().ok()?));
    proof.iter().map(hash).collect()
}
