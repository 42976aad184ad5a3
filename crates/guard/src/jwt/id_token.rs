//! ID tokens: what a provider says of somebody who has just logged in there (OpenID Connect Core 1.0, section
//! 3.1.3.7). What is particular to one login (its nonce, its access token) is compared in `oidc`.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use skep_core::Timestamp;

use super::source::{Fetch, Origin, Remote, Source};
use super::token::Token;
use super::{Refusal, claims, key};

/// How long fetched keys count: who changes them need not wait longer.
const KEEP: Duration = Duration::from_secs(3600);
/// How old a token is at most: it was made for the login that brings it.
const OLDEST: Duration = Duration::from_secs(600);

/// The ID tokens of one provider, for one client.
pub struct IdTokens {
    issuer: String,
    client: String,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    fetch: Arc<dyn Fetch>,
    source: Mutex<Option<(String, Arc<Source>)>>,
}

/// One that counts.
pub struct IdToken {
    /// Whom the provider means.
    pub subject: String,
    /// By what it is signed.
    pub algorithm: String,
    /// What it says.
    pub claims: Map<String, Value>,
}

/// Algorithms of these names, by public keys.
pub(crate) fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    let read = |name: &String| {
        let found = key::algorithm(name).filter(|it| !key::is_secret(*it));
        found.ok_or_else(|| {
            format!(
                "`{name}` is no algorithm: there are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
            )
        })
    };
    let all: Vec<Algorithm> = names.iter().map(read).collect::<Result<_, _>>()?;
    match all.is_empty() {
        true => Err("`algorithms` says by which its tokens are signed; fill it".to_owned()),
        false => Ok(all),
    }
}

impl IdTokens {
    pub(crate) fn new(
        (issuer, client): (&str, &str),
        algorithms: Vec<Algorithm>,
        leeway: Duration,
        fetch: Arc<dyn Fetch>,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            client: client.to_owned(),
            algorithms,
            leeway,
            fetch,
            source: Mutex::default(),
        }
    }

    /// The keys behind this URL.
    fn source(&self, url: &str) -> Arc<Source> {
        let mut source = self.source.lock();
        if let Some((_, known)) = source.as_ref().filter(|(of, _)| of == url) {
            return known.clone();
        }
        let remote = Remote {
            url: url.to_owned(),
            algorithms: self.algorithms.clone(),
            refresh: KEEP,
            keep: KEEP,
        };
        let new = Arc::new(Source::new(Origin::Url(remote), self.fetch.clone()));
        *source = Some((url.to_owned(), new.clone()));
        new
    }

    /// The token that is this text, when it counts. Its keys are behind `keys`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn verify(&self, text: &str, keys: &str, now: Timestamp) -> Result<IdToken, Refusal> {
        let token = Token::parse(text)?;
        if token.claims().get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(Refusal::Issuer);
        }
        let key = self.source(keys).key(token.kid()).await?;
        key.verify(&token)?;
        let said = token.claims();
        let ours = std::slice::from_ref(&self.client);
        claims::is_for(said, ours)?;
        self.is_party(said)?;
        let subject = claims::check(said, now, self.leeway)?;
        let made = claims::moment(said, "iat")?.ok_or(Refusal::Claims)?;
        if made.plus(OLDEST).plus(self.leeway) <= now {
            return Err(Refusal::Expired);
        }
        Ok(IdToken {
            subject: subject.to_owned(),
            algorithm: token.algorithm().to_owned(),
            claims: said.clone(),
        })
    }

    /// Whether it was made for this client, also when others may read it.
    fn is_party(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        let several = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            None if several => Err(Refusal::Audience),
            None => Ok(()),
            Some(party) if party.as_str() == Some(&self.client) => Ok(()),
            Some(_) => Err(Refusal::Audience),
        }
    }
}
