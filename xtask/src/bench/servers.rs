//! The servers of a benchmark: Skep with an agent that is nginx, and nginx as a proxy before it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::shell::root;

/// Time within which a server must be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A process that ends with the benchmark.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

/// A running Skep.
pub(crate) struct Skep {
    binary: PathBuf,
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) ready_after: Duration,
    data: PathBuf,
}

/// Where the release binary is, unless the environment names another.
pub(crate) fn binary() -> PathBuf {
    built("release")
}

/// The same of the binary that is shipped.
pub(crate) fn shipped() -> PathBuf {
    built("dist")
}

fn built(profile: &str) -> PathBuf {
    let given = std::env::var_os("SKEP_BIN").map(PathBuf::from);
    let target = root().join(crate::generate::target());
    given.unwrap_or_else(|| target.join(profile).join("skep"))
}

/// Waits for something that another process brings about.
pub(crate) fn wait<T>(what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
    wait_for(what, PATIENCE, look)
}

/// [`wait`], for what takes longer.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < patience {
        if let Some(found) = look() {
            return Ok(found);
        }
        std::thread::park_timeout(LOOK);
    }
    bail!("{what} did not come within {} s", patience.as_secs())
}

impl Skep {
    /// Starts a server on a new data folder, or on one that another has left.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[])
    }

    /// [`Skep::start`], with flags.
    pub(crate) fn start_with(folder: &Path, flags: &[&str]) -> Result<Self> {
        Self::start_as(&binary(), folder, flags)
    }

    /// [`Skep::start_with`], of another binary.
    pub(crate) fn start_as(binary: &Path, folder: &Path, flags: &[&str]) -> Result<Self> {
        Self::start_of((binary, folder), flags, &[])
    }

    /// [`Skep::start_as`], with environment variables.
    pub(crate) fn start_of(
        (binary, folder): (&Path, &Path),
        flags: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        // What a dead server left must not be taken for the new one's.
        let _ = fs::remove_file(data.join("server.json"));
        let log = fs::File::create(folder.join("skep.log"))?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .args(flags)
            // It is ours, and the server refuses keys that it does not know.
            .env_remove("SKEP_BIN")
            .env("SKEP_LOG_LEVEL", "warn")
            .env("SKEP_LIMITS_CONNECTIONS", "10000")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the release binary does not run")?;
        let process = Process(child);
        let place: Value = wait("the server", || {
            serde_json::from_str(&fs::read_to_string(data.join("server.json")).ok()?).ok()
        })?;
        let ready_after = started.elapsed();
        let url = place["url"]
            .as_str()
            .context("server.json has no url")?
            .to_owned();
        let key = fs::read_to_string(data.join("admin.key"))?
            .trim()
            .to_owned();
        Ok(Self {
            binary: binary.to_owned(),
            process,
            url,
            key,
            ready_after,
            data,
        })
    }

    /// Runs the CLI against this server and gives what it prints.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(["--server", &self.url, "-o", "json", "--data"])
            .arg(&self.data)
            .env_remove("SKEP_BIN")
            .args(args)
            .output()?;
        if !output.status.success() {
            bail!(
                "skep {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Deploys nginx as an agent that answers everything at once; tells its port.
    pub(crate) fn deploy(&self, folder: &Path, name: &str, durability: &str) -> Result<u64> {
        let script = folder.join(format!("{name}.sh"));
        let conf = folder.join(format!("{name}.conf"));
        fs::write(&script, upstream_script(&conf))?;
        let command = format!("sh {}", script.display());
        let spec = serde_json::json!({
            "name": name,
            "command": [command],
            // nginx gives folders away when root starts it, which no agent may.
            "sandbox": "off",
            "calls": { "durability": durability, "concurrency": 1024 },
        });
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, spec.to_string())?;
        self.cli(&["deploy", "-f", &file.to_string_lossy()])?;
        let agent = self.cli(&["inspect", name])?;
        agent["instance"]["port"]
            .as_u64()
            .context("the agent has no port")
    }
}

fn upstream_script(conf: &Path) -> String {
    format!(
        "cat > {conf} <<END\n\
         pid {conf}.pid; error_log stderr; worker_processes 1; daemon off;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000;\n\
         client_body_temp_path {conf}.tmp;\n\
         server {{ listen 127.0.0.1:$PORT backlog=4096;\n\
         location / {{ default_type application/json; return 200 '{{\"ok\":true}}'; }} }} }}\n\
         END\n\
         exec nginx -c {conf}\n",
        conf = conf.display()
    )
}

/// nginx as a plain proxy before a port; tells its own port.
pub(crate) fn nginx_proxy(folder: &Path, upstream: u64) -> Result<(Process, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let conf = folder.join("proxy.conf");
    fs::write(
        &conf,
        format!(
            "pid {0}.pid; error_log stderr; worker_processes 2; daemon off;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000;\n\
             client_body_temp_path {0}.body; proxy_temp_path {0}.proxy;\n\
             upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port} backlog=4096;\n\
             location / {{ proxy_pass http://up; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host $host; }} }} }}\n",
            conf.display()
        ),
    )?;
    let log = fs::File::create(folder.join("proxy.log"))?;
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let process = Process(child);
    wait("nginx", || TcpStream::connect(("127.0.0.1", port)).ok())?;
    Ok((process, port))
}
