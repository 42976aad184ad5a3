//! Tokens of agents: what an instance shows to say who it is.
//!
//! A token is a text that Skep signed (HMAC-SHA-256) about one instance of an agent, for one audience. It is
//! kept nowhere: it counts while its instance lives, which whoever checks it looks up. An agent can have a
//! narrower and shorter one made of its own, to hand to another; nothing makes a token wider or longer.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use skep_core::{InstanceId, Timestamp, Workspace};

use crate::policy::{Principal, PrincipalKind, Scopes};

/// What every token begins with.
pub const PREFIX: &str = "skep_token_";
/// The audience of Skep's own API and of other agents.
pub const API: &str = "skep";
/// How long a token that an agent makes lasts, unless it says.
pub const LASTS: Duration = Duration::from_secs(5 * 60);
/// The longest that one lasts.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of a token.
const MOST: usize = 4_096;
/// Scopes of one.
const MOST_SCOPES: usize = 32;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// The form of this.
    v: u8,
    workspace: String,
    agent: String,
    instance: String,
    audience: String,
    scopes: Vec<String>,
    /// Microseconds; an instance's own token has no end but the instance's.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
}

/// Why there is no narrower token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It would reach further than the one that it is made of.
    #[error("`{0}` is more than the token that it is made of")]
    Wider(String),
    /// There is no such scope.
    #[error("`{0}` is neither an action nor a group, nor one of them with `@AGENT`")]
    Unknown(String),
    /// It would last too long.
    #[error("a token lasts {} s at most", LONGEST.as_secs())]
    Longer,
    /// There are too many scopes.
    #[error("a token has 1 to {MOST_SCOPES} scopes")]
    Scopes,
}

/// An agent's token that was found right; whether its instance lives is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who shows it.
    pub principal: Principal,
    /// Of which instance.
    pub instance: InstanceId,
    /// When it ends.
    pub expires: Option<Timestamp>,
    audience: String,
}

/// What tokens are signed with. Cheap to clone.
#[derive(Clone)]
pub struct TokenKey(Arc<hmac::Key>);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// Whether a text has the form of a token, whoever signed it.
pub(crate) fn has_form(text: &str) -> bool {
    let parts = text.strip_prefix(PREFIX).filter(|it| it.len() <= MOST);
    let Some((body, mac)) = parts.and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let claims = URL_SAFE_NO_PAD.decode(body).ok();
    let claims = claims.and_then(|it| serde_json::from_slice::<Claims>(&it).ok());
    claims.is_some() && URL_SAFE_NO_PAD.decode(mac).is_ok_and(|it| it.len() == 32)
}

impl TokenKey {
    /// The key of these bytes, which must be random.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    fn sign(&self, claims: &Claims) -> String {
        // Claims hold nothing that JSON cannot say.
        let body = serde_json::to_vec(claims).unwrap_or_default();
        let mut text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(body));
        let mac = hmac::sign(&self.0, text.as_bytes());
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(mac.as_ref()));
        text
    }

    /// The token of an instance, which counts as long as that lives.
    #[must_use]
    pub fn of_instance(
        &self,
        workspace: &Workspace,
        agent: &str,
        instance: InstanceId,
        audience: &str,
    ) -> String {
        self.sign(&Claims {
            v: 1,
            workspace: workspace.to_string(),
            agent: agent.to_owned(),
            instance: instance.to_string(),
            audience: audience.to_owned(),
            scopes: vec!["*".to_owned()],
            expires: None,
        })
    }

    /// What a text says that this key signed, for this audience, and that has not ended.
    #[must_use]
    pub fn check(&self, text: &str, audience: &str, now: Timestamp) -> Option<Token> {
        if text.len() > MOST {
            return None;
        }
        let (head, mac) = text.rsplit_once('.')?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(&self.0, head.as_bytes(), &mac).ok()?;
        let body = URL_SAFE_NO_PAD.decode(head.strip_prefix(PREFIX)?).ok()?;
        let claims: Claims = serde_json::from_slice(&body).ok()?;
        let expires = claims.expires.map(Timestamp::from_micros);
        let fits =
            claims.v == 1 && claims.audience == audience && expires.is_none_or(|end| now < end);
        fits.then_some(())?;
        Some(Token {
            principal: Principal {
                kind: PrincipalKind::Agent,
                id: claims.agent.into(),
                workspace: Workspace::new(&claims.workspace).ok()?,
                role: None,
                scopes: Scopes::new(claims.scopes),
            },
            instance: claims.instance.parse().ok()?,
            expires,
            audience: claims.audience,
        })
    }

    /// A token of a token: no wider and no longer. Tells when it ends.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn narrower(
        &self,
        of: &Token,
        scopes: Vec<String>,
        lasts: Duration,
        now: Timestamp,
    ) -> Result<(String, Timestamp), TokenError> {
        if lasts > LONGEST {
            return Err(TokenError::Longer);
        }
        if scopes.is_empty() || scopes.len() > MOST_SCOPES {
            return Err(TokenError::Scopes);
        }
        for scope in &scopes {
            if !Scopes::is_known(scope) {
                return Err(TokenError::Unknown(scope.chars().take(80).collect()));
            }
            if !of.principal.scopes.covers(scope) {
                return Err(TokenError::Wider(scope.clone()));
            }
        }
        let end = now.plus(lasts);
        let end = of.expires.map_or(end, |before| before.min(end));
        let token = self.sign(&Claims {
            v: 1,
            workspace: of.principal.workspace.to_string(),
            agent: of.principal.id.to_string(),
            instance: of.instance.to_string(),
            audience: of.audience.clone(),
            scopes,
            expires: Some(end.as_micros()),
        });
        Ok((token, end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Agent, Ask, Circumstances, Resource, Secret, Slice, actions};

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    fn key() -> TokenKey {
        TokenKey::new(&[7; 32])
    }

    fn own() -> (String, InstanceId) {
        let instance = InstanceId::new();
        let text = key().of_instance(&Workspace::default(), "planner", instance, API);
        (text, instance)
    }

    #[test]
    fn a_token_is_its_instances_and_nobody_elses() {
        let (text, instance) = own();
        let token = key().check(&text, API, now()).unwrap();
        assert_eq!(token.instance, instance);
        assert_eq!(&*token.principal.id, "planner");
        assert_eq!(token.principal.role, None);
        assert_eq!(key().check(&text, "llm", now()), None, "another audience");
        assert_eq!(TokenKey::new(&[8; 32]).check(&text, API, now()), None);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(key().check(&changed, API, now()), None, "{at}");
            assert_eq!(key().check(&text[..at], API, now()), None, "{at}");
        }
        assert_eq!(key().check(&format!("{text}.{text}"), API, now()), None);
        assert_eq!(key().check(&"x".repeat(MOST + 1), API, now()), None);
    }

    #[test]
    fn a_narrower_token_ends_and_reaches_no_further() {
        let token = key().check(&own().0, API, now()).unwrap();
        let make = |of: &Token, scopes: &[&str], lasts: u64| {
            let scopes = scopes.iter().map(|it| (*it).to_owned()).collect();
            key().narrower(of, scopes, Duration::from_secs(lasts), now())
        };
        let (text, end) = make(&token, &["agent:call@worker"], 60).unwrap();
        assert_eq!(end, now().plus(Duration::from_secs(60)));
        let narrow = key().check(&text, API, now()).unwrap();
        assert_eq!(key().check(&text, API, end), None, "it has ended");
        // One made of it ends no later, and is no wider.
        let (again, sooner) = make(&narrow, &["agent:call@worker"], 600).unwrap();
        assert_eq!(sooner, end);
        assert!(key().check(&again, API, now()).is_some());
        for wider in ["agent:call", "*", "use", "agent:call@other", "read@worker"] {
            let refused = make(&narrow, &[wider], 1);
            assert_eq!(refused.unwrap_err(), TokenError::Wider(wider.to_owned()));
        }
        assert_eq!(
            make(&token, &["agent:fly"], 1).unwrap_err(),
            TokenError::Unknown("agent:fly".to_owned())
        );
        assert_eq!(
            make(&token, &["use"], 3_601).unwrap_err(),
            TokenError::Longer
        );
        assert_eq!(make(&token, &[], 1).unwrap_err(), TokenError::Scopes);
    }

    fn any_scope() -> impl Strategy<Value = String> {
        let mut names: Vec<String> = actions().into_keys().collect();
        names.extend(["*", "read", "use", "operate", "sensitive"].map(str::to_owned));
        let of = proptest::option::of(proptest::sample::select(vec!["a", "b"]));
        (proptest::sample::select(names), of).prop_map(|(name, of)| match of {
            Some(of) => format!("{name}@{of}"),
            None => name,
        })
    }

    proptest! {
        /// Whatever is made of a token may nothing that the token may not.
        #[test]
        fn nothing_made_of_a_token_may_more(
            first in proptest::collection::vec(any_scope(), 1..4),
            second in proptest::collection::vec(any_scope(), 1..4),
        ) {
            let text = "permit (principal, action, resource);";
            let slice = Slice::new(&crate::policy::validate(text).unwrap(), None);
            let root = key().check(&own().0, API, now()).unwrap();
            let (one, _) = key().narrower(&root, first, LASTS, now()).unwrap();
            let one = key().check(&one, API, now()).unwrap();
            let Ok((two, _)) = key().narrower(&one, second, LASTS, now()) else {
                return Ok(());
            };
            let two = key().check(&two, API, now()).unwrap();
            for (action, kinds) in actions() {
                for kind in kinds {
                    let resources: Vec<Resource<'_>> = match kind.as_str() {
                        "Agent" => ["a", "b", "c"].map(|it| Resource::Agent(Agent::named(it))).to_vec(),
                        "Call" => vec![
                            Resource::Call { id: "x", agent: None },
                            Resource::Call { id: "x", agent: Some(Agent::named("a")) },
                        ],
                        "Secret" => vec![Resource::Secret(Secret::unknown("x"))],
                        "Model" => vec![Resource::Model("openai/gpt-4o")],
                        "Tool" => vec![Resource::Tool { name: "files/read", class: "read" }],
                        "Host" => vec![Resource::Host("api.example.com:443")],
                        "Server" => vec![Resource::Server],
                        _ => vec![Resource::Workspace],
                    };
                    for resource in resources {
                        let may = |token: &Token| slice.decide(&Ask {
                            principal: &token.principal,
                            action: &action,
                            resource,
                            circumstances: &Circumstances::at(now()),
                        }).allow;
                        prop_assert!(!may(&two) || may(&one), "{action} {resource:?}");
                        prop_assert!(!may(&one) || may(&root), "{action} {resource:?}");
                    }
                }
            }
        }
    }
}
