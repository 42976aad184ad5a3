//! `agent.lock`: an agent in one encrypted file. What lives here does no I/O: bytes and keys go in, bytes
//! come out. `docs/agent-lock.md` says each byte of it.
//!
//! A [`Lock`] is a file that was read and is well-formed; [`Lock::open`] checks it with a key and gives an
//! [`Open`], whose layers can be read and changed; [`Open::finish`] makes a file again.

mod entries;
mod error;
mod form;
mod merge;
mod older;
mod open;
mod wrap;
mod writers;

#[cfg(test)]
mod tests;

pub use entries::{Entries, Value};
pub use error::LockError;
pub use form::{Agent, Layer, Lock, May, Opens, Recipient, Signature};
pub use merge::Merged;
pub use older::{DEFAULT_KEY, Older, OlderContent};
pub use open::Open;
pub use wrap::{Kdf, Secret, To};
pub use writers::Writer;

/// The version of the format.
pub const VERSION: u32 = 2;
/// Bytes of a file.
pub const MOST_FILE: usize = 64 << 20;
/// Bytes of a layer before it is encrypted, and after it is expanded.
pub const MOST_LAYER: usize = 32 << 20;
/// Layers of a file.
pub const MOST_LAYERS: usize = 32;
/// Recipients of a file.
pub const MOST_RECIPIENTS: usize = 64;
/// Recipients with a passphrase: each that is tried costs as much as its parameters say.
pub const MOST_PASSPHRASES: usize = 8;
/// Keys of writers that a file tells of: the one that counts, and those before it.
pub const MOST_WRITERS: usize = 64;
/// Entries of a layer.
pub const MOST_ENTRIES: usize = 65_536;
/// Characters of the name of an agent, a recipient or a layer.
pub const LONGEST_NAME: usize = 64;
/// Characters of the name of an entry.
pub const LONGEST_ENTRY: usize = 256;
/// The highest epoch: the highest whole number that every reader of JSON holds exactly.
pub const LAST_EPOCH: u64 = (1 << 53) - 1;

/// The layer of secrets, each a text. It is never compressed.
pub const CREDENTIALS: &str = "credentials";
/// The layer of prompts, persona, model settings and tools.
pub const PERSONALITY: &str = "personality";
/// The layer of what the agent knows. It is compressed before it is encrypted.
pub const MEMORY: &str = "memory";

/// Whether something may be called so: an agent, a recipient, a layer.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&text.len());
    fits && text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
}
