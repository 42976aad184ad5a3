//! Who comes with a client certificate: a table of certificates and names, from a file of TOML.
//!
//! That a certificate is what it says and of whom it is was found out in the handshake. Here stands only
//! whom it counts for.

use serde::Deserialize;
use skep_core::Workspace;

use crate::policy::{Principal, PrincipalKind, Role, Scopes};

/// Certificates of a file.
const MOST: usize = 10_000;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// The SHA-256 of its DER, in hexadecimal.
    pub fingerprint: String,
    /// The names that it is for (subjectAltName): DNS, e-mail and URI.
    pub names: Vec<String>,
    /// The common name of its subject.
    pub common_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    certificate: Vec<Wire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    fingerprint: Option<String>,
    san: Option<String>,
    cn: Option<String>,
    workspace: String,
    role: String,
}

/// By what a certificate is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Fingerprint(String),
    Name(String),
    CommonName(String),
}

/// Whom certificates count for.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Vec<(By, Principal)>);

impl Certificates {
    /// The certificates of a file.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn read(text: &str) -> Result<Self, String> {
        let document: Document =
            toml::from_str(text).map_err(|error| crate::jwt::place(text, &error))?;
        if document.certificate.len() > MOST {
            return Err(format!("there are more than {MOST} certificates"));
        }
        let mut all: Vec<(By, Principal)> = Vec::new();
        for (at, wire) in document.certificate.into_iter().enumerate() {
            let called = format!("certificate {} (`{}`)", at + 1, wire.name);
            let (by, who) = wire
                .read()
                .map_err(|reason| format!("{called}: {reason}"))?;
            if all
                .iter()
                .any(|(other, it)| *other == by || it.id == who.id)
            {
                return Err(format!(
                    "{called}: there is one of this name or certificate"
                ));
            }
            all.push((by, who));
        }
        Ok(Self(all))
    }

    /// Whom a certificate counts for: the first line that fits it.
    #[must_use]
    pub fn find(&self, shown: &Shown) -> Option<&Principal> {
        let fits = |by: &By| match by {
            By::Fingerprint(it) => *it == shown.fingerprint,
            By::Name(it) => shown.names.contains(it),
            By::CommonName(it) => shown.common_name.as_ref() == Some(it),
        };
        let mut all = self.0.iter();
        all.find(|(by, _)| fits(by)).map(|(_, who)| who)
    }
}

impl Wire {
    fn read(self) -> Result<(By, Principal), String> {
        Workspace::new(&self.name).map_err(|error| error.to_string())?;
        let by = match (self.fingerprint, self.san, self.cn) {
            (Some(text), None, None) => {
                let hex = text.replace(':', "").to_ascii_lowercase();
                if hex.len() != 64 || !hex.bytes().all(|it| it.is_ascii_hexdigit()) {
                    return Err("`fingerprint` is a SHA-256 in hexadecimal".to_owned());
                }
                By::Fingerprint(hex)
            }
            (None, Some(name), None) if !name.is_empty() => By::Name(name),
            (None, None, Some(name)) if !name.is_empty() => By::CommonName(name),
            _ => return Err("give one of `fingerprint`, `san` and `cn`".to_owned()),
        };
        let workspace = Workspace::new(&self.workspace).map_err(|error| error.to_string())?;
        let who = Principal {
            kind: PrincipalKind::User,
            id: format!("cert_{}", self.name).into(),
            workspace,
            role: Some(self.role.parse::<Role>()?),
            scopes: Scopes::all(),
        };
        Ok((by, who))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str) -> String {
        format!(
            "[[certificate]]\nname = \"ci\"\n{key}\nworkspace = \"default\"\nrole = \"member\"\n"
        )
    }

    #[test]
    fn a_certificate_is_known_by_what_the_line_says_and_by_nothing_else() {
        let shown = Shown {
            fingerprint: "ab".repeat(32),
            names: vec!["ci.example.com".to_owned()],
            common_name: Some("ci".to_owned()),
        };
        let upper = format!("fingerprint = \"{}\"", ["AB"; 32].join(":"));
        for (key, fits) in [
            (upper.as_str(), true),
            ("san = \"ci.example.com\"", true),
            ("cn = \"ci\"", true),
            ("san = \"ci\"", false),
            ("cn = \"ci.example.com\"", false),
            ("san = \"CI.example.com\"", false),
            ("san = \"*.example.com\"", false),
        ] {
            let found = Certificates::read(&line(key)).unwrap();
            let id = found.find(&shown).map(|it| it.id.to_string());
            assert_eq!(id.as_deref() == Some("cert_ci"), fits, "{key}");
            assert!(found.find(&Shown::default()).is_none());
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, said) in [
            (
                line("fingerprint = \"ab\""),
                "certificate 1 (`ci`): `fingerprint` is a SHA-256",
            ),
            (line(""), "give one of"),
            (line("cn = \"\""), "give one of"),
            (line("cn = \"a\"\nsan = \"b\""), "give one of"),
            (line("cn = \"a\"\ndn = \"b\""), "line 4: unknown field `dn`"),
            (
                line("cn = \"a\"").replace("member", "king"),
                "`king` is no role",
            ),
            (
                line("cn = \"a\"").repeat(2),
                "certificate 2 (`ci`): there is one",
            ),
        ] {
            let error = Certificates::read(&text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
