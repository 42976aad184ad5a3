//! `doctor`: what could be wrong with this machine's server, each with the next thing to do.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use skep_api::Health;
use skep_core::config::Settings;

use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, human_bytes};
use crate::session::{KEY_FILE, Session};

/// Writes of the disk probe.
const PROBES: usize = 20;
/// A disk that takes longer for one durable write makes every call slow.
const SLOW_SYNC: Duration = Duration::from_millis(20);
const BLOCK: [u8; 4096] = [0; 4096];
/// Open files that a server needs besides two for each connection.
const OWN_FILES: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Ok,
        detail: detail.into(),
        next: None,
    }
}

fn warn(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Warn,
        next: Some(next.into()),
        ..ok(check, detail)
    }
}

fn fail(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Fail,
        ..warn(check, detail, next)
    }
}

pub(crate) async fn doctor(session: &Session) -> Result {
    let mut findings = Vec::new();
    match session.config(Vec::new()) {
        Ok(config) => {
            let file = config.file().map_or_else(
                || "no file, defaults and variables only".to_owned(),
                |path| path.display().to_string(),
            );
            findings.push(ok("config", file));
            machine(config.settings(), &mut findings);
        }
        Err(failure) => {
            findings.push(fail(
                "config",
                failure.detail,
                "Correct it; everything else depends on it.",
            ));
        }
    }
    // Where the server is depends on the configuration, unless it was said.
    if findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fail || finding.check != "config")
        || session.global.server.is_some()
    {
        server(session, &mut findings).await;
    }
    print(session, &findings)?;
    match findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Fail)
    {
        true => Err(Failure::quiet(Exit::Failure)),
        false => Ok(()),
    }
}

fn print(session: &Session, findings: &[Finding]) -> Result {
    let output = &session.output;
    if matches!(output.format, Format::Json | Format::Yaml) {
        return output.document(findings);
    }
    for finding in findings {
        let (code, word) = match finding.verdict {
            Verdict::Ok => ("32", "ok  "),
            Verdict::Warn => ("33", "warn"),
            Verdict::Fail => ("31", "fail"),
        };
        let word = output.paint(code, word);
        let mut text = format!("{word}  {:<12}  {}\n", finding.check, finding.detail);
        if let Some(next) = &finding.next {
            text.push_str(&format!("      {:<12}  next: {next}\n", ""));
        }
        output.raw(text.as_bytes())?;
    }
    Ok(())
}

fn machine(settings: &Settings, findings: &mut Vec<Finding>) {
    findings.push(open_files(settings));
    findings.push(sandbox(&skep_runtime::survey()));
    let data = &settings.data;
    let shown = data.display();
    let found = match std::fs::metadata(data) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let detail = format!("{shown} is not there yet");
            findings.push(warn("data folder", detail, "`skep up` makes it."));
            return;
        }
        Err(error) => {
            let next = "Let this user into it, or choose another with --data.";
            findings.push(fail("data folder", format!("{shown}: {error}"), next));
            return;
        }
    };
    findings.push(data_folder(data, &found));
    findings.push(free_disk(settings));
    findings.push(disk_speed(data));
    findings.push(key_file(&data.join(KEY_FILE)));
}

fn data_folder(data: &Path, found: &Metadata) -> Finding {
    const CHECK: &str = "data folder";
    let shown = data.display();
    if !found.is_dir() {
        return fail(
            CHECK,
            format!("{shown} is no folder"),
            "Choose another with --data.",
        );
    }
    if let Err(error) = tempfile::tempfile_in(data) {
        let next = "Make it writable for this user.";
        return fail(CHECK, format!("{shown} cannot be written: {error}"), next);
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let detail = format!("{shown} is open to every user of this machine (mode {mode:o})");
        return warn(CHECK, detail, format!("chmod 700 {shown}"));
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        let detail = format!("{shown} belongs to user {}, this is user {us}", found.uid());
        return warn(CHECK, detail, "Run skep as the user that owns it.");
    }
    ok(CHECK, format!("{shown} is writable"))
}

fn free_disk(settings: &Settings) -> Finding {
    const CHECK: &str = "disk space";
    let least = settings.disk_min_free;
    let stat = match rustix::fs::statvfs(&settings.data) {
        Ok(stat) => stat,
        Err(error) => return warn(CHECK, error.to_string(), "Look at it with `df`."),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let detail = format!("{} free", human_bytes(free));
    if free < least {
        let next = format!("Free space: below {} no call is taken.", human_bytes(least));
        return fail(CHECK, detail, next);
    }
    if free < least.saturating_mul(4) {
        let next = format!(
            "Free space soon: below {} no call is taken.",
            human_bytes(least)
        );
        return warn(CHECK, detail, next);
    }
    ok(CHECK, detail)
}

fn sync_times(data: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(data)?;
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let start = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn disk_speed(data: &Path) -> Finding {
    const CHECK: &str = "disk speed";
    let times = match sync_times(data) {
        Ok(times) => times,
        Err(error) => return fail(CHECK, error.to_string(), "Look at the disk's state."),
    };
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (p50, worst) = (times[PROBES / 2], times[PROBES - 1]);
    let detail = format!(
        "fdatasync p50 {:.1} ms, worst {:.1} ms of {PROBES}",
        ms(p50),
        ms(worst)
    );
    match p50 > SLOW_SYNC {
        true => warn(
            CHECK,
            detail,
            "Put the data folder on a faster disk: each call waits for it.",
        ),
        false => ok(CHECK, detail),
    }
}

fn key_file(path: &Path) -> Finding {
    const CHECK: &str = "key file";
    let shown = path.display();
    let mode = match std::fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let next = "The first `skep up` makes it; else name your key by --api-key-file.";
            return warn(CHECK, format!("{shown} is not there"), next);
        }
        Err(error) => return fail(CHECK, format!("{shown}: {error}"), "Let this user read it."),
    };
    match mode & 0o077 {
        0 => ok(CHECK, format!("{shown} is for its owner only")),
        _ => {
            let detail = format!("{shown} is open to others (mode {mode:o})");
            fail(CHECK, detail, format!("chmod 600 {shown}"))
        }
    }
}

fn open_files(settings: &Settings) -> Finding {
    const CHECK: &str = "open files";
    // The server raises its soft limit to the hard one by itself.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let wanted = settings.limits_connections as u64 * 2 + OWN_FILES;
    match limit {
        Some(limit) if limit < wanted => {
            let detail = format!("at most {limit}, and {wanted} may be needed");
            warn(
                CHECK,
                detail,
                "Raise it (`ulimit -Hn`), or lower `limits.connections`.",
            )
        }
        Some(limit) => ok(CHECK, format!("up to {limit}")),
        None => ok(CHECK, "no limit"),
    }
}

/// What agents can be locked in with on this machine.
fn sandbox(survey: &[skep_runtime::Protection]) -> Finding {
    const CHECK: &str = "sandbox";
    let list = |all: Vec<String>, between: &str| all.join(between);
    let there = survey.iter().filter(|it| it.in_force);
    let there = list(there.map(|it| it.name.clone()).collect(), ", ");
    let missing = survey.iter().filter(|it| !it.in_force);
    let missing: Vec<_> = missing
        .map(|it| format!("{} ({})", it.name, it.detail))
        .collect();
    if missing.is_empty() {
        return ok(CHECK, there);
    }
    let detail = format!("{there}; not {}", list(missing, ", "));
    let next = "Agents run without what is missing, but for those with `sandbox: strict`; \
                see docs/sandbox.md.";
    warn(CHECK, detail, next)
}

async fn server(session: &Session, findings: &mut Vec<Finding>) {
    const CHECK: &str = "server";
    let client = match session.client() {
        Ok(client) => client,
        Err(failure) => {
            findings.push(fail(CHECK, failure.detail, "Correct --server and the key."));
            return;
        }
    };
    if let Err(error) = client.health_basic().await {
        let next = "Start it with `skep up`, or name another with --server.";
        findings.push(fail(CHECK, error.to_string(), next));
        return;
    }
    findings.push(ok(CHECK, format!("answers at {}", client.url())));
    let health = match client.health_detailed().await {
        Ok(health) => health,
        Err(error) => {
            let next = "Name a file with a valid key by --api-key-file.";
            findings.push(fail("key", error.to_string(), next));
            return;
        }
    };
    let (theirs, ours) = (&health.version, env!("CARGO_PKG_VERSION"));
    findings.push(match theirs == ours {
        true => ok("version", ours),
        false => warn(
            "version",
            format!("the server is {theirs}, this is {ours}"),
            "Use the same version on both sides: restart the server with this binary.",
        ),
    });
    for check in &health.checks {
        let detail = format!("{}: {}", check.name, check.detail);
        let next = match check.name.starts_with("driver:") {
            true => "Do that; its agents come back by themselves.",
            false => "See the server's log.",
        };
        findings.push(judge(check.status, "health", detail, next));
    }
    for agent in &health.agents {
        let detail = format!("{}: {}", agent.name, agent.detail);
        let next = format!(
            "Look at `skep inspect {0}` and `skep logs {0}`.",
            agent.name
        );
        // A server is well with a sick agent in it.
        let status = match agent.status {
            Health::Ok => Health::Ok,
            Health::Degraded | Health::Failed => Health::Degraded,
        };
        findings.push(judge(status, "agent", detail, &next));
    }
}

fn judge(status: Health, check: &'static str, detail: String, next: &str) -> Finding {
    match status {
        Health::Ok => ok(check, detail),
        Health::Degraded => warn(check, detail, next),
        Health::Failed => fail(check, detail, next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        assert_eq!(key_file(&path).verdict, Verdict::Warn);
        std::fs::write(&path, "k").unwrap();
        for (mode, verdict) in [(0o600, Verdict::Ok), (0o644, Verdict::Fail)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(key_file(&path).verdict, verdict);
        }
    }

    #[test]
    fn the_disk_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(sync_times(folder.path()).unwrap().len(), PROBES);
        let found = std::fs::metadata(folder.path()).unwrap();
        assert_eq!(data_folder(folder.path(), &found).verdict, Verdict::Ok);
    }
}
