//! Identifiers: UUIDv7 (RFC 9562) with a type prefix, written as the TypeID specification says
//! (`call_01h455vb4pex5vsknk084sn02q`: 26 characters of Crockford base32 after the prefix), so
//! that they sort by time of creation both as bytes and as text.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ENCODED_LEN: usize = 26;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}_… (26 characters after the prefix)")]
pub struct ParseIdError {
    text: String,
    prefix: &'static str,
}

fn encode(uuid: Uuid) -> [u8; ENCODED_LEN] {
    let mut value = uuid.as_u128();
    let mut out = [0_u8; ENCODED_LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    out
}

fn decode(text: &str) -> Option<Uuid> {
    // 26 characters carry 130 bits: the first may hold no more than 3.
    if text.len() != ENCODED_LEN || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes()
        .try_fold(0_u128, |value, byte| {
            let digit = ALPHABET.iter().position(|&c| c == byte)?;
            Some((value << 5) | digit as u128)
        })
        .map(Uuid::from_u128)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier; later ones of this process sort after it.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each call makes another one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The identifier with these sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes, big-endian: they sort as the text form does.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                let encoded = encode(self.0);
                f.write_str(std::str::from_utf8(&encoded).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { text: text.chars().take(64).collect(), prefix: $prefix })
            }
        }
    };
}

id!(
    /// An agent.
    AgentId, "agt"
);
id!(
    /// A call: one durable request to an agent.
    CallId, "call"
);
id!(
    /// A run: what a call carries of a conversation.
    RunId, "run"
);
id!(
    /// A thread: the conversation that runs belong to.
    ThreadId, "thr"
);
id!(
    /// One running copy of an agent's revision.
    InstanceId, "ins"
);
id!(
    /// An API key (its public part).
    KeyId, "key"
);
id!(
    /// A lease of a secret.
    LeaseId, "lse"
);
id!(
    /// A wish to use a secret, which somebody decides.
    AccessRequestId, "acr"
);
id!(
    /// A rotation of keys of the vault.
    RotationId, "rot"
);
id!(
    /// Another store of secrets, mounted below a path.
    MountId, "mnt"
);
id!(
    /// A secret.
    SecretId, "sec"
);
id!(
    /// One request to a model, with its answer.
    ExchangeId, "exc"
);
id!(
    /// A person.
    UserId, "usr"
);
id!(
    /// A person's session.
    SessionId, "ses"
);
id!(
    /// An invitation to a workspace.
    InvitationId, "inv"
);
id!(
    /// An account at a provider that somebody comes in by.
    LinkId, "lnk"
);
id!(
    /// Something that looked like an attack.
    DetectionId, "det"
);
id!(
    /// Somebody whom the audit log knows by nothing but personal data.
    PersonId, "person"
);
id!(
    /// Something that a webhook endpoint is told; the same for each endpoint and at each try.
    MessageId, "msg"
);
id!(
    /// A server: one data folder, over all its starts.
    ServerId, "srv"
);
id!(
    /// One HTTP request to the server; on every log line and problem document of it.
    RequestId, "req"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_follows_the_typeid_vectors() {
        // From the TypeID specification's valid.yml.
        let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
        let id = CallId::from_bytes(*uuid.as_bytes());
        assert_eq!(id.to_string(), "call_01h455vb4pex5vsknk084sn02q");
        assert_eq!("call_01h455vb4pex5vsknk084sn02q".parse(), Ok(id));
        assert_eq!(
            encode(Uuid::from_u128(u128::MAX)),
            *b"7zzzzzzzzzzzzzzzzzzzzzzzzz"
        );
    }

    #[test]
    fn refuses_other_prefixes_lengths_and_overflow() {
        for text in [
            "agt_01h455vb4pex5vsknk084sn02q",
            "call_01h455vb4pex5vsknk084sn02",
            "call_81h455vb4pex5vsknk084sn02q",
            "call_01h455vb4pex5vsknk084sn02Q",
            "call_é1h455vb4pex5vsknk084sn02",
            "",
        ] {
            assert!(text.parse::<CallId>().is_err(), "{text}");
        }
    }

    #[test]
    fn sorts_by_creation_as_bytes_and_as_text() {
        let ids: Vec<_> = (0..1000).map(|_| CallId::new()).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().map(ToString::to_string).is_sorted());
    }
}
