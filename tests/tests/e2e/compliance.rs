//! What a report says of a control changes when the thing is done that the control is about, and each
//! form of it is what it says it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};
use skep_audit::{PublicKey, verify};
use skep_tests::client::Client;
use skep_tests::{Server, eventually};
use tempfile::TempDir;

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};

const FRAMEWORKS: [&str; 4] = ["gdpr", "hipaa", "sox", "soc2"];

/// Reads documents with the models of OSCAL, which refuse what the format does not know.
const TRESTLE: &str = "
import pathlib, sys
from trestle.oscal.assessment_results import AssessmentResults
from trestle.oscal.catalog import Catalog
kind = {'catalog': Catalog, 'results': AssessmentResults}[sys.argv[1]]
for name in sys.argv[2:]:
    assert kind.oscal_read(pathlib.Path(name)) is not None, name
";

async fn report(client: &Client, framework: &str) -> Value {
    let answer = client.get(&format!("/api/v1/compliance/{framework}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn control<'a>(report: &'a Value, id: &str) -> &'a Value {
    let all = report["controls"].as_array().expect("controls");
    let mut all = all.iter();
    all.find(|it| it["id"] == id).expect("a control")
}

async fn state(client: &Client, id: &str) -> String {
    let framework = id.split('-').next().expect("a framework");
    let report = report(client, framework).await;
    let found = control(&report, id)["state"].as_str();
    found.expect("a state").to_owned()
}

/// Every proof of a report, by the log's key and the entries' own bytes.
async fn prove(client: &Client, report: &Value) -> usize {
    let key = report["public_key"].as_str().expect("a key");
    let key = PublicKey::parse(key).expect("a key");
    let mut proven = 0;
    let controls = report["controls"].as_array().expect("controls");
    for entry in controls
        .iter()
        .flat_map(|it| it["entries"].as_array().into_iter().flatten())
    {
        let path = format!("/api/v1/audit/entries/{}/proof", entry["number"]);
        let stored = client.get(&path).await.json();
        let bytes = stored["entry"].as_str().expect("an entry");
        let proof = entry["proof"].as_str().expect("a proof");
        let (number, _) = verify::entry(bytes.as_bytes(), proof, &key).expect("it is proven");
        assert_eq!(json!(number), entry["number"]);
        let other = bytes.replacen("default", "Default", 1);
        assert!(verify::entry(other.as_bytes(), proof, &key).is_err());
        proven += 1;
    }
    proven
}

async fn a_control_changes_by_what_is_done(engine: Engine) {
    let server = engine.server().await;
    let client = &server.client;
    // Nobody was refused yet.
    assert_eq!(state(client, "soc2-6").await, "not-assessable");
    let made = skep(&server, &["keys", "create", "eye", "--role", "viewer"]);
    let eye = Client::new(&client.url, made.out.trim());
    let refused = eye.get("/api/v1/compliance/soc2").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(state(client, "soc2-6").await, "satisfied");

    // Beside the last key of an owner, which stays, none counts for ever.
    assert_eq!(state(client, "soc2-4").await, "not-satisfied");
    let keys = client.get("/api/v1/keys").await.json();
    let keys = keys["items"].as_array().expect("keys");
    let of_eye = keys.iter().find(|it| it["name"] == "eye").expect("a key");
    let path = format!("/api/v1/keys/{}", of_eye["id"].as_str().expect("an id"));
    let request = client.request(Method::DELETE, &path, "");
    assert_eq!(client.send(request).await.expect("an answer").status, 204);
    assert_eq!(state(client, "soc2-4").await, "satisfied");
    assert_eq!(state(client, "soc2-1").await, "not-satisfied");
    assert_eq!(state(client, "soc2-7").await, "not-satisfied");
    assert_eq!(state(client, "soc2-12").await, "not-assessable");

    // Nothing shows yet that the log only grew: one head of each hour is kept. What is shown is in it.
    let soc2 = report(client, "soc2").await;
    let log = control(&soc2, "soc2-10");
    assert_eq!(log["state"], "not-assessable", "{log}");
    assert!(prove(client, &soc2).await > 0);
    // What was before the window is not looked at.
    let later = client
        .get("/api/v1/compliance/soc2?since=2100-01-01T00:00:00Z")
        .await;
    assert_eq!(control(&later.json(), "soc2-6")["state"], "not-assessable");

    for (path, status) in [
        ("pci", 404),
        ("soc2?format=pdf", 400),
        ("soc2?since=odd", 400),
    ] {
        let answer = client.get(&format!("/api/v1/compliance/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

async fn a_backup_counts_while_it_can_be_read(engine: Engine) {
    let server = engine.server().await;
    let client = &server.client;
    assert_eq!(state(client, "soc2-11").await, "not-satisfied");
    let begun = client.post_json("/api/v1/backups", &json!({})).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let name = begun.json()["name"].as_str().expect("a name").to_owned();
    eventually("the backup is done", async || {
        let found = client.get(&format!("/api/v1/backups/{name}")).await.json();
        (found["state"] == "done").then_some(())
    })
    .await;
    assert_eq!(state(client, "soc2-11").await, "satisfied");
    assert_eq!(state(client, "gdpr-7").await, "not-satisfied");
    let path = server.data().join("backups").join(&name);
    let mut bytes = fs::read(&path).expect("the backup");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    assert_eq!(state(client, "soc2-11").await, "not-satisfied");
}

async fn another_workspace_sees_its_own_affairs_only(engine: Engine) {
    let server = engine.server().await;
    let made = skep(&server, &["workspaces", "create", "red"]);
    let red = Client::new(&server.client.url, made.out.trim());
    let report = report(&red, "soc2").await;
    assert_eq!(report["workspace"], "red");
    for id in ["soc2-7", "soc2-11"] {
        assert_eq!(control(&report, id)["state"], "not-assessable");
    }
    assert_eq!(control(&report, "soc2-6")["count"], 0);
    let owner = &server.client;
    let eye = Client::new(&owner.url, "skep_nonsense");
    assert_eq!(eye.get("/api/v1/compliance/soc2").await.status, 401);
}

fn trestle(kind: &str, files: &[String]) {
    let mut command = Command::new("python3");
    let output = command.args(["-c", TRESTLE, kind]).args(files).output();
    let output = output.expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind}: {said}");
}

async fn every_form_has_every_control(server: &Server) {
    for framework in FRAMEWORKS {
        let report = |format: &str| {
            let words = [
                "compliance",
                "report",
                "--framework",
                framework,
                "--format",
                format,
            ];
            let said = skep(server, &words);
            assert_eq!(said.code, Some(0), "{framework} {format}: {}", said.err);
            said.out
        };
        // Every control is in every form, with what is said of it.
        let api = self::report(&server.client, framework).await;
        let controls = api["controls"].as_array().expect("controls");
        assert!(controls.len() >= 5, "{framework}");
        let (html, text, oscal) = (report("html"), report("markdown"), report("oscal"));
        assert!(
            html.starts_with("<!doctype html>") && !html.contains("<script"),
            "{html}"
        );
        assert!(!text.contains('%'), "no share of anything is told: {text}");
        for control in controls {
            let id = control["id"].as_str().expect("an id");
            assert!(html.contains(id) && oscal.contains(id), "{id}");
            assert!(text.contains(&format!("## {id}: ")), "{id}: {text}");
        }
    }
}

async fn reports_are_what_their_forms_say(engine: Engine) {
    let server = engine.server().await;
    let folder = TempDir::new().expect("a folder");
    let catalogs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/compliance/catalogs");
    let mut results = Vec::new();
    for framework in FRAMEWORKS {
        let file = folder
            .path()
            .join(format!("{framework}.json"))
            .display()
            .to_string();
        let args = [
            "compliance",
            "report",
            "--framework",
            framework,
            "--format",
            "oscal",
        ];
        let said = skep(&server, &[&args[..], &["--file", &file]].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        results.push(file);
    }
    trestle("results", &results);
    let all = FRAMEWORKS.map(|it| catalogs.join(format!("{it}.json")).display().to_string());
    trestle("catalog", &all);

    every_form_has_every_control(&server).await;
    let text = skep(&server, &["compliance", "report", "--framework", "gdpr"]).out;
    assert!(
        text.contains("## gdpr-11: There is a lawful basis"),
        "{text}"
    );
    assert!(text.contains("A person brings:"), "{text}");
    let checked = skep(&server, &["compliance", "check", "--framework", "hipaa"]);
    assert_eq!(checked.code, Some(5), "{}", checked.err);
    assert!(checked.out.contains("hipaa-12"), "{}", checked.out);
    let answer = server
        .client
        .get("/api/v1/compliance/gdpr?format=html")
        .await;
    assert!(
        answer
            .header("content-disposition")
            .starts_with("attachment")
    );
}

async fn under_the_gdpr_who_takes_data_out_says_what_for(engine: Engine) {
    let setup = engine.setup(&[("SKEP_COMPLIANCE_FRAMEWORKS", "gdpr")]);
    let server = Server::start_with(setup).await;
    server.deploy("a", json!({})).await;
    let folder = TempDir::new().expect("a folder");
    let [lines, archive] = ["out.jsonl", "out.tar"].map(|it| folder.path().join(it));
    let (lines, archive) = (lines.display().to_string(), archive.display().to_string());
    let exports: [(&str, &[&str]); 2] = [
        ("audit:export", &["audit", "export", "--file", &lines]),
        (
            "agent:export",
            &["export", "a", "--with-data", "--live", "--file", &archive],
        ),
    ];
    for (action, args) in exports {
        let refused = skep(&server, args);
        assert_ne!(refused.code, Some(0), "{}", refused.out);
        assert!(refused.err.contains("--purpose"), "{}", refused.err);
        let long = "x".repeat(201);
        let refused = skep(&server, &[&["--purpose", &long], args].concat());
        assert_ne!(refused.code, Some(0), "{}", refused.out);
        let done = skep(
            &server,
            &[&["--purpose", "Fräulein's ticket 4711"], args].concat(),
        );
        assert_eq!(done.code, Some(0), "{}", done.err);
        let path = format!("/api/v1/audit/entries?action={action}");
        let all = server.client.get(&path).await.json();
        let all = all["items"].as_array().expect("entries");
        let of = |decision: &str| {
            let mut found = all.iter().map(|it| &it["entry"]);
            found
                .find(|it| it["decision"] == decision)
                .cloned()
                .expect("an entry")
        };
        assert_eq!(of("allow")["reason"], "Fräulein's ticket 4711");
        assert_eq!(of("deny")["reason"], Value::Null);
    }
    let content = "/api/v1/backups/skep-20261121T122400.123456Z.backup/content";
    let refused = server.client.get(content).await;
    assert_eq!(
        refused.json()["code"],
        "purpose-needed",
        "{}",
        refused.text()
    );
    // Who only looks is asked nothing.
    assert_eq!(server.client.get("/api/v1/audit/entries").await.status, 200);
}

on_each_engine!(
    a_control_changes_by_what_is_done,
    a_backup_counts_while_it_can_be_read,
    another_workspace_sees_its_own_affairs_only,
    reports_are_what_their_forms_say,
    under_the_gdpr_who_takes_data_out_says_what_for,
);
