//! Bearer tokens of outside issuers: JWT (RFC 7519) as JWS in compact form (RFC 7515), by the advice of
//! RFC 8725.
//!
//! `token` reads a token strictly, `key` has keys with their one algorithm each, `claims` says whom a
//! token is for and how long, `mapping` who it is here, `file` reads the configuration; all of them are
//! pure. `source` has the keys of an issuer and fetches those that are behind a URL, by a [`Fetch`] that
//! it is given. `id_token` verifies what providers say of who has just logged in.
//!
//! The algorithm is the key's and never the token's. A token is looked at only when the issuer that it
//! names is one of the configured ones, and nothing that it carries leads anywhere: no URL and no key in
//! it is ever read.

mod claims;
mod file;
mod id_token;
mod key;
mod mapping;
mod source;
mod token;

#[cfg(test)]
mod jwt_tests;
#[cfg(test)]
mod wycheproof_tests;

use std::fmt;
use std::sync::Arc;

use skep_core::{Timestamp, Workspace};

use crate::policy::Principal;

pub use file::{Issuer, read_file};
pub(crate) use file::{is_web_url, place};
pub(crate) use id_token::algorithms as id_algorithms;
pub use id_token::{IdToken, IdTokens};
pub use source::{Condition, Fetch, Fetched, MOST_KEY_SET};
pub(crate) use token::strict;
pub use token::{MOST_TOKEN, has_shape};

/// Why a token counts for nothing, in a word: all that a log line or a metric says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It is no JWS in compact form, or is too long.
    Malformed,
    /// Its header asks for what is not done here.
    Header,
    /// It names no issuer that is known.
    Issuer,
    /// Its issuer has no such key.
    Key,
    /// The keys of its issuer are not there.
    Unreachable,
    /// Its algorithm is not the key's.
    Algorithm,
    /// Its signature is wrong.
    Signature,
    /// A claim is missing or of a wrong type.
    Claims,
    /// It is for somebody else.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// Nothing says what its bearer is here.
    Mapping,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Header,
        Self::Issuer,
        Self::Key,
        Self::Unreachable,
        Self::Algorithm,
        Self::Signature,
        Self::Claims,
        Self::Audience,
        Self::Expired,
        Self::Early,
        Self::Mapping,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::Unreachable => "unreachable",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Mapping => "mapping",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The issuers whose tokens count. Cheap to clone.
#[derive(Clone)]
pub struct Jwt {
    issuers: Arc<[Trusted]>,
}

struct Trusted {
    issuer: Issuer,
    source: source::Source,
}

impl Jwt {
    /// These issuers; keys behind a URL come by `fetch`.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>, fetch: &Arc<dyn Fetch>) -> Self {
        Self::after(&Self::none(), issuers, fetch)
    }

    /// No issuer.
    #[must_use]
    pub fn none() -> Self {
        Self {
            issuers: Arc::new([]),
        }
    }

    /// These issuers in the place of others: keys that were fetched from the same place count on.
    #[must_use]
    pub fn after(before: &Self, issuers: Vec<Issuer>, fetch: &Arc<dyn Fetch>) -> Self {
        let trusted = issuers.into_iter().map(|mut issuer| {
            let source = source::Source::new(issuer.take_keys(), fetch.clone());
            let mut all = before.issuers.iter();
            if let Some(old) = all.find(|it| it.issuer.issuer == issuer.issuer) {
                source.take_over(&old.source);
            }
            Trusted { issuer, source }
        });
        Self {
            issuers: trusted.collect(),
        }
    }

    /// What the issuers call themselves: the claim `iss` of their tokens.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let all = self.issuers.iter();
        all.map(|it| it.issuer.issuer.as_str()).collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Whether a token says that one of the issuers made it for Skep: it is nobody else's business, be it
    /// valid or not.
    #[must_use]
    pub fn is_for_us(&self, text: &str) -> bool {
        token::Token::parse(text).is_ok_and(|token| {
            let issuer = self.issuer(&token);
            issuer.is_ok_and(|it| claims::is_for(token.claims(), &it.issuer.audience).is_ok())
        })
    }

    fn issuer(&self, token: &token::Token<'_>) -> Result<&Trusted, Refusal> {
        let named = token.claims().get("iss").and_then(|iss| iss.as_str());
        let named = named.ok_or(Refusal::Claims)?;
        let mut all = self.issuers.iter();
        all.find(|it| it.issuer.issuer == named)
            .ok_or(Refusal::Issuer)
    }

    /// Who bears this token, at a path. Waits only when the token names a key that is not known and its issuer may
    /// be asked again.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn find(
        &self,
        (text, path): (&str, &str),
        now: Timestamp,
        exists: impl Fn(&Workspace) -> bool,
    ) -> Result<Principal, Refusal> {
        let token = token::Token::parse(text)?;
        let trusted = self.issuer(&token)?;
        let key = trusted.source.key(token.kid()).await?;
        key.verify(&token)?;
        // Only now anything that it says is believed.
        let issuer = &trusted.issuer;
        claims::is_for(token.claims(), &issuer.audience)?;
        if !claims::is_at(token.claims(), &issuer.audience, path) {
            return Err(Refusal::Audience);
        }
        let subject = claims::check(token.claims(), now, issuer.leeway)?;
        let (workspace, role) = issuer.mapping.apply(token.claims())?;
        if !exists(&workspace) {
            return Err(Refusal::Mapping);
        }
        Ok(mapping::principal(issuer, subject, workspace, role))
    }

    /// Keeps the keys behind URLs fresh. Never ends.
    pub async fn keep_fresh(&self) {
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..self.issuers.len() {
            let issuers = self.issuers.clone();
            tasks.spawn(async move {
                let Trusted { issuer, source } = &issuers[at];
                source.keep_fresh(&issuer.name).await;
            });
        }
        tasks.join_all().await;
        std::future::pending::<()>().await;
    }

    /// How each issuer's keys are, by its name.
    #[must_use]
    pub fn conditions(&self) -> Vec<(String, Condition)> {
        let of = |it: &Trusted| (it.issuer.name.clone(), it.source.condition());
        self.issuers.iter().map(of).collect()
    }
}
