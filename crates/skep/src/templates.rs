//! The projects that `init` makes: folders under `templates/`, held in the binary. What lives here
//! is the table of them; `{{name}}` in a file stands for the agent's name.

/// A project to begin with.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) name: &'static str,
    /// What it is, in a line.
    pub(crate) about: &'static str,
    /// What its README calls first: words behind `skep call NAME`.
    pub(crate) first_call: &'static str,
    /// Path in the project, and text.
    pub(crate) files: &'static [(&'static str, &'static str)],
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
const GREETING: (&str, &str) = ("request.json", text!("shared/greet.json"));

/// A file of a template's own.
macro_rules! own {
    ($template:literal, $path:literal) => {
        (
            $path,
            include_str!(concat!("../templates/", $template, "/", $path)),
        )
    };
}

/// An agent with a prompt and tools.
macro_rules! persona {
    ($name:literal, $about:literal $(, $more:literal)*) => {
        Template {
            name: $name,
            about: $about,
            first_call: "/ask -d @request.json",
            files: &[
                own!($name, "agent.py"),
                MODEL,
                WEB,
                PERSONA,
                own!($name, "README.md"),
                own!($name, "request.json"),
                GITIGNORE,
                $(own!($name, $more),)*
            ],
        }
    };
}

/// Every template, the simplest first.
pub(crate) const ALL: &[Template] = &[
    Template {
        name: "http-python",
        about: "plain HTTP in Python, one file",
        first_call: "/greet -d @request.json",
        files: &[
            (
                "agent.py",
                include_str!("../../../examples/agents/hello/agent.py"),
            ),
            PYTHON,
            own!("http-python", "README.md"),
            GREETING,
            GITIGNORE,
        ],
    },
    Template {
        name: "http-node",
        about: "plain HTTP in Node, one file",
        first_call: "/greet -d @request.json",
        files: &[
            own!("http-node", "agent.mjs"),
            own!("http-node", "package.json"),
            own!("http-node", "agent.yaml"),
            own!("http-node", "README.md"),
            GREETING,
            (".gitignore", text!("http-node/gitignore")),
        ],
    },
    Template {
        name: "http-rust",
        about: "plain HTTP in Rust, without crates",
        first_call: "/count -d @request.json",
        files: &[
            own!("http-rust", "src/main.rs"),
            ("Cargo.toml", text!("http-rust/package.toml")),
            own!("http-rust", "agent.yaml"),
            own!("http-rust", "README.md"),
            own!("http-rust", "request.json"),
            (".gitignore", text!("http-rust/gitignore")),
        ],
    },
    Template {
        name: "agui",
        about: "streams AG-UI 1.0 events to user interfaces (Python)",
        first_call: "/ -d @request.json",
        files: &[
            own!("agui", "agent.py"),
            WEB,
            PYTHON,
            own!("agui", "README.md"),
            own!("agui", "request.json"),
            GITIGNORE,
        ],
    },
    Template {
        name: "a2a",
        about: "answers other agents by A2A 1.0 and 0.3 (Python)",
        first_call: "/ -H \"A2A-Version: 1.0\" -d @request.json",
        files: &[
            own!("a2a", "agent.py"),
            WEB,
            PYTHON,
            own!("a2a", "README.md"),
            own!("a2a", "request.json"),
            GITIGNORE,
        ],
    },
    persona!("code-reviewer", "finds problems in a diff"),
    persona!("data-analyst", "computes with a CSV and explains it"),
    persona!(
        "customer-support",
        "answers from an FAQ, opens tickets",
        "faq.md"
    ),
    persona!(
        "research-assistant",
        "answers from a folder of notes, with places",
        "notes/dance.md",
        "notes/winter.md"
    ),
    persona!("content-generator", "makes a text of an outline"),
];

/// The template of this name.
pub(crate) fn find(name: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.name == name)
}

impl Template {
    /// The files, for an agent of this name.
    pub(crate) fn made_for<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'static str, String)> + 'a {
        let made =
            move |(path, text): &(&'static str, &str)| (*path, text.replace("{{name}}", name));
        self.files.iter().map(made)
    }
}
