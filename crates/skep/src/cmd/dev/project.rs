//! What is in a folder: the agent's specification, from a manifest or guessed, and how it is built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use skep_api::AgentSpec;
use tokio::process::Command;

use super::DevArgs;
use crate::cmd::deploy::variable;
use crate::cmd::init::folder_name;
use crate::failure::{Exit, Failure, Result};

/// Manifests, in the order in which they are looked for.
const MANIFESTS: [&str; 4] = ["agent.yaml", "agent.yml", "skep.yaml", "skep.yml"];
/// Programs that are run when nothing says what to run.
const PYTHON: [&str; 4] = ["agent.py", "main.py", "app.py", "server.py"];
const NODE: [&str; 5] = [
    "agent.mjs",
    "server.mjs",
    "index.mjs",
    "server.js",
    "index.js",
];
/// A crash at the start is told at once: the next change tries again.
const CRASHES: u32 = 1;
/// Each change is a revision of its own, though its specification may be the same.
const CHANGE_LABEL: &str = "dev-change";

/// A folder with an agent in it.
pub(super) struct Project {
    pub(super) folder: PathBuf,
    name: Option<String>,
    env: Vec<String>,
    words: Vec<String>,
}

/// What is deployed, and how that was found.
pub(super) struct Found {
    pub(super) spec: AgentSpec,
    pub(super) how: String,
}

impl Project {
    pub(super) fn new(args: &DevArgs) -> Result<Self> {
        let folder = std::fs::canonicalize(&args.dir)
            .map_err(|error| Failure::usage(format!("{}: {error}", args.dir.display())))?;
        if !folder.is_dir() {
            return Err(Failure::usage(format!(
                "{} is no folder",
                args.dir.display()
            )));
        }
        Ok(Self {
            folder,
            name: args.name.clone(),
            env: args.env.clone(),
            words: args.words.clone(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// The specification as the folder is now, after a build where there is something to build.
    pub(super) async fn found(&self, change: u64) -> Result<Found> {
        let manifest = MANIFESTS.into_iter().find(|name| self.has(name));
        let (mut spec, mut how) = match manifest {
            Some(name) => (self.manifest(name)?, name.to_owned()),
            None => (
                AgentSpec::new(folder_name(&self.folder, "agent"), Vec::new()),
                String::new(),
            ),
        };
        if let Some(name) = &self.name {
            spec.name.clone_from(name);
        }
        if !self.words.is_empty() {
            spec.command.clone_from(&self.words);
            "the command line".clone_into(&mut how);
        } else if self.is_cargo(&spec) {
            let programs = build(&self.folder).await?;
            spec.command = with_program(spec.command, programs)?;
            how = format!(
                "{how}{}Cargo.toml",
                if how.is_empty() { "" } else { " and " }
            );
        } else if spec.command.is_empty() && spec.image.is_none() {
            let guessed = self.guess()?;
            how = format!("a guess: `{}`", guessed.join(" "));
            spec.command = guessed;
        }
        if spec.workdir.is_none() && spec.image.is_none() {
            spec.workdir = Some(self.folder.to_string_lossy().into_owned());
        }
        for pair in &self.env {
            let (key, value) = variable(pair)?;
            spec.env.insert(key, value);
        }
        spec.restart.crash_loop_after.get_or_insert(CRASHES);
        spec.labels
            .insert(CHANGE_LABEL.to_owned(), change.to_string());
        Ok(Found { spec, how })
    }

    fn manifest(&self, name: &str) -> Result<AgentSpec> {
        let path = self.folder.join(name);
        let mut agents = crate::cmd::manifest::read(&path)?.agents;
        match (agents.pop(), agents.is_empty()) {
            (Some(spec), true) => Ok(spec),
            _ => Err(Failure::usage(format!("{name} holds several agents"))
                .hint("`skep dev` runs one; `skep deploy -f` deploys them all.")),
        }
    }

    /// Whether cargo makes the program.
    fn is_cargo(&self, spec: &AgentSpec) -> bool {
        let program = spec.command.first().map(String::as_str).unwrap_or_default();
        self.has("Cargo.toml")
            && spec.image.is_none()
            && (program.is_empty() || program.contains("target/"))
    }

    /// The command of a folder without a manifest.
    fn guess(&self) -> Result<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        if let Some(words) = self.package()? {
            return Ok(words);
        }
        if let Some(program) = PYTHON.into_iter().find(|name| self.has(name)) {
            let own = "./.venv/bin/python";
            let python = if self.folder.join(own).exists() {
                own
            } else {
                "python3"
            };
            return Ok(words(&[python, program]));
        }
        if let Some(program) = NODE.into_iter().find(|name| self.has(name)) {
            return Ok(words(&["node", program]));
        }
        let detail = format!("nothing in {} says what to run", self.folder.display());
        Err(Failure::usage(detail)
            .hint("Write an agent.yaml, give a command after `--`, or begin with `skep init`."))
    }

    /// What package.json starts.
    fn package(&self) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        struct Package {
            #[serde(default)]
            scripts: Scripts,
            main: Option<String>,
        }
        #[derive(Deserialize, Default)]
        struct Scripts {
            start: Option<String>,
        }
        if !self.has("package.json") {
            return Ok(None);
        }
        let text = std::fs::read(self.folder.join("package.json"))?;
        let package: Package = serde_json::from_slice(&text)
            .map_err(|error| Failure::usage(format!("package.json: {error}")))?;
        Ok(match (package.scripts.start, package.main) {
            // Without npm in between, the agent hears its signals.
            (Some(start), _) if start.starts_with("node ") => Some(vec![start]),
            (Some(_), _) => Some(vec!["npm".to_owned(), "start".to_owned()]),
            (None, Some(main)) => Some(vec!["node".to_owned(), main]),
            (None, None) => None,
        })
    }
}

/// The command with the program that was built in its place.
fn with_program(command: Vec<String>, mut programs: Vec<PathBuf>) -> Result<Vec<String>> {
    let name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_owned);
    if let Some(wanted) = command.first() {
        programs.retain(|program| name(program) == name(Path::new(wanted)));
    }
    let names: Vec<_> = programs.iter().filter_map(|path| name(path)).collect();
    match &programs[..] {
        [program] => {
            let mut words = vec![program.to_string_lossy().into_owned()];
            words.extend(command.into_iter().skip(1));
            Ok(words)
        }
        [] => Err(Failure::plain("cargo builds no such program")
            .hint("Name one of its programs in agent.yaml, as `./target/release/NAME`.")),
        _ => Err(
            Failure::usage(format!("cargo builds several programs: {names:?}"))
                .hint("Name one in agent.yaml, as `command: ./target/release/NAME`."),
        ),
    }
}

/// Builds a Rust project; gives its programs. What is wrong is written by cargo itself.
async fn build(folder: &Path) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--quiet",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let failed = |why: String| Failure::new(Exit::Watched, format!("cargo build: {why}"));
    let output = cargo
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    Ok(messages.filter_map(|message| message.executable).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project {
            folder: folder.path().to_owned(),
            name: Some("a".into()),
            env: vec!["A=b".into()],
            words: Vec::new(),
        };
        (folder, project)
    }

    #[tokio::test]
    async fn commands_are_found_or_guessed() {
        let start = r#"{"scripts":{"start":"node a.mjs"}}"#;
        for (files, command) in [
            (&[("main.py", "")][..], &["python3", "main.py"][..]),
            (
                &[("main.py", ""), (".venv/bin/python", "")],
                &["./.venv/bin/python", "main.py"],
            ),
            (&[("package.json", start), ("main.py", "")], &["node a.mjs"]),
            (
                &[("package.json", r#"{"scripts":{"start":"x"}}"#)],
                &["npm", "start"],
            ),
            (&[("package.json", r#"{"main":"m.js"}"#)], &["node", "m.js"]),
            (&[("index.js", "")], &["node", "index.js"]),
            (
                &[("agent.yaml", "name: b\ncommand: x y\n"), ("main.py", "")],
                &["x y"],
            ),
        ] {
            let (_folder, project) = project(files);
            let found = project.found(7).await.unwrap();
            assert_eq!(found.spec.command, command, "{files:?}");
            assert_eq!(
                (found.spec.name.as_str(), found.spec.env["A"].as_str()),
                ("a", "b")
            );
            assert_eq!(found.spec.labels[CHANGE_LABEL], "7");
        }
        let (_folder, empty) = project(&[]);
        assert_eq!(empty.found(1).await.err().unwrap().exit, Exit::Usage);
        let two = "name: a\ncommand: x\n---\nname: b\ncommand: y\n";
        let (_folder, several) = project(&[("agent.yaml", two)]);
        assert_eq!(several.found(1).await.err().unwrap().exit, Exit::Usage);
    }

    #[test]
    fn the_built_program_takes_the_place_of_the_named_one() {
        let programs = || vec![PathBuf::from("/t/debug/a"), PathBuf::from("/t/debug/b")];
        let named = vec!["./target/release/b".to_owned(), "--x".to_owned()];
        assert_eq!(
            with_program(named, programs()).unwrap(),
            ["/t/debug/b", "--x"]
        );
        assert_eq!(
            with_program(Vec::new(), programs()).unwrap_err().exit,
            Exit::Usage
        );
        assert!(with_program(vec!["target/c".into()], programs()).is_err());
    }
}
