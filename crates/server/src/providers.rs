//! The OpenID Connect providers that people log in by: the file of them, where their doors are, and asking them.
//! What is wrong with a login is told in one word, in the log; nothing that a provider says in words goes anywhere.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use skep_core::Timestamp;
use skep_core::config::Settings;
use skep_guard::identity::Proof;
use skep_guard::jwt::IdTokens;
use skep_guard::oidc::{
    self, Discovery, Flow, Provider, Providers, Refusal, Secret, read_answer, read_object,
};
use tokio::sync::Semaphore;

use crate::ServerError;
use crate::outgoing;
use crate::reread::{Reader, Reread};
use crate::web::{Question, TIME, Web};

/// Bytes of what a provider says of itself, of a person, or for a code.
const MOST_ANSWER: usize = 64 << 10;
/// Bytes of an access token that is sent on.
const MOST_ACCESS: usize = 16 << 10;
/// For how long it holds what a provider says of itself.
const HOLDS: Duration = Duration::from_secs(3600);
/// For how long it holds while it cannot be asked again.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// The wait after a question of itself that failed.
const RETRY: Duration = Duration::from_secs(2);
/// Logins that are talked about with providers at once.
const AT_ONCE: usize = 32;

/// What is known of a provider's doors.
#[derive(Default)]
struct Doors {
    known: Option<(Arc<Discovery>, Instant)>,
    failed: Option<Instant>,
}

/// One provider.
pub(crate) struct Known {
    pub(crate) provider: Provider,
    tokens: IdTokens,
    /// Held while it is asked: who comes meanwhile waits for what comes of it.
    doors: tokio::sync::Mutex<Doors>,
    /// What the last question of itself said, when it failed.
    failure: Mutex<Option<String>>,
}

/// All of them.
pub(crate) struct All {
    url: String,
    pub(crate) all: Vec<Arc<Known>>,
}

impl All {
    /// Where browsers reach this server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Known>> {
        self.all.iter().find(|it| it.provider.name == name)
    }

    /// Where browsers begin a login.
    pub(crate) fn login(&self, known: &Known) -> String {
        format!("{}/api/v1/login/{}", self.url, known.provider.name)
    }

    /// Where a provider sends browsers back to.
    pub(crate) fn redirect(&self, known: &Known) -> String {
        format!("{}/api/v1/callback/{}", self.url, known.provider.name)
    }
}

/// How people log in by providers.
pub(crate) struct Logins {
    file: Option<Reread<Providers, All>>,
    web: Arc<Web>,
    places: Semaphore,
}

fn read(path: &Path, reader: &Reader) -> Result<Providers, String> {
    let text = reader.text(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    oidc::read_file(&text, |secret| match secret {
        Secret::File(path) => reader.secret(&folder.join(path)),
        Secret::Variable(name) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|_| format!("{name} is not set")),
    })
}

impl Logins {
    /// Those of the configuration; browsers reach this server at `own`, unless the file says where.
    pub(crate) fn open(settings: &Settings, own: &str) -> Result<Self, ServerError> {
        let web = Arc::new(Web(outgoing::guard(settings)?));
        let (fetch, own) = (web.clone(), own.to_owned());
        let make = move |read: Providers, _: Option<&All>| All {
            url: read.url.unwrap_or_else(|| own.clone()),
            all: read
                .all
                .into_iter()
                .map(|provider| {
                    Arc::new(Known {
                        tokens: provider.id_tokens(fetch.clone()),
                        provider,
                        doors: tokio::sync::Mutex::default(),
                        failure: Mutex::default(),
                    })
                })
                .collect(),
        };
        let file = settings.auth_providers.as_ref().map(|path| {
            Reread::open(path, read, Box::new(make)).map_err(|reason| ServerError::Providers {
                path: path.clone(),
                reason,
            })
        });
        Ok(Self {
            file: file.transpose()?,
            web,
            places: Semaphore::new(AT_ONCE),
        })
    }

    /// The providers as they are now.
    pub(crate) fn now(&self) -> Option<Arc<All>> {
        self.file.as_ref().map(Reread::now)
    }

    /// Reads the file again when it changes. Never ends.
    pub(crate) async fn keep_fresh(&self) {
        let Some(file) = &self.file else {
            return std::future::pending().await;
        };
        loop {
            file.changed().await;
        }
    }

    /// What is wrong with the file as it is now, and with each provider.
    pub(crate) fn conditions(&self) -> (Option<String>, Vec<(String, Option<String>)>) {
        let Some(file) = &self.file else {
            return (None, Vec::new());
        };
        let of = |it: &Arc<Known>| (it.provider.name.clone(), it.failure.lock().clone());
        (file.wrong(), file.now().all.iter().map(of).collect())
    }

    /// Where a provider's doors are.
    pub(crate) async fn doors(&self, known: &Known) -> Result<Arc<Discovery>, Refusal> {
        let mut doors = known.doors.lock().await;
        let holds = |until: Duration| {
            let known = doors.known.as_ref();
            let known = known.filter(|(_, since)| since.elapsed() < until);
            known.map(|(doors, _)| doors.clone())
        };
        let kept = holds(KEEP).ok_or(Refusal::Unreachable);
        if let Some(fresh) = holds(HOLDS) {
            return Ok(fresh);
        }
        if doors.failed.is_some_and(|since| since.elapsed() < RETRY) {
            return kept;
        }
        match self.discover(&known.provider).await {
            Ok(found) => {
                let found = Arc::new(found);
                *known.failure.lock() = None;
                *doors = Doors {
                    known: Some((found.clone(), Instant::now())),
                    failed: None,
                };
                Ok(found)
            }
            Err(reason) => {
                let provider = &known.provider.name;
                tracing::warn!(
                    provider,
                    reason,
                    "the provider cannot be asked where its doors are"
                );
                *known.failure.lock() = Some(reason);
                doors.failed = Some(Instant::now());
                kept
            }
        }
    }

    async fn discover(&self, provider: &Provider) -> Result<Discovery, String> {
        let url = Discovery::url(&provider.issuer);
        let asked = self.web.ask(Question {
            url: &url,
            body: None,
            headers: &[],
            time: TIME,
            most: MOST_ANSWER,
        });
        match asked.await? {
            (StatusCode::OK, text) => Discovery::read(&text, &provider.issuer),
            (status, _) => Err(format!("it answered {status}")),
        }
    }

    /// Who somebody is, whose browser came back with this code.
    pub(crate) async fn finish(
        &self,
        known: &Known,
        flow: &Flow,
        (code, redirect): (&str, &str),
        now: Timestamp,
    ) -> Result<Proof, Refusal> {
        let _place = self.places.acquire().await;
        let doors = self.doors(known).await?;
        let (form, shows) = flow.exchange(&known.provider, &doors, (code, redirect));
        let headers: Vec<_> = shows.map(|it| (AUTHORIZATION, it)).into_iter().collect();
        let asked = self.web.ask(Question {
            url: &doors.token,
            body: Some(("application/x-www-form-urlencoded", &form)),
            headers: &headers,
            time: TIME,
            most: MOST_ANSWER,
        });
        let got = match asked.await {
            Ok((StatusCode::OK, text)) => read_answer(&text).ok_or(Refusal::Answer)?,
            Ok((status, _)) if status.is_client_error() => return Err(Refusal::Code),
            Ok(_) | Err(_) => return Err(Refusal::Unreachable),
        };
        let token = known.tokens.verify(&got.id_token, &doors.keys, now).await;
        let token = token.map_err(Refusal::Token)?;
        let access = got.access_token.filter(|it| it.len() <= MOST_ACCESS);
        flow.fits(&token, access.as_deref())?;
        let more = match (&doors.person, &access) {
            (Some(url), Some(access)) if known.provider.wants_more(&token) => {
                let headers = [(AUTHORIZATION, format!("Bearer {access}"))];
                let asked = self.web.ask(Question {
                    url,
                    body: None,
                    headers: &headers,
                    time: TIME,
                    most: MOST_ANSWER,
                });
                match asked.await {
                    Ok((StatusCode::OK, text)) => Some(read_object(&text).ok_or(Refusal::Answer)?),
                    _ => return Err(Refusal::Unreachable),
                }
            }
            _ => None,
        };
        known.provider.judge(&token, more.as_ref())
    }
}
