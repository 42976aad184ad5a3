//! `skep build`: images by the real engine, deployed and called; and what goes wrong, told with its
//! step. No registry is needed: everything is `FROM scratch`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use skep_tests::Server;
use skep_tests::server::skep_binary;
use tempfile::TempDir;

use crate::docker::{Image, Traces, docker};

/// An agent that needs no library.
fn alone(folder: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/alone.c");
    let program = folder.join("alone");
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-o"]).arg(&program).arg(source);
    let made = cc.output().expect("cc runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    program
}

fn build(folder: &Path, arguments: &[&str]) -> Output {
    let mut skep = Command::new(skep_binary());
    skep.args(["-o", "json", "build"]).args(arguments);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let skep = skep.current_dir(folder).env_clear().env("HOME", folder);
    skep.env("PATH", path).output().expect("skep runs")
}

fn built(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON alone")
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn reference(name: &str) -> Image {
    // Removed at the end, also when the test fails.
    Image(format!("skep-e2e-{name}:{}", std::process::id()))
}

async fn says(server: &Server, image: &Image, expected: &str) {
    server.deploy_spec(image.spec("a")).await;
    let answer = server.post("a", "/anything", "hello").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, expected));
}

#[tokio::test]
async fn a_folder_with_a_dockerfile_becomes_an_agent() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    alone(folder.path());
    fs::create_dir(at("more")).expect("a folder");
    fs::write(at("more/said"), "from a Dockerfile").expect("a file");
    fs::write(at("more/left.out"), "secret").expect("a file");
    fs::write(at(".dockerignore"), "**/*.out\nDockerfile\n").expect("a file");
    let lines = "FROM scratch\nCOPY alone /alone\nCOPY more /\nCMD [\"/alone\"]\n";
    fs::write(at("Dockerfile"), lines).expect("a file");
    let image = reference("build-folder");
    let output = build(folder.path(), &[".", "-t", &image.0]);
    let shown = built(&output);
    assert_eq!(shown["image"], image.0.as_str());
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &image.0]);
    assert_eq!(shown["id"], id.as_str());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("Step 2/4 : COPY alone /alone"), "{told}");
    let server = Server::start().await;
    let traces = Traces(server.data());
    says(&server, &image, "from a Dockerfile").await;
    let names = format!("docker export {} | tar -t", traces.containers()[0]);
    let names = Command::new("sh")
        .args(["-c", &names])
        .output()
        .expect("sh runs");
    let names = String::from_utf8_lossy(&names.stdout).into_owned();
    assert!(
        names.contains("said") && !names.contains("left.out"),
        "{names}"
    );
}

#[tokio::test]
async fn one_program_becomes_an_agent() {
    let folder = TempDir::new().expect("a folder");
    let program = alone(folder.path()).display().to_string();
    let image = reference("build-binary");
    built(&build(
        folder.path(),
        &["--binary", &program, "-t", &image.0],
    ));
    let about: Value =
        serde_json::from_str(&docker(&["image", "inspect", &image.0])).expect("JSON");
    assert_eq!(about[0]["Config"]["User"], "65532:65532");
    assert_eq!(about[0]["Config"]["Entrypoint"], json!(["/agent"]));
    let server = Server::start().await;
    let _traces = Traces(server.data());
    says(&server, &image, "alone").await;
}

#[test]
fn what_goes_wrong_is_told_with_its_step() {
    let folder = TempDir::new().expect("a folder");
    let image = reference("build-wrong");
    let tag = ["-t", &image.0];
    let of = |text: &str, more: &[&str]| {
        fs::write(folder.path().join("Dockerfile"), text).expect("a file");
        refusal(&build(folder.path(), &[&tag[..], more].concat()))
    };
    let missing = of("FROM scratch\nCOPY nowhere /\n", &[]);
    assert!(missing.contains("Step 2/2 : COPY nowhere /: "), "{missing}");
    assert!(
        of("FORM scratch\n", &[]).contains("FORM"),
        "an unknown word"
    );
    let elsewhere = of("FROM scratch\n", &["-f", "nowhere/Dockerfile"]);
    assert!(elsewhere.contains("nowhere/Dockerfile"), "{elsewhere}");
    let dynamic = of("", &["--binary", &skep_tests::agent_binary()]);
    assert!(dynamic.contains("needs libraries"), "{dynamic}");
    let known = Command::new("docker")
        .args(["image", "inspect", &image.0])
        .output();
    assert!(
        !known.expect("docker runs").status.success(),
        "no image was left"
    );
}

#[test]
fn without_an_engine_it_says_what_to_do() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("Dockerfile"), "FROM scratch").expect("a file");
    fs::write(
        folder.path().join("skep.toml"),
        "[docker]\nsocket = \"/nowhere/docker.sock\"\n",
    )
    .expect("a file");
    let said = refusal(&build(folder.path(), &["-t", "skep-e2e-none"]));
    assert!(said.contains("install it"), "{said}");
}
