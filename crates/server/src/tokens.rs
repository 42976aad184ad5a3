//! Agents' tokens: the key that signs them, in the data folder, and whose instance lives.

use std::path::Path;

use async_trait::async_trait;
use skep_core::{InstanceId, Timestamp, Workspace};
use skep_egress::llm::Models;
use skep_egress::mcp::Tools;
use skep_egress::web::Web;
use skep_guard::tokens::{API, Token, TokenKey};
use skep_runtime::{Mint, Proxy, Runtime, Ways};

use crate::ServerError;
use crate::keys::keep_new;

/// The key, in the data folder. Backups leave it out: no instance outlives a restore.
const FILE: &str = "tokens.key";

/// Makes tokens.
#[derive(Debug)]
pub(crate) struct Minting {
    pub(crate) key: TokenKey,
    pub(crate) models: Models,
    pub(crate) tools: Tools,
    pub(crate) web: Web,
}

#[async_trait]
impl Mint for Minting {
    fn token(&self, workspace: &Workspace, agent: &str, instance: InstanceId) -> String {
        self.key.of_instance(workspace, agent, instance, API)
    }

    async fn ways(&self, workspace: &Workspace) -> Ways {
        let models = match self.models.providers(workspace).await {
            Ok(providers) => !providers.is_empty(),
            Err(error) => {
                tracing::warn!(%workspace, %error, "an instance is not told of models");
                false
            }
        };
        let tools = match self.tools.servers(workspace).await {
            Ok(known) => !known.servers.is_empty(),
            Err(error) => {
                tracing::warn!(%workspace, %error, "an instance is not told of tools");
                false
            }
        };
        let web = match self.web.rules(workspace).await {
            Ok(rules) => !rules.is_empty(),
            Err(error) => {
                tracing::warn!(%workspace, %error, "an instance is not told of the web");
                false
            }
        };
        let web = match web {
            false => None,
            true => Some(Proxy {
                bundle: self.bundle(workspace).await,
            }),
        };
        Ways { models, tools, web }
    }
}

impl Minting {
    /// The certificates that an instance is to believe; without a CA it goes on, and is told of hosts that Skep looks
    /// into that nobody knows them.
    async fn bundle(&self, workspace: &Workspace) -> Option<String> {
        let bundle = self.web.bundle(workspace).await;
        bundle
            .inspect_err(|why| tracing::warn!(%workspace, why, "an instance is not given the workspace's CA"))
            .ok()
    }
}

/// The key of this data folder; made, when there is none.
pub(crate) fn key(folder: &Path) -> Result<TokenKey, ServerError> {
    let path = folder.join(FILE);
    let failed = |reason: String| ServerError::File {
        path: path.clone(),
        reason,
    };
    if !path.exists() {
        let bytes: [u8; 32] =
            skep_crypto::random().map_err(|error| ServerError::Random(error.to_string()))?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        keep_new(&path, &text)?;
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let digits = text.trim().as_bytes();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let wrong = || failed("it holds no key of 64 hexadecimal digits; remove it for another".into());
    Ok(TokenKey::new(&bytes.ok_or_else(wrong)?))
}

/// Whose token this is: of an instance that lives here.
pub(crate) fn find(key: &TokenKey, runtime: &Runtime, text: &str, now: Timestamp) -> Option<Token> {
    let token = key.check(text, API, now)?;
    let who = &token.principal;
    runtime
        .lives(&who.workspace, &who.id, token.instance)
        .then_some(token)
}
