//! Agents that are taken elsewhere: as archives with their data, and as layers of lock files.

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use skep_api::{Agent, AgentLayers, DeployWithLayers, LayersOrigin};

use crate::client::{agent_path, success, unless_refused};
use crate::request::Query;
use crate::response::Answer;
use crate::{Client, ClientError, RequestBody};

impl Client {
    /// An agent with its data: the archive comes in pieces, and an error says when it is cut short.
    /// With `live` also while the agent runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent_archive(&self, name: &str, live: bool) -> Result<Answer, ClientError> {
        let path = agent_path(name, &format!("/archive?live={live}"));
        self.api(Method::GET, &path, None).await
    }

    /// The layers that an agent has of its lock file, as they are now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent_layers(&self, name: &str) -> Result<AgentLayers, ClientError> {
        self.get(&agent_path(name, "/layers"), &Query::default())
            .await
    }

    /// Deploys an agent with layers of its lock file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn deploy_with_layers(
        &self,
        deploy: &DeployWithLayers,
    ) -> Result<Agent, ClientError> {
        let path = agent_path(&deploy.spec.name, "/layers");
        let body = Bytes::from(skep_api::to_json(deploy));
        let answer = self.api(Method::PUT, &path, Some(body)).await?;
        self.in_time(answer.json()).await
    }

    /// Says what of an agent's memory is in its lock file now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn layers_are_of(
        &self,
        name: &str,
        origin: &LayersOrigin,
    ) -> Result<(), ClientError> {
        let path = agent_path(name, "/layers/origin");
        let body = Bytes::from(skep_api::to_json(origin));
        self.api(Method::PUT, &path, Some(body)).await.map(drop)
    }

    /// Makes an agent of an archive.
    ///
    /// # Errors
    /// [`ClientError`]. There is no time limit: what takes long is the archive on its way.
    pub async fn import_agent(
        &self,
        name: &str,
        archive: PathBuf,
        stopped: bool,
    ) -> Result<Agent, ClientError> {
        let path = agent_path(name, &format!("/archive?stopped={stopped}"));
        let path = format!("/api/v1{path}");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        let body = RequestBody::File(archive);
        let sent = self.send(Method::PUT, &path, headers, body);
        let answer = success(unless_refused(sent.await?).await?)?;
        self.in_time(answer.json()).await
    }
}
