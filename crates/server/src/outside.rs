//! Who comes with a token of another issuer: the file of issuers, fetching their keys, and what is
//! counted. What is wrong with a token is told in one word, here and in the metrics, and never to who
//! shows it.

use std::path::Path;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use skep_core::Workspaces;
use skep_core::config::Settings;
use skep_guard::Principal;
use skep_guard::jwt::{self, Condition, Fetch, Jwt, Refusal};
use skep_store::Db;

use crate::ServerError;
use crate::outgoing;
use crate::reread::{Reader, Reread};
use crate::web::Web;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// Who comes from outside.
pub(crate) struct Outside {
    /// The file of issuers, and them; `None` without one.
    file: Option<Reread<Vec<jwt::Issuer>, Jwt>>,
    db: Db,
    refused: Family<ByReason, Counter>,
}

impl Outside {
    pub(crate) fn open(
        settings: &Settings,
        db: &Db,
        registry: &mut Registry,
    ) -> Result<Self, ServerError> {
        let fetch: Arc<dyn Fetch> = Arc::new(Web(outgoing::guard(settings)?));
        let make = move |issuers, before: Option<&Jwt>| match before {
            None => Jwt::new(issuers, &fetch),
            Some(before) => Jwt::after(before, issuers, &fetch),
        };
        let file = settings.auth_issuers.as_ref().map(|path| {
            Reread::open(path, read, Box::new(make)).map_err(|reason| ServerError::Issuers {
                path: path.clone(),
                reason,
            })
        });
        let file = file.transpose()?;
        let refused = Family::default();
        if file.is_some() {
            for reason in Refusal::ALL.map(Refusal::as_str) {
                drop(refused.get_or_create(&ByReason { reason }));
            }
            registry.register(
                "skep_tokens_refused",
                "Tokens of outside issuers that were refused, by why",
                refused.clone(),
            );
        }
        Ok(Self {
            file,
            db: db.clone(),
            refused,
        })
    }

    /// The issuers as they are now, when there is any.
    fn issuers(&self) -> Option<Arc<Jwt>> {
        let issuers = self.file.as_ref()?.now();
        (!issuers.is_empty()).then_some(issuers)
    }

    /// Where clients get tokens: the issuers that are addresses.
    pub(crate) fn authorities(&self) -> Vec<String> {
        let issuers = self.issuers();
        let all = issuers.as_ref().map(|it| it.names()).unwrap_or_default();
        let is_address = |it: &&str| it.starts_with("https://") || it.starts_with("http://");
        all.into_iter()
            .filter(is_address)
            .map(str::to_owned)
            .collect()
    }

    /// Whether a credential may be a token: then it is asked about.
    pub(crate) fn takes(&self, text: &str) -> bool {
        self.issuers().is_some() && jwt::has_shape(text)
    }

    /// Whether a text is a token that was made for Skep.
    pub(crate) fn is_ours(&self, text: &str) -> bool {
        self.takes(text) && self.issuers().is_some_and(|it| it.is_for_us(text))
    }

    /// Who bears a token at a path, in one of these workspaces.
    pub(crate) async fn find(&self, token: (&str, &str), there: &Workspaces) -> Option<Principal> {
        let now = self.db.clock().now();
        let issuers = self.issuers()?;
        let found = issuers.find(token, now, |it| there.has(it));
        match found.await {
            Ok(principal) => Some(principal),
            Err(refusal) => {
                let reason = refusal.as_str();
                tracing::debug!(reason, "a token was refused");
                self.refused.get_or_create(&ByReason { reason }).inc();
                None
            }
        }
    }

    /// Keeps the keys of issuers fresh, and the issuers. Never ends.
    pub(crate) async fn keep_fresh(&self) {
        let Some(file) = &self.file else {
            return std::future::pending().await;
        };
        loop {
            let issuers = file.now();
            tokio::select! {
                () = issuers.keep_fresh() => {}
                () = file.changed() => {}
            }
        }
    }

    pub(crate) fn conditions(&self) -> Vec<(String, Condition)> {
        let file = self.file.as_ref();
        file.map(|file| file.now().conditions()).unwrap_or_default()
    }

    /// What is wrong with the file of issuers as it is now.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.file.as_ref()?.wrong()
    }
}

fn read(path: &Path, reader: &Reader) -> Result<Vec<jwt::Issuer>, String> {
    let text = reader.text(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    jwt::read_file(&text, |secret| reader.secret(&folder.join(secret)))
}
