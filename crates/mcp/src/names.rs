//! Names at a door that leads to several servers: `server__tool`, one for each tool and short enough for models.

/// The longest name of a tool at a door: what models take.
pub const MOST_NAME: usize = 64;
/// Between the server and its tool.
const BETWEEN: &str = "__";

/// The name of a server's tool at a door; nothing, when it would be too long or holds what models do not take.
#[must_use]
pub fn joined(server: &str, tool: &str) -> Option<String> {
    let name = format!("{server}{BETWEEN}{tool}");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (name.len() <= MOST_NAME && !tool.is_empty() && name.chars().all(plain)).then_some(name)
}

/// What the address of a resource begins with, before its server.
const OUTER: &str = "mcp+";

/// The address of a server's resource, or the pattern of some, at a door that leads to several.
#[must_use]
pub fn outer_uri(server: &str, uri: &str) -> String {
    format!("{OUTER}{server}:{uri}")
}

/// The server and the address there. Names of servers have no `:`, so there is one way to read it.
#[must_use]
pub fn inner_uri(uri: &str) -> Option<(&str, &str)> {
    let (server, own) = uri.strip_prefix(OUTER)?.split_once(':')?;
    (!server.is_empty()).then_some((server, own))
}

/// The server and its tool. Names of servers have no `_`, so there is one way to read it.
#[must_use]
pub fn split(name: &str) -> Option<(&str, &str)> {
    let (server, tool) = name.split_once(BETWEEN)?;
    (!server.is_empty() && !server.contains('_') && !tool.is_empty()).then_some((server, tool))
}
