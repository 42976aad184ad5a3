//! What the store has of tools: servers, the tools of each with their class and pin, and virtual servers.

use skep_core::Timestamp;
use skep_store::{Migration, MigrationSet, Row, Scope, StoreError};

/// The tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "mcp",
    migrations: &[Migration {
        name: "0001-mcp",
        sql: "
            CREATE TABLE mcp_servers (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE mcp_tools (
                workspace TEXT NOT NULL,
                server TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, server, name)
            );
            CREATE TABLE mcp_virtuals (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                spec TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
        ",
    }],
    workspace_tables: &["mcp_servers", "mcp_tools", "mcp_virtuals"],
};

/// A tool's row: its server, its name, and what is kept of it.
pub(super) type ToolRow = (String, String, String);

/// All tools of a workspace.
pub(super) fn tools(scope: &mut Scope<'_>) -> Result<Vec<ToolRow>, StoreError> {
    let sql = "SELECT server, name, spec FROM mcp_tools WHERE workspace = ?1 ORDER BY server, name";
    let rows = scope.query(sql, &[])?;
    let read = |row: &Row| {
        let text = |column| row.text(column).map(str::to_owned);
        Ok((text(0)?, text(1)?, text(2)?))
    };
    rows.iter().map(read).collect()
}

pub(super) fn tool(
    scope: &mut Scope<'_>,
    server: &str,
    name: &str,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT spec FROM mcp_tools WHERE workspace = ?1 AND server = ?2 AND name = ?3";
    let row = scope.query_opt(sql, &[server.into(), name.into()])?;
    row.map(|row| row.text(0).map(str::to_owned)).transpose()
}

pub(super) fn put_tool(
    scope: &mut Scope<'_>,
    (server, name, spec): (&str, &str, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO mcp_tools (workspace, server, name, spec, changed_at) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT (workspace, server, name) DO UPDATE SET spec = excluded.spec, changed_at = excluded.changed_at";
    let all = [server.into(), name.into(), spec.into(), now.into()];
    scope.execute(sql, &all).map(drop)
}

/// Forgets a tool that its server does not have.
pub(super) fn drop_tool(scope: &mut Scope<'_>, server: &str, name: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM mcp_tools WHERE workspace = ?1 AND server = ?2 AND name = ?3";
    scope.execute(sql, &[server.into(), name.into()]).map(drop)
}

/// Forgets the tools of a server.
pub(super) fn drop_tools(scope: &mut Scope<'_>, server: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM mcp_tools WHERE workspace = ?1 AND server = ?2";
    scope.execute(sql, &[server.into()]).map(drop)
}
