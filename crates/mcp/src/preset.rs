//! Servers that many want, as they come from their registries: what runs, which keys it wants, whom it reaches, and
//! what its tools do. The classes are ours and begin as proposals: a workspace says yes to them.

use crate::class::Class;

/// A server that many want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What it is called.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The program and its arguments; what the user gives follows.
    pub command: &'static [&'static str],
    /// The variables that hold its keys.
    pub keys: &'static [&'static str],
    /// Whom it reaches.
    pub hosts: &'static [&'static str],
    /// Whether folders follow its command.
    pub takes_folders: bool,
    /// What its tools do, by pattern; the first that fits counts.
    pub classes: &'static [(&'static str, Class)],
}

use Class::{Execute, Read, Write};

/// All of them.
pub const PRESETS: [Preset; 6] = [
    Preset {
        name: "filesystem",
        about: "Files in folders of this machine (npm @modelcontextprotocol/server-filesystem)",
        command: &["mcp-server-filesystem"],
        keys: &[],
        hosts: &[],
        takes_folders: true,
        classes: &[
            ("read_*", Read),
            ("list_*", Read),
            ("get_file_info", Read),
            ("directory_tree", Read),
            ("search_files", Read),
            ("*", Write),
        ],
    },
    Preset {
        name: "github",
        about: "GitHub (github-mcp-server stdio)",
        command: &["github-mcp-server", "stdio"],
        keys: &["GITHUB_PERSONAL_ACCESS_TOKEN"],
        hosts: &[
            "api.github.com:443",
            "github.com:443",
            "raw.githubusercontent.com:443",
        ],
        takes_folders: false,
        classes: &[
            ("get_*", Read),
            ("list_*", Read),
            ("search_*", Read),
            ("*_read", Read),
            ("run_*", Execute),
            ("delete_*", Execute),
            ("*", Write),
        ],
    },
    Preset {
        name: "brave-search",
        about: "Searches of the web (npm @brave/brave-search-mcp-server)",
        command: &["brave-search-mcp-server", "--transport", "stdio"],
        keys: &["BRAVE_API_KEY"],
        hosts: &["api.search.brave.com:443"],
        takes_folders: false,
        classes: &[("brave_*", Read)],
    },
    Preset {
        name: "memory",
        about: "A graph of what was learned (npm @modelcontextprotocol/server-memory)",
        // Else it remembers in the folder of its package.
        command: &[
            "sh",
            "-c",
            "MEMORY_FILE_PATH=\"$HOME/memory.jsonl\" exec mcp-server-memory",
        ],
        keys: &[],
        hosts: &[],
        takes_folders: false,
        classes: &[
            ("read_*", Read),
            ("search_*", Read),
            ("open_*", Read),
            ("*", Write),
        ],
    },
    Preset {
        name: "fetch",
        about: "Pages of the web as text (PyPI mcp-server-fetch); say with --host whom it may reach",
        command: &["mcp-server-fetch"],
        keys: &[],
        hosts: &[],
        takes_folders: false,
        classes: &[("fetch", Read)],
    },
    Preset {
        name: "postgres",
        about: "Queries to PostgreSQL (PyPI postgres-mcp, restricted to reading)",
        command: &["postgres-mcp", "--access-mode=restricted"],
        keys: &["DATABASE_URI"],
        hosts: &[],
        takes_folders: false,
        classes: &[
            ("list_*", Read),
            ("get_*", Read),
            ("explain_*", Read),
            ("analyze_*", Read),
            ("*", Execute),
        ],
    },
];
