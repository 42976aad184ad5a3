//! The templates that are held in the binary: folders under `templates/`, in the form of any other template. What
//! lives here is the table of their files, some of which several share.

use std::collections::BTreeMap;

use skep_templates::{File, Template, TemplateError};

/// A template in the binary.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    pub(crate) name: &'static str,
    /// Its `template.toml`.
    form: &'static str,
    /// Path in the project, and text.
    files: &'static [(&'static str, &'static str)],
}

macro_rules! text {
    ($path:literal) => {
        include_str!(concat!("../templates/", $path))
    };
}

const GITIGNORE: (&str, &str) = (".gitignore", text!("shared/gitignore"));
const WEB: (&str, &str) = ("web.py", text!("shared/web.py"));
const MODEL: (&str, &str) = ("model.py", text!("shared/model.py"));
const PYTHON: (&str, &str) = ("agent.yaml", text!("shared/python.yaml"));
const PERSONA: (&str, &str) = ("agent.yaml", text!("shared/persona.yaml"));
const VENV: (&str, &str) = ("agent.yaml", text!("shared/venv.yaml"));
const GREETING: (&str, &str) = ("request.json", text!("shared/greet.json"));

/// A template: its name, its own files, then files that it shares or that lie under another name.
macro_rules! template {
    ($name:literal, [$($own:literal),*], [$($file:expr),*]) => {
        BuiltIn {
            name: $name,
            form: include_str!(concat!("../templates/", $name, "/template.toml")),
            files: &[
                $(($own, include_str!(concat!("../templates/", $name, "/", $own))),)*
                $($file,)*
            ],
        }
    };
}

/// An agent with a prompt and tools.
macro_rules! persona {
    ($name:literal $(, $more:literal)*) => {
        template!(
            $name,
            ["agent.py", "prompt.md", "README.md", "request.json" $(, $more)*],
            [MODEL, WEB, PERSONA, GITIGNORE]
        )
    };
}

/// Every template, the simplest first.
pub(crate) const ALL: &[BuiltIn] = &[
    template!(
        "http-python",
        ["README.md"],
        [
            (
                "agent.py",
                include_str!("../../../examples/agents/hello/agent.py")
            ),
            PYTHON,
            GREETING,
            GITIGNORE
        ]
    ),
    template!(
        "http-node",
        ["agent.mjs", "package.json", "agent.yaml", "README.md"],
        [GREETING, (".gitignore", text!("http-node/gitignore"))]
    ),
    template!(
        "http-rust",
        ["src/main.rs", "agent.yaml", "README.md", "request.json"],
        [
            ("Cargo.toml", text!("http-rust/package.toml")),
            (".gitignore", text!("http-rust/gitignore"))
        ]
    ),
    template!(
        "agui",
        ["agent.py", "README.md", "request.json"],
        [WEB, PYTHON, GITIGNORE]
    ),
    template!(
        "a2a",
        ["agent.py", "README.md", "request.json"],
        [WEB, PYTHON, GITIGNORE]
    ),
    template!(
        "langgraph",
        [
            "agent.py",
            "requirements.txt",
            "prompt.md",
            "README.md",
            "request.json"
        ],
        [WEB, VENV, (".gitignore", text!("shared/venv.gitignore"))]
    ),
    template!(
        "openai-agents",
        [
            "agent.py",
            "requirements.txt",
            "prompt.md",
            "README.md",
            "request.json"
        ],
        [WEB, VENV, (".gitignore", text!("shared/venv.gitignore"))]
    ),
    template!(
        "ai-sdk",
        [
            "agent.mjs",
            "package.json",
            "agent.yaml",
            "prompt.md",
            "README.md",
            "request.json"
        ],
        [(".gitignore", text!("http-node/gitignore"))]
    ),
    persona!("code-reviewer"),
    persona!("data-analyst"),
    persona!("customer-support", "faq.md"),
    persona!("research-assistant", "notes/dance.md", "notes/winter.md"),
    persona!("content-generator"),
];

/// The template of this name.
pub(crate) fn find(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|template| template.name == name)
}

impl BuiltIn {
    /// It as a template.
    pub(crate) fn template(&self) -> Result<Template, TemplateError> {
        let file = |(path, text): &(&'static str, &'static str)| {
            let bytes = text.as_bytes().to_vec();
            let is_program = false;
            ((*path).to_owned(), File { bytes, is_program })
        };
        let files: BTreeMap<_, _> = self.files.iter().map(file).collect();
        Template::of(self.form.as_bytes(), files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_templates_is_in_the_table_and_whole() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
        let mut folders: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "shared")
            .collect();
        let mut names: Vec<_> = ALL.iter().map(|it| it.name.to_owned()).collect();
        folders.sort();
        names.sort();
        assert_eq!(folders, names);
        for built_in in ALL {
            let template = built_in.template();
            let template = template.unwrap_or_else(|error| panic!("{}: {error}", built_in.name));
            let form = &template.form;
            assert_eq!(form.name, built_in.name);
            let made = template.made("some-name", &BTreeMap::new()).unwrap();
            for wanted in [".gitignore", "request.json"] {
                assert!(form.files.iter().any(|it| it == wanted), "{}", form.name);
            }
            let text = |path: &str| {
                let found = made.files.iter().find(|(it, _)| it == path);
                String::from_utf8(found.unwrap().1.bytes.clone()).unwrap()
            };
            for (path, _) in &made.files {
                assert!(!text(path).contains("{{name"), "{}: {path}", form.name);
            }
            let first = form.first_call.as_deref().unwrap_or_default();
            let first = format!("skep call some-name {first}");
            assert!(text("README.md").contains(&first), "{}: {first}", form.name);
            let has = |tag: &str| form.tags.iter().any(|it| it == tag);
            // Whoever has a prompt has it in the lock file, too.
            let prompt = made.layers["personality"].get("prompt").cloned();
            let is_there = has("persona") || has("framework");
            assert_eq!(
                prompt,
                is_there.then(|| text("prompt.md").into()),
                "{}",
                form.name
            );
        }
        let with = |tag: &str| {
            let all = ALL.iter().map(|it| it.template().unwrap());
            all.filter(|it| it.form.tags.iter().any(|it| it == tag))
                .count()
        };
        assert!(with("persona") >= 5 && with("framework") >= 3);
    }
}
