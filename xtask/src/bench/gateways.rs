//! The gateways that `bench egress` measures, each before the same provider: LiteLLM, TensorZero, and Skep with keys in
//! its vault, a budget, prices and its audit log.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::drive::{ask, ok};
use super::servers::{Process, Skep, shipped, wait_for};
use crate::setup;
use crate::shell::root;

/// The key of the provider, and of LiteLLM.
const KEY: &str = "sk-bench-0123456789abcdef0123456789abcdef";
/// The model: one of the price table.
pub(super) const MODEL: &str = "gpt-4o-mini";
/// The same to the provider, whose streams begin and say nothing more.
pub(super) const STALLED: &str = "gpt-4o-mini+stall";
/// LiteLLM takes long to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody who answers chats, in one way or another.
pub(super) struct Gateway {
    pub(super) name: &'static str,
    /// Where chats are asked for.
    pub(super) url: String,
    /// What the model is called there.
    pub(super) model: String,
    pub(super) key: String,
    /// Whose CPU time and memory count; none for the provider itself.
    pub(super) pid: Option<u32>,
    _process: Option<Process>,
    _skep: Option<Skep>,
}

/// The provider.
pub(super) struct Provider {
    _process: Process,
    pub(super) url: String,
}

/// The address that a process prints when it listens.
fn told(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("listening on "))?;
    text.contains('\n').then(|| line.to_owned())
}

fn start(command: &mut Command, log: &Path) -> Result<Process> {
    let (out, err) = (
        fs::File::create(log)?,
        fs::File::create(log.with_extension("err"))?,
    );
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    Ok(Process(child.with_context(|| {
        format!("{} does not run", log.display())
    })?))
}

/// Starts the provider of the tests: it answers at once with what the last message says.
pub(super) fn provider(folder: &Path) -> Result<Provider> {
    let path = root()
        .join(crate::generate::target())
        .join("release/skep-upstream");
    let log = folder.join("provider.log");
    let process = start(Command::new(path).env("UPSTREAM_KEYS", KEY), &log)?;
    let url = wait_for("the provider", PATIENCE, || told(&log))?;
    Ok(Provider {
        _process: process,
        url,
    })
}

/// The provider itself.
pub(super) fn direct(provider: &Provider) -> Gateway {
    Gateway {
        name: "direct",
        url: format!("{}/v1/chat/completions", provider.url),
        model: MODEL.to_owned(),
        key: KEY.to_owned(),
        pid: None,
        _process: None,
        _skep: None,
    }
}

/// LiteLLM's proxy, with one worker.
pub(super) fn litellm(folder: &Path, provider: &Provider) -> Result<Gateway> {
    let programs = setup::gateways()?;
    let config = folder.join("litellm.yaml");
    let text = format!(
        "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n      \
         api_base: {}/v1\n      api_key: {KEY}\ngeneral_settings:\n  master_key: {KEY}\n",
        provider.url
    );
    fs::write(&config, text)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let process = start(
        Command::new(programs.join("litellm"))
            .args(["--host", "127.0.0.1", "--num_workers", "1", "--port"])
            .arg(port.to_string())
            .arg("--config")
            .arg(&config)
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("LITELLM_LOG", "ERROR"),
        &folder.join("litellm.log"),
    )?;
    wait_for("LiteLLM", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    })?;
    Ok(Gateway {
        name: "LiteLLM",
        url: format!("http://127.0.0.1:{port}/v1/chat/completions"),
        model: MODEL.to_owned(),
        key: KEY.to_owned(),
        pid: Some(process.0.id()),
        _process: Some(process),
        _skep: None,
    })
}

/// TensorZero's gateway, with nothing that it writes down.
pub(super) fn tensorzero(folder: &Path, provider: &Provider) -> Result<Gateway> {
    let programs = setup::gateways()?;
    let config = folder.join("tensorzero.toml");
    let text = format!(
        "[gateway]\nobservability.enabled = false\n[models.bench]\nrouting = [\"up\"]\n[models.bench.providers.up]\n\
         type = \"openai\"\nmodel_name = \"{MODEL}\"\napi_base = \"{}/v1\"\napi_key_location = \"env::BENCH_KEY\"\n",
        provider.url
    );
    fs::write(&config, text)?;
    let log = folder.join("tensorzero.log");
    let process = start(
        Command::new(programs.join("python"))
            .arg(root().join("xtask/gateways/serve_tensorzero.py"))
            .arg(&config)
            .env("BENCH_KEY", KEY)
            .env("RUST_LOG", "error"),
        &log,
    )?;
    let url = wait_for("TensorZero", PATIENCE, || told(&log))?;
    Ok(Gateway {
        name: "TensorZero",
        url: format!("{url}/chat/completions"),
        model: "tensorzero::model_name::bench".to_owned(),
        key: KEY.to_owned(),
        pid: Some(process.0.id()),
        _process: Some(process),
        _skep: None,
    })
}

/// Skep: the key from its vault, a price, a budget, policies, the ledger and the audit log.
pub(super) fn skep(folder: &Path, provider: &Provider, strict: bool) -> Result<Gateway> {
    let name = if strict { "Skep, strict" } else { "Skep" };
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let prices = folder.join("prices.toml");
    let text = format!(
        "version = \"bench\"\n[[provider]]\nname = \"openai\"\n[[provider.model]]\nnames = [\"{STALLED}\"]\n\
         input = \"1\"\noutput = \"1\"\nmost_output = 100\n"
    );
    fs::write(&prices, text)?;
    let prices = prices.to_string_lossy();
    let env = [
        ("SKEP_MODELS_PRICES", prices.as_ref()),
        ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
        ("SKEP_MODELS_STRICT", if strict { "true" } else { "false" }),
    ];
    let skep = Skep::start_of((&shipped(), &folder), &[], &env)?;
    let secret = json!({ "name": "keys/bench", "value": KEY });
    ok(ask(&skep, "POST", "/api/v1/secrets", &secret.to_string())?)?;
    let provided = json!({
        "kind": "openai", "url": format!("{}/v1", provider.url), "secrets": ["keys/bench"],
    });
    let path = "/api/v1/models/providers/openai";
    ok(ask(&skep, "PUT", path, &provided.to_string())?)?;
    let budget = json!({ "of": "workspace", "whose": "", "window": "month", "money": "1000000" });
    let path = "/api/v1/models/budgets/all";
    ok(ask(&skep, "PUT", path, &budget.to_string())?)?;
    Ok(Gateway {
        name,
        url: format!("{}/llm/openai/v1/chat/completions", skep.url),
        model: MODEL.to_owned(),
        key: skep.key.clone(),
        pid: Some(skep.process.0.id()),
        _process: None,
        _skep: Some(skep),
    })
}
