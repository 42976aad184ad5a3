//! What a provider answers, and who it says that it is.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Refusal;
use super::file::{Provider, Terms};
use super::flow::Flow;
use crate::identity::{Admits, Proof, normal_email};
use crate::jwt::{IdToken, strict};

/// Characters of a person's name that are taken.
const MOST_NAME: usize = 100;

/// What is got for a code.
pub struct Answer {
    /// Who it is.
    pub id_token: String,
    /// What more can be asked with.
    pub access_token: Option<String>,
}

/// A JSON object that names nothing twice.
#[must_use]
pub fn read_object(text: &[u8]) -> Option<Map<String, Value>> {
    match strict(text) {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// What is got for a code, from its JSON.
#[must_use]
pub fn read_answer(text: &[u8]) -> Option<Answer> {
    let said = read_object(text)?;
    let of = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Answer {
        id_token: of("id_token")?,
        access_token: of("access_token"),
    })
}

impl Flow {
    /// Whether an ID token is of this login, and of this access token.
    ///
    /// # Errors
    /// [`Refusal::Nonce`], [`Refusal::AccessToken`].
    pub fn fits(&self, token: &IdToken, access: Option<&str>) -> Result<(), Refusal> {
        let nonce = token.claims.get("nonce").and_then(Value::as_str);
        let same = |it: &str| skep_crypto::same(it.as_bytes(), self.nonce().as_bytes());
        if !nonce.is_some_and(same) {
            return Err(Refusal::Nonce);
        }
        match token.claims.get("at_hash") {
            None => Ok(()),
            Some(hash) => {
                let made = access.and_then(|it| half_hash(&token.algorithm, it));
                let same = made.is_some() && made.as_deref() == hash.as_str();
                same.then_some(()).ok_or(Refusal::AccessToken)
            }
        }
    }
}

/// The left half of a text's hash, by the hash of the signature (section 3.1.3.6).
fn half_hash(algorithm: &str, text: &str) -> Option<String> {
    let hash = match algorithm {
        "RS256" | "PS256" | "ES256" => &digest::SHA256,
        "RS384" | "PS384" | "ES384" => &digest::SHA384,
        "RS512" | "PS512" | "EdDSA" => &digest::SHA512,
        _ => return None,
    };
    let made = digest::digest(hash, text.as_bytes());
    let made = made.as_ref();
    Some(URL_SAFE_NO_PAD.encode(&made[..made.len() / 2]))
}

impl Provider {
    /// Whether the address has to be asked for: the ID token does not say it.
    #[must_use]
    pub fn wants_more(&self, token: &IdToken) -> bool {
        !token.claims.contains_key(&self.terms.email_claim)
    }

    /// Who somebody is, by the ID token and what was asked for besides.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(
        &self,
        token: &IdToken,
        more: Option<&Map<String, Value>>,
    ) -> Result<Proof, Refusal> {
        if let Some(more) = more
            && more.get("sub").and_then(Value::as_str) != Some(&token.subject)
        {
            return Err(Refusal::Person);
        }
        let Terms {
            email_claim,
            email_verified,
            domains,
            second_factor_needed,
            ..
        } = &self.terms;
        // Address and whether it is verified are said in one place.
        let said = match more {
            Some(more) if self.wants_more(token) => more,
            _ => &token.claims,
        };
        // What the provider says of `email` it does not say of another claim (OpenID Connect Core, section 5.1).
        let said_of_it = said
            .get("email_verified")
            .filter(|_| email_claim == "email");
        let verified = match said_of_it {
            Some(Value::Bool(yes)) => *yes,
            Some(Value::String(text)) => text == "true",
            Some(_) => false,
            None => *email_verified,
        };
        let email = said.get(email_claim).and_then(Value::as_str);
        let email = email.filter(|_| verified).map(normal_email);
        let email = email.and_then(Result::ok);
        let may = |email: &String| domains.iter().any(|it| is_of(email, it));
        if !domains.is_empty() && !email.as_ref().is_some_and(may) {
            return Err(Refusal::Domain);
        }
        let second_factor = self.asked_twice(&token.claims);
        if *second_factor_needed && !second_factor {
            return Err(Refusal::SecondFactor);
        }
        Ok(Proof {
            provider: self.name.clone(),
            issuer: self.issuer.clone(),
            subject: token.subject.clone(),
            name: name(&[Some(&token.claims), more], email.as_deref()),
            email,
            second_factor,
        })
    }

    /// Whether it asked for a second factor, by the words of it that count.
    fn asked_twice(&self, claims: &Map<String, Value>) -> bool {
        let Terms { amr, acr, .. } = &self.terms;
        let is_one = |all: &[String], it: &Value| {
            let text = it.as_str();
            text.is_some_and(|text| all.iter().any(|one| one == text))
        };
        let methods = claims.get("amr").and_then(Value::as_array);
        let by_method = methods.is_some_and(|all| all.iter().any(|it| is_one(amr, it)));
        by_method || claims.get("acr").is_some_and(|it| is_one(acr, it))
    }

    /// Whom its word lets in who is not linked.
    #[must_use]
    pub fn admits(&self, proof: &Proof) -> Admits {
        let Terms {
            trusted_for, join, ..
        } = &self.terms;
        let trusted = |email: &String| trusted_for.iter().any(|it| is_of(email, it));
        Admits {
            by_email: proof.email.as_ref().is_some_and(trusted),
            join: join.clone(),
        }
    }
}

/// Whether an address is of a domain, and not of one below it.
fn is_of(email: &str, domain: &str) -> bool {
    email.rsplit_once('@').is_some_and(|(_, of)| of == domain)
}

/// What people call them: a name, else what stands before the `@`.
fn name(said: &[Option<&Map<String, Value>>], email: Option<&str>) -> String {
    let of = |name: &str| {
        let mut all = said.iter().flatten();
        all.find_map(|it| it.get(name).and_then(Value::as_str))
    };
    let local = email.and_then(|it| it.split('@').next());
    let found = of("name").or_else(|| of("preferred_username")).or(local);
    let kept = found.unwrap_or_default().chars();
    let kept: String = kept.filter(|it| !it.is_control()).take(MOST_NAME).collect();
    match kept.trim() {
        "" => "nameless".to_owned(),
        some => some.to_owned(),
    }
}
