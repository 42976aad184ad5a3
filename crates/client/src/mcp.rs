//! MCP servers, their tools, and what was used of them.

use http::Method;
use skep_api::{
    McpApprovals, McpClass, McpPreset, McpServer, McpTool, McpUsage, McpVirtual, NewMcpServer,
    NewMcpVirtual, Page,
};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

fn path(server: &str, rest: &str) -> String {
    format!("/mcp/servers/{}{rest}", encode(server))
}

impl Client {
    /// Servers that many want.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mcp_presets(&self) -> Result<Page<McpPreset>, ClientError> {
        self.get("/mcp/presets", &Query::default()).await
    }

    /// The MCP servers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mcp_servers(&self) -> Result<Page<McpServer>, ClientError> {
        self.get("/mcp/servers", &Query::default()).await
    }

    /// Adds a server, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_mcp_server(
        &self,
        name: &str,
        new: &NewMcpServer,
    ) -> Result<McpServer, ClientError> {
        let answer = self.put_json(&path(name, ""), new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_mcp_server(&self, name: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, &path(name, ""), None)
            .await
            .map(drop)
    }

    /// Looks at what a server has now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_mcp_server(&self, name: &str) -> Result<McpServer, ClientError> {
        self.post(&path(name, "/check")).await
    }

    /// The tools of a server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mcp_tools(&self, server: &str) -> Result<Page<McpTool>, ClientError> {
        self.get(&path(server, "/tools"), &Query::default()).await
    }

    /// Approves tools of a server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approve_mcp_tools(
        &self,
        server: &str,
        all: &McpApprovals,
    ) -> Result<McpServer, ClientError> {
        self.post_json(&path(server, "/approvals"), all).await
    }

    /// Says what a tool does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn class_mcp_tool(
        &self,
        server: &str,
        class: &McpClass,
    ) -> Result<McpServer, ClientError> {
        let answer = self.put_json(&path(server, "/classes"), class).await?;
        self.in_time(answer.json()).await
    }

    /// The virtual MCP servers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mcp_virtuals(&self) -> Result<Page<McpVirtual>, ClientError> {
        self.get("/mcp/virtuals", &Query::default()).await
    }

    /// Adds a virtual server, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_mcp_virtual(
        &self,
        name: &str,
        new: &NewMcpVirtual,
    ) -> Result<McpVirtual, ClientError> {
        let path = format!("/mcp/virtuals/{}", encode(name));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a virtual server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_mcp_virtual(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/mcp/virtuals/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// What was used of tools.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mcp_usage(&self) -> Result<Page<McpUsage>, ClientError> {
        self.get("/mcp/usage", &Query::default()).await
    }
}
