//! What one login is made of. The browser keeps one random text; everything that is particular to the login comes
//! of it: the state that the provider sends back, the nonce that stands in the ID token, and the verifier that goes
//! with the code. So nobody has the one without the other, and the server keeps only a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::discovery::Discovery;
use super::file::Provider;
use super::{encode, form};
use crate::keys::{KeyError, new_text_of};

/// What the text begins with.
pub const FLOW_PREFIX: &str = "skep_flow_";
/// Characters of a place to go back to.
const MOST_BACK: usize = 1024;
/// Characters of the text.
const MOST_TEXT: usize = 100;

/// One login on its way.
#[derive(Clone)]
pub struct Flow {
    text: String,
}

impl Flow {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn new() -> Result<Self, KeyError> {
        new_text_of(FLOW_PREFIX).map(|text| Self { text })
    }

    /// The one that a browser shows.
    #[must_use]
    pub fn shown(text: &str) -> Option<Self> {
        let fits = text.starts_with(FLOW_PREFIX) && text.len() <= MOST_TEXT;
        fits.then(|| Self {
            text: text.to_owned(),
        })
    }

    /// What the browser keeps.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let hash = Sha256::new()
            .chain_update(purpose.as_bytes())
            .chain_update([0])
            .chain_update(self.text.as_bytes());
        hash.finalize().into()
    }

    /// What the server knows it by.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        self.derive("skep 2026-11 login key")
    }

    /// What the provider sends back with the browser.
    #[must_use]
    pub fn state(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.derive("skep 2026-11 login state"))
    }

    /// What stands in the ID token.
    #[must_use]
    pub fn nonce(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.derive("skep 2026-11 login nonce"))
    }

    /// What goes with the code (RFC 7636).
    #[must_use]
    pub fn verifier(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.derive("skep 2026-11 login verifier"))
    }

    /// Whether this state is its own.
    #[must_use]
    pub fn has_state(&self, state: &str) -> bool {
        skep_crypto::same(self.state().as_bytes(), state.as_bytes())
    }

    /// Where the browser goes.
    #[must_use]
    pub fn url(&self, provider: &Provider, doors: &Discovery, redirect: &str) -> String {
        let challenge = Sha256::digest(self.verifier().as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let (state, nonce) = (self.state(), self.nonce());
        let acr = provider.wished();
        let mut parts = vec![
            ("response_type", "code"),
            ("client_id", provider.client()),
            ("redirect_uri", redirect),
            ("scope", provider.scopes()),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if !acr.is_empty() {
            parts.push(("acr_values", &acr));
        }
        let sign = if doors.authorization.contains('?') {
            '&'
        } else {
            '?'
        };
        format!("{}{sign}{}", doors.authorization, form(&parts))
    }

    /// The form that goes to the provider with the code, and the header with the client's secret.
    #[must_use]
    pub fn exchange(
        &self,
        provider: &Provider,
        doors: &Discovery,
        (code, redirect): (&str, &str),
    ) -> (String, Option<String>) {
        let verifier = self.verifier();
        let mut parts = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", &verifier),
        ];
        let client = provider.client();
        match provider.secret() {
            Some(secret) if doors.basic => {
                // Each is encoded first (RFC 6749, section 2.3.1).
                let pair = format!("{}:{}", encode(client), encode(secret));
                let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                (form(&parts), Some(format!("Basic {pair}")))
            }
            Some(secret) => {
                parts.extend([("client_id", client), ("client_secret", secret)]);
                (form(&parts), None)
            }
            None => {
                parts.push(("client_id", client));
                (form(&parts), None)
            }
        }
    }
}

/// Whether a text is a place of ours that a browser may go to: a path, and nothing that a browser takes for
/// another host.
#[must_use]
pub fn is_back(text: &str) -> bool {
    let mut bytes = text.bytes();
    let plain = |it: u8| it.is_ascii_graphic() && it != b'\\';
    text.len() <= MOST_BACK
        && bytes.next() == Some(b'/')
        && bytes.clone().next() != Some(b'/')
        && bytes.all(plain)
}
