//! The client: one method for each route.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::de::DeserializeOwned;
use skep_api::exec::EXEC_PROTOCOL;
use skep_api::{
    Agent, AgentSpec, BasicHealth, DetailedHealth, Event, ExecStart, Page, Performance, Problem,
    Revision, Rollback, Stats,
};

use crate::body::Unreadable;
use crate::request::{Query, encode};
use crate::response::{Answer, Body, Events, Logs, Plain};
use crate::transport::{Transport, Trust};
use crate::{
    CallRequest, ClientError, EventsQuery, ExecReceiver, ExecSender, LogsQuery, PageQuery,
    RequestBody,
};

/// Time for an answer of the management API. Calls to agents have no bound but their own deadline.
const TIMEOUT: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("skep-client/", env!("CARGO_PKG_VERSION"));
const PROBLEM_TYPE: &str = "application/problem+json";

/// A deployed agent.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The agent.
    pub agent: Agent,
    /// Whether there was none of that name before.
    pub created: bool,
}

/// What a client is made of.
#[derive(Clone)]
pub struct ClientBuilder {
    url: String,
    key: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<String>,
    identity: Option<(PathBuf, PathBuf)>,
    workspace: Option<String>,
    purpose: Option<String>,
    timeout: Duration,
}

impl ClientBuilder {
    /// The API key.
    #[must_use]
    pub fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// The workspace, for who belongs to several.
    #[must_use]
    pub fn workspace(mut self, name: Option<&str>) -> Self {
        self.workspace = name.map(str::to_owned);
        self
    }

    /// What the data is for that requests take out.
    #[must_use]
    pub fn purpose(mut self, text: Option<&str>) -> Self {
        self.purpose = text.map(str::to_owned);
        self
    }

    /// A PEM file with the certificates to trust, instead of the system's.
    #[must_use]
    pub fn ca_file(mut self, path: Option<&Path>) -> Self {
        self.ca = path.map(Path::to_owned);
        self
    }

    /// The server's own certificate in PEM, learnt on a way that is trusted: it is trusted whatever
    /// stands in it, and no other is. A file of certificates goes before it.
    #[must_use]
    pub fn certificate(mut self, pem: Option<&str>) -> Self {
        self.certificate = pem.map(str::to_owned);
        self
    }

    /// PEM files with a certificate to show to a server that asks for one, and its key.
    #[must_use]
    pub fn identity(mut self, files: Option<(PathBuf, PathBuf)>) -> Self {
        self.identity = files;
        self
    }

    /// Time for an answer of the management API; default 60 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Request`] when the address or the key cannot be used,
    /// [`ClientError::Certificates`] when the certificates cannot.
    pub fn build(self) -> Result<Client, ClientError> {
        let url = self.url.trim_end_matches('/').to_owned();
        let wrong = || {
            ClientError::Request(format!(
                "`{}` is not the address of a server, such as http://127.0.0.1:7537",
                self.url
            ))
        };
        let base: Uri = url.parse().map_err(|_| wrong())?;
        let web = matches!(base.scheme_str(), Some("http" | "https"));
        if !web || base.host().is_none_or(str::is_empty) || base.query().is_some() {
            return Err(wrong());
        }
        let key = self.key.as_deref().map(Key::new).transpose()?;
        let trust = match (&self.ca, &self.certificate) {
            (Some(path), _) => Trust::File(path),
            (None, Some(pem)) => Trust::Certificate(pem),
            (None, None) => Trust::System,
        };
        let transport = Transport::new(&base, trust, self.identity.as_ref())?;
        let timeout = self.timeout;
        let workspace = self.workspace.as_deref().map(HeaderValue::from_str);
        let workspace = workspace.transpose().map_err(|_| {
            ClientError::Request("the workspace has characters that no name has".to_owned())
        })?;
        let purpose = self.purpose.as_deref().map(str::as_bytes);
        let purpose = purpose.map(HeaderValue::from_bytes).transpose();
        let purpose = purpose.map_err(|_| {
            ClientError::Request("a purpose is a text without line breaks".to_owned())
        })?;
        Ok(Client {
            inner: Arc::new(Inner {
                url,
                key,
                workspace,
                purpose,
                transport,
                timeout,
            }),
        })
    }
}

/// An API key as it is sent: alone, and as a bearer's.
#[derive(Debug)]
struct Key {
    alone: HeaderValue,
    bearer: HeaderValue,
}

impl Key {
    fn new(key: &str) -> Result<Self, ClientError> {
        let value = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| {
                ClientError::Request("the API key has characters that no key has".to_owned())
            })?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self {
            alone: value(key)?,
            bearer: value(&format!("Bearer {key}"))?,
        })
    }
}

#[derive(Debug)]
struct Inner {
    url: String,
    key: Option<Key>,
    workspace: Option<HeaderValue>,
    purpose: Option<HeaderValue>,
    transport: Transport,
    timeout: Duration,
}

/// A client of one server. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl Client {
    /// A client with the defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn new(url: &str, key: Option<&str>) -> Result<Self, ClientError> {
        Self::builder(url).key(key).build()
    }

    /// A client with more to say.
    #[must_use]
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            key: None,
            workspace: None,
            purpose: None,
            ca: None,
            certificate: None,
            identity: None,
            timeout: TIMEOUT,
        }
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Agents, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agents(&self, page: &PageQuery) -> Result<Page<Agent>, ClientError> {
        self.get("/agents", &Query::default().page(page)).await
    }

    /// Deploys an agent, or a new revision of one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn deploy(&self, spec: &AgentSpec) -> Result<Deployed, ClientError> {
        let body = Bytes::from(skep_api::to_json(spec));
        let answer = self.api(Method::POST, "/agents", Some(body)).await?;
        let created = answer.status() == StatusCode::CREATED;
        let agent = self.in_time(answer.json()).await?;
        Ok(Deployed { agent, created })
    }

    /// One agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent(&self, name: &str) -> Result<Agent, ClientError> {
        self.get(&agent_path(name, ""), &Query::default()).await
    }

    /// Stops and forgets an agent; with `force` also when it has open calls.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_agent(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let query = Query::default().with("force", force.then_some("true"));
        let path = agent_path(name, query.as_str());
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// The revisions of an agent, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revisions(
        &self,
        name: &str,
        page: &PageQuery,
    ) -> Result<Page<Revision>, ClientError> {
        let query = Query::default().page(page);
        self.get(&agent_path(name, "/revisions"), &query).await
    }

    /// Starts a stopped agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&self, name: &str) -> Result<Agent, ClientError> {
        self.post(&agent_path(name, "/start")).await
    }

    /// Stops an agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&self, name: &str) -> Result<Agent, ClientError> {
        self.post(&agent_path(name, "/stop")).await
    }

    /// Replaces an agent's instance by a new one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restart(&self, name: &str) -> Result<Agent, ClientError> {
        self.post(&agent_path(name, "/restart")).await
    }

    /// Goes to another revision of an agent. Answers at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rollback(&self, name: &str, rollback: &Rollback) -> Result<Agent, ClientError> {
        self.post_json(&agent_path(name, "/rollback"), rollback)
            .await
    }

    /// Gives an order to an agent's rollout: `pause`, `resume` or `promote`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order_rollout(&self, name: &str, order: &str) -> Result<Agent, ClientError> {
        self.post(&agent_path(name, &format!("/rollout/{order}")))
            .await
    }

    /// The lines of an agent's log, as they come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs(&self, name: &str, query: &LogsQuery) -> Result<Logs, ClientError> {
        let path = agent_path(name, &format!("/logs{}", Query::logs(query).as_str()));
        Ok(Logs::new(self.api(Method::GET, &path, None).await?))
    }

    /// Runs a command in the box of an instance: of this one, else of one that is ready. Whether
    /// the command runs is heard.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec(
        &self,
        name: &str,
        instance: Option<&str>,
        start: &ExecStart,
    ) -> Result<(ExecSender, ExecReceiver), ClientError> {
        let query = Query::default().with("instance", instance);
        let path = agent_path(name, &format!("/exec{}", query.as_str()));
        let path = format!("/api/v1{path}");
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(EXEC_PROTOCOL));
        let body = RequestBody::default();
        let sent = self.send(Method::POST, &path, headers, body);
        let answer = unless_refused(self.in_time(sent).await?).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(answer.strange(format!("status {}", answer.status())));
        }
        let (url, upgrade) = answer.upgrade()?;
        let upgraded = upgrade.await.map_err(|error| ClientError::Interrupted {
            url: url.clone(),
            source: error.into(),
        })?;
        crate::exec::begin(url, upgraded, start).await
    }

    /// What an agent uses now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent_stats(&self, name: &str) -> Result<Stats, ClientError> {
        self.get(&agent_path(name, "/stats"), &Query::default())
            .await
    }

    /// How an agent's requests went, hour by hour, since a time: RFC 3339, or back from now (`24h`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn performance(
        &self,
        agent: &str,
        since: Option<&str>,
    ) -> Result<Performance, ClientError> {
        let path = format!("/agents/{}/performance", encode(agent));
        self.get(&path, &Query::default().with("since", since))
            .await
    }

    /// What every agent uses now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stats(&self, page: &PageQuery) -> Result<Page<Stats>, ClientError> {
        self.get("/stats", &Query::default().page(page)).await
    }

    /// Events, oldest first; the newest ones when the query names no beginning.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, query: &EventsQuery) -> Result<Page<Event>, ClientError> {
        let page = Query::events(query).page(&query.page);
        self.get("/events", &page).await
    }

    /// Events as they happen, from the query's beginning on, or from now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn event_stream(&self, query: &EventsQuery) -> Result<Events, ClientError> {
        let wanted = Query::events(query).with("after", query.page.cursor.as_deref());
        let path = format!("/events/stream{}", wanted.as_str());
        Ok(Events::new(self.api(Method::GET, &path, None).await?))
    }

    /// Whether the server takes calls. Needs no key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health_basic(&self) -> Result<BasicHealth, ClientError> {
        self.health("/api/v1/health/basic").await
    }

    /// Everything that the server knows of its own health.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health_detailed(&self) -> Result<DetailedHealth, ClientError> {
        self.health("/api/v1/health/detailed").await
    }

    /// The metrics, in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn metrics(&self) -> Result<Bytes, ClientError> {
        let sent = self.send(
            Method::GET,
            "/metrics",
            HeaderMap::new(),
            RequestBody::default(),
        );
        let answer = unless_refused(self.in_time(sent).await?).await?;
        self.in_time(success(answer)?.bytes()).await
    }

    /// The `OpenAPI` document of the API. Needs no key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn openapi(&self) -> Result<Bytes, ClientError> {
        let answer = self.api(Method::GET, "/openapi.json", None).await?;
        self.in_time(answer.bytes()).await
    }

    /// Calls an agent. Whatever the agent answers is the answer, also outside 2xx; what Skep
    /// refuses is an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, request: CallRequest) -> Result<Answer, ClientError> {
        let slash = if request.target.starts_with('/') {
            ""
        } else {
            "/"
        };
        let path = format!(
            "/agents/{}{slash}{}",
            encode(&request.agent),
            request.target
        );
        let sent = self.send(request.method, &path, request.headers, request.body);
        unless_refused(sent.await?).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<T, ClientError> {
        let path = format!("{path}{}", query.as_str());
        let answer = self.api(Method::GET, &path, None).await?;
        self.in_time(answer.json()).await
    }

    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let body = Bytes::from(skep_api::to_json(body));
        let answer = self.api(Method::POST, path, Some(body)).await?;
        self.in_time(answer.json()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.api(Method::POST, path, None).await?;
        self.in_time(answer.json()).await
    }

    /// A failed health is an answer, with 503.
    async fn health<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let sent = self.send(Method::GET, path, HeaderMap::new(), RequestBody::default());
        let answer = unless_refused(self.in_time(sent).await?).await?;
        self.in_time(answer.json()).await
    }

    /// A request to the management API whose answer is a success.
    pub(crate) async fn api(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
    ) -> Result<Answer, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        if json.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let path = format!("/api/v1{path}");
        let body = RequestBody::Bytes(json.unwrap_or_default());
        let sent = self.send(method, &path, headers, body);
        success(unless_refused(self.in_time(sent).await?).await?)
    }

    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let after = self.inner.timeout;
        tokio::time::timeout(after, work)
            .await
            .unwrap_or(Err(ClientError::Timeout { after }))
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Answer, ClientError> {
        let inner = &*self.inner;
        let mut request = body.open().await?.request();
        *request.uri_mut() = format!("{}{path}", inner.url).parse().map_err(|_| {
            ClientError::Request(format!(
                "`{path}` is not the path of a URL; percent-encode what is not in ASCII"
            ))
        })?;
        *request.method_mut() = method;
        request.headers_mut().extend(headers);
        let headers = request.headers_mut();
        // An Authorization of the caller's own is meant for the agent: our key goes beside it.
        if let Some(key) = &inner.key {
            if headers.contains_key(AUTHORIZATION) {
                let name = HeaderName::from_static(skep_api::HEADER_API_KEY);
                headers.insert(name, key.alone.clone());
            } else {
                headers.insert(AUTHORIZATION, key.bearer.clone());
            }
        }
        if let Some(workspace) = &inner.workspace {
            let name = HeaderName::from_static(skep_api::HEADER_WORKSPACE);
            headers.insert(name, workspace.clone());
        }
        // It is for Skep alone, and no agent's affair.
        if let Some(purpose) = inner
            .purpose
            .as_ref()
            .filter(|_| path.starts_with("/api/v1/"))
        {
            let name = HeaderName::from_static(skep_api::HEADER_PURPOSE);
            headers.insert(name, purpose.clone());
        }
        headers
            .entry(http::header::USER_AGENT)
            .or_insert(HeaderValue::from_static(USER_AGENT));
        let url = inner.url.clone();
        match inner.transport.send(request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                Ok(Answer {
                    upgrade: parts.extensions.remove(),
                    status: parts.status,
                    headers: parts.headers,
                    body: Body::Plain(Plain::Incoming(body)),
                    url,
                })
            }
            Err(error) if error.is_connect() => Err(ClientError::Unreachable {
                url,
                source: error.into(),
            }),
            Err(error) => {
                Err(
                    Unreadable::find(&error).unwrap_or_else(|| ClientError::Interrupted {
                        url,
                        source: error.into(),
                    }),
                )
            }
        }
    }
}

pub(crate) fn agent_path(name: &str, rest: &str) -> String {
    format!("/agents/{}{rest}", encode(name))
}

pub(crate) fn call_path(id: &str, rest: &str) -> String {
    format!("/calls/{}{rest}", encode(id))
}

pub(crate) fn success(answer: Answer) -> Result<Answer, ClientError> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(answer.strange(format!("status {}", answer.status()))),
    }
}

/// The answer, unless it is a problem document of Skep's own. An agent may send problem documents
/// too; it does not know the id of the request, which Skep's hold.
pub(crate) async fn unless_refused(answer: Answer) -> Result<Answer, ClientError> {
    let kind = answer.headers().get(CONTENT_TYPE);
    if answer.status().as_u16() < 400 || kind.is_none_or(|kind| kind != PROBLEM_TYPE) {
        return Ok(answer);
    }
    let (answer, body) = answer.gathered().await?;
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    match problem.filter(|problem| answer.request_id() == Some(&problem.request_id)) {
        None => Ok(answer),
        Some(problem) => Err(ClientError::Problem {
            problem: Box::new(problem),
            retry_after: retry_after(answer.headers()),
            call: answer.call_id().map(str::to_owned),
        }),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that gives one answer to one request; gives back what it read.
    async fn serve_once(answer: String) -> (Client, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        });
        (Client::new(&url, Some("skep_k")).unwrap(), served)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
    }

    fn problem(request: &str) -> String {
        format!(
            "{{\"type\":\"/docs/errors/queue-full\",\"title\":\"t\",\"status\":429,\"detail\":\"d\",\
             \"code\":\"queue-full\",\"request_id\":\"{request}\",\"hint\":\"h\"}}"
        )
    }

    const PROBLEM_HEADERS: &str = "content-type: application/problem+json\r\nretry-after: 2\r\n\
         skep-request-id: req_1\r\nskep-call-id: call_1\r\n";

    #[tokio::test]
    async fn what_skep_refuses_is_an_error() {
        let body = problem("req_1");
        let (client, served) = serve_once(answer("429 No", PROBLEM_HEADERS, &body)).await;
        let error = client.agent("a/b").await.unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(error.code(), Some("queue-full"));
        let ClientError::Problem {
            retry_after, call, ..
        } = error
        else {
            panic!()
        };
        assert_eq!(
            (retry_after, call.as_deref()),
            (Some(Duration::from_secs(2)), Some("call_1"))
        );
        let request = served.await.unwrap();
        assert!(
            request.starts_with("GET /api/v1/agents/a%2Fb HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: Bearer skep_k\r\n"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_problem_of_the_agents_own_is_its_answer() {
        let body = problem("req_other");
        let (client, served) = serve_once(answer("429 No", PROBLEM_HEADERS, &body)).await;
        let mut request = CallRequest::new(Method::GET, "hello", "x?q=%20");
        request
            .headers
            .insert(AUTHORIZATION, HeaderValue::from_static("Basic eA=="));
        let answer = client.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.bytes().await.unwrap(), body.as_bytes());
        let request = served.await.unwrap();
        assert!(
            request.starts_with("GET /agents/hello/x?q=%20 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("authorization: Basic eA==\r\n"),
            "{request}"
        );
        assert!(request.contains("skep-api-key: skep_k\r\n"), "{request}");
    }

    #[tokio::test]
    async fn lines_of_a_log_are_cut_anywhere() {
        let line = |text: &str| {
            format!(
                "{{\"time\":\"t\",\"stream\":\"stdout\",\"instance\":\"i\",\"text\":\"{text}\"}}\n"
            )
        };
        let (one, two) = (line("one"), line("two"));
        let (first, second) = (&one[..20], format!("{}{two}", &one[20..]));
        let chunks = [first, &second].map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let (client, _served) = serve_once(format!("{head}{}0\r\n\r\n", chunks.concat())).await;
        let mut logs = client.logs("a", &LogsQuery::default()).await.unwrap();
        let mut texts = Vec::new();
        while let Some(line) = logs.next().await.unwrap() {
            texts.push(line.text);
        }
        assert_eq!(texts, ["one", "two"]);
    }

    #[tokio::test]
    async fn what_is_not_reached_is_told_from_what_was_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(&url, None).unwrap();
        let lost = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
        let error = client.health_basic().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Interrupted { .. }),
            "{error:?}"
        );
        lost.await.unwrap();
        let error = client.health_basic().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Unreachable { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "127.0.0.1:7537", "ftp://x", "http://", "http://x/?q"] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
        assert!(Client::new("http://x/prefix/", Some("k")).is_ok());
        assert!(Client::new("http://x", Some("k\n")).is_err());
    }
}
