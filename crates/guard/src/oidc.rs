//! Logins by OpenID Connect (Core 1.0, Discovery 1.0): the authorization code flow with PKCE (RFC 6749, 7636, 9207)
//! by the advice of RFC 9700. Everything here is pure.
//!
//! `file` reads which providers there are, `discovery` what one says of itself, `flow` has what a login is
//! made of, `answer` reads what the provider answers, and says who it is.
//!
//! Who talks to the provider hands in texts. ID tokens are verified by [`crate::jwt::IdTokens`]; whom an account
//! is here is found out by [`crate::identity`].

mod answer;
mod discovery;
mod file;
mod flow;

#[cfg(test)]
mod oidc_tests;

use std::fmt;

use crate::jwt;

pub use answer::{Answer, read_answer, read_object};
pub use discovery::Discovery;
pub use file::{Provider, Providers, Secret, read_file};
pub use flow::{FLOW_PREFIX, Flow, is_back};

/// Why a login at a provider came to nothing, in a word: all that a log line says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The browser did not begin it, or it is over.
    State,
    /// Another provider answered, or it does not say which.
    Issuer,
    /// The provider says no.
    Denied,
    /// The provider does not answer.
    Unreachable,
    /// The provider did not take the code.
    Code,
    /// The provider's answer is none.
    Answer,
    /// The ID token counts for nothing.
    Token(jwt::Refusal),
    /// The ID token is of another login.
    Nonce,
    /// The ID token is of another access token.
    AccessToken,
    /// What the provider says of the person is of another one.
    Person,
    /// The address is not one of those that may.
    Domain,
    /// The provider does not say that it asked for a second factor.
    SecondFactor,
}

impl Refusal {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Issuer => "issuer",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Code => "code",
            Self::Answer => "answer",
            Self::Token(of) => of.as_str(),
            Self::Nonce => "nonce",
            Self::AccessToken => "access-token",
            Self::Person => "person",
            Self::Domain => "domain",
            Self::SecondFactor => "second-factor",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text as a part of a query or a form.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Names with values, as a query or a form.
fn form(parts: &[(&str, &str)]) -> String {
    let pairs = parts
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}
