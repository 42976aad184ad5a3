//! Tools as the API shows them: the MCP servers that a workspace has them from, and what somebody said yes to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A folder that the program of a server sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpFolder {
    /// Where it is; absolute.
    pub path: String,
    /// Whether it can only be read.
    #[serde(default)]
    pub read_only: bool,
}

/// An MCP server as it is to be: over HTTP with `url`, a program in a sandbox with `command`, a web API that does not
/// speak the protocol with `openapi`, or Skep itself with `builtin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMcpServer {
    /// Where it is, such as `https://host/mcp`; of a web API what stands before its paths: where its description says, when
    /// nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The description of a web API, OpenAPI 3.0 or 3.1, of 1 MiB at most: each operation becomes a tool. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub openapi: Option<serde_json::Value>,
    /// Skep itself instead: its own abilities are tools, as who uses them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub builtin: bool,
    /// Headers of each request; a value may hold a secret: `Bearer ${secret:keys/github}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its variables; a value may hold a secret: `${secret:keys/github}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folders of this machine that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<McpFolder>,
    /// Hosts that it reaches, `host:port`; nobody, when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Its tools that there are; `*` stands for any text. All, when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Its tools that there are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Whether its resources pass; they do when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<bool>,
    /// Whether its prompts pass; they do when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<bool>,
    /// Seconds that it may take until it answers, 1 to 600; 60, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// What a use of a tool costs, in US dollars such as `0.005`, by its name or a pattern of some; of several the longest
    /// counts. Budgets count it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_false(it: &bool) -> bool {
    !*it
}

/// Something of a web API that is no tool, or that a tool does without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpLeftOut {
    /// The operation.
    pub operation: String,
    /// Why, or what it does without and why.
    pub why: String,
}

/// A web API, as its description says: not ours to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpApi {
    /// What it is called.
    pub title: String,
    /// Its version.
    pub version: String,
    /// Its operations that are tools.
    pub operations: u64,
    /// What is no tool, or what tools do without: the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<McpLeftOut>,
}

/// An MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpServer {
    /// Its name in the workspace.
    pub name: String,
    /// `http`, `stdio`, `openapi` or `builtin`.
    pub transport: String,
    /// Its settings.
    pub settings: NewMcpServer,
    /// The path of its door.
    pub door: String,
    /// How it was when it was looked at last: `well`, `failed`; `unknown` since this start.
    pub condition: String,
    /// When that was (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<String>,
    /// Which era of the protocol it speaks: `legacy` or `modern`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<String>,
    /// Its name and version as it says them: not ours to trust.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// What is the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What its description became, of a web API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<McpApi>,
    /// Tools that can be used.
    pub approved: u64,
    /// Tools that wait for somebody's yes: new ones, and those that changed.
    pub waiting: u64,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpTool {
    /// Its name with its server, as the server says it.
    pub name: String,
    /// `new`, `approved`, `changed` or `gone`.
    pub state: String,
    /// What it does: `read`, `write` or `execute`, as the workspace says; `execute`, when it says nothing.
    pub class: String,
    /// What its server says that it does: a proposal.
    pub proposed: String,
    /// Whether the server's rules let it be used.
    pub allowed: bool,
    /// What it is known by: the SHA-256 of its whole definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// What was approved, when it is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<String>,
    /// Its definition as its server says it, as JSON text: from outside, not to be trusted.
    pub untrusted_definition: String,
}

/// A tool that is approved as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpApproval {
    /// The tool.
    pub tool: String,
    /// What it was known by when they saw it.
    pub pin: String,
    /// What it does: `read`, `write` or `execute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// Tools that are approved: all of them, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpApprovals {
    /// The tools.
    pub tools: Vec<McpApproval>,
}

/// What a tool does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpClass {
    /// The tool.
    pub tool: String,
    /// `read`, `write` or `execute`.
    pub class: String,
}

/// A class that is proposed for tools of a preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpPresetClass {
    /// The tools, by pattern; the first that fits counts.
    pub tools: String,
    /// `read`, `write` or `execute`.
    pub class: String,
}

/// A server that many want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpPreset {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The variables that hold its keys.
    pub keys: Vec<String>,
    /// Whom it reaches.
    pub hosts: Vec<String>,
    /// Whether the folders that it sees follow its command.
    pub takes_folders: bool,
    /// What its tools do: a proposal.
    pub classes: Vec<McpPresetClass>,
}

/// What one principal used of one tool on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpUsage {
    /// The day (UTC), such as `2026-11-22`.
    pub day: String,
    /// The kind of principal: `agent`, `key`, `user`.
    pub of: String,
    /// Their name or id.
    pub whose: String,
    /// The server.
    pub server: String,
    /// The tool; `:resources` and `:prompts` are the server's.
    pub tool: String,
    /// Requests.
    pub requests: u64,
    /// Those that came to nothing, or to an error of the tool's.
    pub failed: u64,
    /// What they cost, in US dollars.
    pub cost: String,
}

/// Tools of a server in a virtual one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpPart {
    /// The tool with its server, `server/tool`; `*` stands for any text, as in `docs/*`.
    pub tool: String,
    /// What it is called here; as its server calls it, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is said of it here, in the place of what its server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Arguments that who calls it neither sees nor says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed: BTreeMap<String, serde_json::Value>,
}

/// Where an argument of a step comes from: it is said, or taken from somewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpGiven {
    /// What it is.
    #[serde(
        default,
        deserialize_with = "said",
        skip_serializing_if = "Option::is_none"
    )]
    pub value: Option<serde_json::Value>,
    /// `input`, or the name of a step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where in what the tool was given, or the step answered: a JSON pointer (RFC 6901). All of it, when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// A value that is said, though it be `null`.
fn said<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// A step of a tool that has some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpStep {
    /// Its name among the steps.
    pub name: String,
    /// The tool with its server, `server/tool`.
    pub tool: String,
    /// What it is given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, McpGiven>,
}

/// A tool that is a chain of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct McpComposed {
    /// What it is called.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The JSON Schema of what it is given: that of an object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input: BTreeMap<String, serde_json::Value>,
    /// What is done, in order, 1 to 16; what the last step answers is the answer.
    pub steps: Vec<McpStep>,
}

/// A virtual MCP server as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMcpVirtual {
    /// What it says of itself to clients.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Tools of servers, 100 at most. Where two patterns have one name, the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<McpPart>,
    /// Tools that are chains of steps, 32 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub composed: Vec<McpComposed>,
    /// Servers whose resources are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Servers whose prompts are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
}

/// A tool of a virtual MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct McpVirtualTool {
    /// What it is called.
    pub name: String,
    /// The tools that it uses, with their servers, in order.
    pub uses: Vec<String>,
    /// Whether all of them are approved and allowed.
    pub ready: bool,
}

/// A virtual MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct McpVirtual {
    /// Its name in the workspace.
    pub name: String,
    /// The path of its door.
    pub door: String,
    /// As it was declared.
    pub settings: NewMcpVirtual,
    /// The tools that it has.
    pub tools: Vec<McpVirtualTool>,
}
