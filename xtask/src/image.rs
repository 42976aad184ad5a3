//! `cargo xtask image`: the image of Skep itself, of one static program and no other image; with
//! `--check` it is run, locked in as in `deploy/docker-compose.prod.yml`, until it is healthy and an agent in
//! it answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::generate::target;
use crate::shell::{output, root, run as shell};

/// For this no library is needed.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Certificates of this machine that the image trusts, for PostgreSQL and buckets.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Time in which a container must be healthy.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// What is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The image's name.
    #[arg(long, default_value = "skep:dev")]
    tag: String,
    /// A static binary that is there already; else one is built, for which rustup's target
    /// x86_64-unknown-linux-musl and Debian's musl-tools are needed.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Run it and look whether it works.
    #[arg(long)]
    check: bool,
}

/// Makes the image.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => {
            let words = [
                "build",
                "--profile",
                "dist",
                "--target",
                TARGET,
                "--package",
                "skep",
                // A static program loads no modules of tokens, and a container has no desktop.
                "--no-default-features",
            ];
            shell("cargo", &words).context(
                "is the target there? rustup target add x86_64-unknown-linux-musl; \
                 apt-get install musl-tools",
            )?;
            root().join(target()).join(TARGET).join("dist/skep")
        }
    };
    let context = root().join(target()).join("image");
    assemble(&context, &binary)?;
    let file = root().join("deploy/Dockerfile");
    let (file, context) = (file.to_string_lossy(), context.to_string_lossy());
    shell(
        "docker",
        &["build", "-q", "-f", &file, "-t", &options.tag, &context],
    )?;
    if options.check {
        check(&options.tag)?;
    }
    Ok(())
}

/// Puts together what the Dockerfile copies.
fn assemble(context: &Path, binary: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(context);
    for folder in [
        "root/usr/bin",
        "root/etc/ssl/certs",
        "data",
        "backups",
        "tmp",
    ] {
        fs::create_dir_all(context.join(folder))?;
    }
    let skep = context.join("root/usr/bin/skep");
    fs::copy(binary, &skep).with_context(|| binary.display().to_string())?;
    fs::set_permissions(&skep, fs::Permissions::from_mode(0o755))?;
    shell("strip", &["--strip-debug", &skep.to_string_lossy()])?;
    fs::copy(CERTIFICATES, context.join("root").join(&CERTIFICATES[1..]))
        .with_context(|| format!("{CERTIFICATES}: apt-get install ca-certificates"))?;
    fs::write(
        context.join("root/etc/passwd"),
        "skep:x:65532:65532::/data:/sbin/nologin\n",
    )?;
    fs::write(context.join("root/etc/group"), "skep:x:65532:\n")?;
    Ok(fs::set_permissions(
        context.join("tmp"),
        fs::Permissions::from_mode(0o1777),
    )?)
}

/// A container that is removed at the end.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = output("docker", &["rm", "-fv", &self.0]);
    }
}

impl Container {
    fn skep(&self, words: &[&str]) -> Result<String> {
        output(
            "docker",
            &[&["exec", &self.0, "/usr/bin/skep"], words].concat(),
        )
    }
}

/// Runs it as locked in as the compose file does, and calls an agent in it.
fn check(image: &str) -> Result<()> {
    let id = output(
        "docker",
        &[
            "run",
            "-d",
            "--init",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--memory",
            "512m",
            "--pids-limit",
            "512",
            "--tmpfs",
            "/tmp:rw,nosuid,nodev,size=64m,mode=1777",
            "-v",
            "/backups",
            "-e",
            "SKEP_BACKUP_TO=/backups",
            image,
        ],
    )?;
    let container = Container(id.trim().to_owned());
    let began = Instant::now();
    loop {
        let state = output(
            "docker",
            &["inspect", "-f", "{{.State.Health.Status}}", &container.0],
        )?;
        match state.trim() {
            "healthy" => break,
            "starting" if began.elapsed() < PATIENCE => std::thread::park_timeout(LOOK),
            other => {
                shell("docker", &["logs", "--tail", "20", &container.0])?;
                bail!(
                    "the container is {other} after {} s",
                    began.elapsed().as_secs()
                );
            }
        }
    }
    println!("healthy after {:.1} s", began.elapsed().as_secs_f64());
    // The program itself is the only agent that there is in it.
    container.skep(&["deploy", "hello", "--command", "/usr/bin/skep __agent"])?;
    let said = container.skep(&["call", "hello", "/greet", "-d", r#"{"name":"world"}"#])?;
    ensure!(
        said.contains("world"),
        "an agent in the container answered {said:?}"
    );
    println!("an agent in it answers: {}", said.trim());
    let inspected = container.skep(&["inspect", "hello"])?;
    println!("{inspected}");
    println!("{}", container.skep(&["backup", "create"])?);
    println!("{}", container.skep(&["health"])?);
    Ok(())
}
