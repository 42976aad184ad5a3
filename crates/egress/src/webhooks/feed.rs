//! What happened, as webhooks are told of it.

use async_trait::async_trait;
use serde_json::{Map, Value};
use skep_core::{Timestamp, Workspace};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its place in its feed; later ones have higher numbers.
    pub number: u64,
    /// What, such as `call.succeeded`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// What it is about: ids and names, no secret, nothing that an agent said.
    pub data: Map<String, Value>,
}

/// Where it can be read what happened in a workspace, in the order in which it was committed.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Its name, under which it is kept how far it was read.
    fn name(&self) -> &'static str;

    /// The kinds that it tells of.
    fn kinds(&self) -> &'static [&'static str];

    /// Where it ends now: what follows has not happened yet.
    async fn end(&self, workspace: &Workspace) -> Result<u64, String>;

    /// What is behind a place, at most so much, and how far was looked. Nothing is left out that is kept still.
    async fn read(
        &self,
        workspace: &Workspace,
        after: u64,
        most: u32,
    ) -> Result<(Vec<Told>, u64), String>;
}
