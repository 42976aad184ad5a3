//! Agents on frameworks of the registries, run as they are: what they read is what Skep gives them, and they ask models
//! and tools through its doors.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skep_tests::mcp::Script;
use skep_tests::packages;

use crate::mcp::{approve, check, put};
use crate::models::House;

/// The tool of the server of tools, as it is named at the door to all of them, and what it says.
const TOOL: &str = "tools__test_simple_text";
const SAID: &str = "This is a simple text response for testing.";
/// What the server of tools takes.
const MCP_KEY: &str = "canary-key-of-the-tools";

/// A framework, and the providers that its agent knows.
struct Framework {
    name: &'static str,
    script: &'static str,
    providers: &'static [&'static str],
}

const ALL: [&str; 3] = ["openai", "anthropic", "google"];

const LANGGRAPH: Framework = Framework {
    name: "langgraph",
    script: "python/langgraph_agent.py",
    providers: &ALL,
};
const OPENAI_AGENTS: Framework = Framework {
    name: "openai-agents",
    script: "python/openai_agents_agent.py",
    providers: &["openai"],
};
const PYDANTIC_AI: Framework = Framework {
    name: "pydantic-ai",
    script: "python/pydantic_ai_agent.py",
    providers: &ALL,
};
const AI_SDK: Framework = Framework {
    name: "ai-sdk",
    script: "node/ai_sdk_agent.mjs",
    providers: &["openai", "anthropic"],
};

/// What tells a script's model apart: its first name.
fn base(provider: &str) -> &'static str {
    match provider {
        "openai" => "gpt-4o-mini",
        "anthropic" => "claude-sonnet-4-5",
        _ => "gemini-2.5-flash",
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/frameworks")
}

/// The agent of a framework, as somebody would deploy it; nothing in it is about Skep.
fn spec(framework: &Framework, folder: &Path) -> Value {
    let script = scripts().join(framework.script);
    let (packages, command) = if framework.script.starts_with("python") {
        let packages = packages("frameworks/python");
        let python = packages.join(".venv/bin/python");
        (packages, json!([python, script]))
    } else {
        // Node.js finds packages beside the script.
        let packages = packages("frameworks/node");
        let own = folder.join("agent.mjs");
        std::fs::copy(script, &own).expect("a copy");
        let modules = folder.join("node_modules");
        if !modules.exists() {
            std::os::unix::fs::symlink(packages.join("node_modules"), modules).expect("a link");
        }
        (packages, json!(["node", own]))
    };
    assert!(packages.exists(), "run `cargo xtask set-up`");
    json!({
        "name": framework.name, "command": command, "health": { "path": "/ping" },
        "env": { "PYTHONDONTWRITEBYTECODE": "1" },
        "volumes": [
            { "source": packages, "read_only": true },
            { "source": scripts(), "read_only": true },
            { "source": folder, "read_only": true },
        ],
    })
}

/// A house with a server of tools, whose reading tools are approved.
async fn house() -> (House, Script) {
    let tools = Script::start("server.mjs", &[("MCP_KEY", MCP_KEY)]).await;
    let house = House::start().await;
    let client = &house.server.client;
    let secret = json!({ "name": "keys/tools", "value": MCP_KEY });
    let made = client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let settings = json!({
        "url": format!("{}/mcp", tools.url),
        "headers": { "Authorization": "Bearer ${secret:keys/tools}" },
    });
    let made = put(client, "/api/v1/mcp/servers/tools", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "tools").await;
    approve(client, "tools", |_| "read").await;
    (house, tools)
}

/// The events of a stream: what was said, and the tools that were used.
fn told(stream: &str) -> (String, Vec<Value>) {
    let events: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect();
    let texts = events.iter().filter_map(|it| it["text"].as_str());
    let tools = events.iter().filter(|it| it["tool"].is_string());
    (
        texts.collect(),
        tools.map(|it| it["tool"].clone()).collect(),
    )
}

/// Asks an agent, at once and as a stream, and looks at what it says and at what its provider got.
async fn asks(house: &House, framework: &Framework, provider: &str, mcp: bool) {
    let (name, server) = (framework.name, &house.server);
    let (tool, answer) = match mcp {
        true => (TOOL, SAID),
        false => ("weather", "sunny in Paris"),
    };
    let model = format!("{}+tool={tool}+prompt=10+as={name}", base(provider));
    let asked = json!({ "message": "hi", "provider": provider, "model": model, "mcp": mcp });
    let what = format!("{name}, {provider}, {mcp}");
    let said = server.post(name, "/ask", &asked.to_string()).await;
    assert_eq!(said.status, 200, "{what}: {}", said.text());
    let words = answer.split(' ').count();
    // A call of a tool has five tokens.
    let expected = json!({ "answer": answer, "tools": [tool], "tokens": 5 + words });
    assert_eq!(said.json(), expected, "{what}");
    let streamed = server.post(name, "/stream", &asked.to_string()).await;
    assert_eq!(streamed.status, 200, "{what}: {}", streamed.text());
    let (text, tools) = told(&streamed.text());
    assert_eq!(
        (text.as_str(), tools),
        (answer, vec![json!(tool)]),
        "{what}"
    );
    // The framework's own loop, twice: a call of the tool, its result, the answer.
    let seen = house.upstream.seen(&model).await;
    assert_eq!(seen.len(), 4, "{what}");
    let token = token(house, name).await;
    for (at, one) in seen.iter().enumerate() {
        let headers = one["headers"].to_string();
        assert!(headers.contains(&house.upstream.key), "{what}: {headers}");
        assert!(!one.to_string().contains(&token), "{what}: {one}");
        let body = one["raw"].as_str().expect("a body");
        assert!(body.contains(tool), "{what}: {body}");
        assert_eq!(body.contains(answer), at % 2 == 1, "{what}: {body}");
        assert_eq!(one["ended"], "whole", "{what}");
    }
    let usage = house.usage().await;
    let items = usage["items"].as_array().expect("a list");
    let own = items.iter().find(|it| it["model"] == model.as_str());
    let own = own.expect("its usage");
    assert_eq!(
        json!([
            own["of"],
            own["whose"],
            own["provider"],
            own["requests"],
            own["failed"]
        ]),
        json!(["agent", name, provider, 4, 0]),
        "{what}"
    );
    assert_eq!(
        json!([own["input"], own["output"]]),
        json!([40, 2 * (5 + words)]),
        "{what}"
    );
}

/// The token that an agent has, and nothing else: no key of a provider or of tools is where it is.
async fn token(house: &House, name: &str) -> String {
    let pid = house.server.agent(name).await["instance"]["pid"].as_u64();
    let pid = pid.expect("a pid");
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.contains(&house.upstream.key) && !text.contains(MCP_KEY));
    let own = |name: &str| {
        let mut pairs = text.split('\0').filter_map(|it| it.split_once('='));
        let found = pairs.find(|(own, _)| *own == name);
        found.map(|(_, value)| value.to_owned())
    };
    // Traces of the Agents SDK would take the token to OpenAI.
    assert_eq!(own("OPENAI_AGENTS_DISABLE_TRACING").as_deref(), Some("1"));
    own("SKEP_TOKEN").expect("a token")
}

async fn runs_as_it_is(framework: &Framework) {
    let (house, _tools) = house().await;
    let folder = tempfile::tempdir().expect("a folder");
    house
        .server
        .deploy_spec(spec(framework, folder.path()))
        .await;
    for provider in framework.providers {
        asks(&house, framework, provider, false).await;
        asks(&house, framework, provider, true).await;
    }
    // Each use of the tool is the agent's, in the ledger of tools.
    let used = house.server.client.get("/api/v1/mcp/usage").await.json();
    let uses = used["items"].as_array().expect("a list");
    let own = uses.iter().find(|it| it["whose"] == framework.name);
    let own = own.unwrap_or_else(|| panic!("nothing of it in {used}"));
    assert_eq!(own["requests"], 2 * framework.providers.len(), "{used}");
    let log = house.server.log();
    assert!(!log.contains(&house.upstream.key) && !log.contains(MCP_KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langgraph_runs_as_it_is() {
    runs_as_it_is(&LANGGRAPH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_agents_sdk_runs_as_it_is() {
    runs_as_it_is(&OPENAI_AGENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pydantic_ai_runs_as_it_is() {
    runs_as_it_is(&PYDANTIC_AI).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ai_sdk_runs_as_it_is() {
    runs_as_it_is(&AI_SDK).await;
}

/// A block of a page that is run, and what it prints.
pub(crate) struct Example {
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) prints: String,
}

/// The blocks of a page: each that is run, with the text below it.
pub(crate) fn examples(page: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|it| *it != "```").collect();
        let text = block.join("\n");
        match info {
            "text" => found.last_mut().expect("a block before it").prints = text,
            language => found.push(Example {
                language: language.to_owned(),
                text,
                prints: String::new(),
            }),
        }
    }
    found
}

/// Runs a block of a page as it stands there, with the packages of that page.
async fn prints(house: &House, page: &str, example: &Example) -> String {
    let (url, key) = (&house.server.client.url, &house.server.client.key);
    let text = example.text.replace("http://127.0.0.1:7537", url);
    let is_python = example.language == "python";
    let of_sdk = ["openai-", "anthropic-", "google-"];
    let is_sdk = of_sdk.iter().any(|it| page.starts_with(it)) && page != "openai-agents.md";
    let packages = packages(match (is_sdk, is_python) {
        (true, true) => "python",
        (true, false) => "node",
        (false, true) => "frameworks/python",
        (false, false) => "frameworks/node",
    });
    let mut command = match is_python {
        true => tokio::process::Command::new(packages.join(".venv/bin/python")),
        false => tokio::process::Command::new("node"),
    };
    match is_python {
        true => command.arg("-c").arg(text),
        false => command.args(["--input-type=module", "-e"]).arg(text),
    };
    command.current_dir(&packages).env_clear();
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let output = command
        .env("SKEP_API_KEY", key)
        // What an agent would find.
        .env("SKEP_TOKEN", key)
        .env("SKEP_MCP_URL", format!("{url}/mcp"))
        .env("GOOGLE_GEMINI_BASE_URL", format!("{url}/llm/google"))
        .env("GEMINI_API_KEY", key)
        .kill_on_drop(true)
        .output();
    let output = output.await.expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{page}: {error}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_the_book_print_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sdks");
    let (house, _tools) = house().await;
    let index = std::fs::read_to_string(folder.join("README.md")).expect("the index");
    let mut run = 0;
    for entry in std::fs::read_dir(&folder).expect("the pages").flatten() {
        let page = entry.file_name().to_string_lossy().into_owned();
        if page == "README.md" {
            continue;
        }
        assert!(
            index.contains(&format!("({page})")),
            "{page} is not in the index"
        );
        // Skep's own SDKs have tests of their own, which run their pages.
        if page.starts_with("skep-") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).expect("a page");
        let all = examples(&text);
        assert!(!all.is_empty(), "{page} has nothing that runs");
        for example in &all {
            assert!(!example.prints.is_empty(), "{page}: {}", example.text);
            assert_eq!(
                prints(&house, &page, example).await,
                example.prints,
                "{page}"
            );
            run += 1;
        }
    }
    assert!(run >= 14, "{run}");
}
