//! Agent templates: a project to begin with, in a folder or in one file; indexes of such files, which are
//! signed; and what people say of them, which is signed too. What lives here does no I/O: bytes and keys go in,
//! bytes come out. `docs/templates.md` says each form.
//!
//! A [`Template`] is what was read and is well-formed. [`archive`] makes one file of it and reads such files,
//! which come from anybody. An [`Index`] lists them, and [`Note`]s rate them.

pub mod archive;
mod error;
mod form;
mod gzip;
mod index;
mod rating;
mod template;

#[cfg(test)]
mod tests;

pub use error::TemplateError;
pub use form::{Credential, Form, Variable};
pub use index::{Expected, Index, Listed, Ratings, joined};
pub use rating::{Note, tally};
pub use template::{File, Made, Template};

use sha2::{Digest, Sha256};

/// The file that says what a template is.
pub const FORM: &str = "template.toml";
/// The manifest, which every template has.
pub const MANIFEST: &str = "agent.yaml";
/// What every template says to people.
pub const README: &str = "README.md";
/// How the name of a packed template ends.
pub const ENDING: &str = ".tar.gz";
/// The version of all forms here.
pub const VERSION: u32 = 1;

/// Bytes of a packed template.
pub const MOST_PACKED: usize = 8 << 20;
/// Bytes of a template that is not packed, all files together.
pub const MOST_BYTES: usize = 32 << 20;
/// Files of a template.
pub const MOST_FILES: usize = 1_000;
/// Bytes of `template.toml`.
pub const MOST_FORM: usize = 256 << 10;
/// Bytes of a path in a template.
pub const LONGEST_PATH: usize = 200;
/// Bytes of an index.
pub const MOST_INDEX: usize = 8 << 20;
/// Templates of an index, each version by itself.
pub const MOST_LISTED: usize = 10_000;
/// Bytes of a note.
pub const MOST_NOTE: usize = 8 << 10;
/// Characters of a line for people: a title, what it is about, the value of a variable.
pub const LONGEST_LINE: usize = 200;
/// Characters of what a rater says.
pub const LONGEST_NOTE: usize = 1_000;
/// Characters of the name of a template or an agent: a DNS label.
pub const LONGEST_NAME: usize = 63;
/// Tags, variables, credentials or entries of a template.
pub const MOST_ITEMS: usize = 64;
/// The highest serial: the highest whole number that every reader of JSON holds exactly.
pub const LAST_SERIAL: u64 = (1 << 53) - 1;

/// Whether a template may be called so: a DNS label in lower case.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&text.len());
    let edges = !text.starts_with('-') && !text.ends_with('-');
    let of = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    fits && edges && text.bytes().all(of)
}

/// The SHA-256 of bytes, in lower-case hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is a SHA-256 as [`digest`] writes it.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let of = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(of)
}

/// Whether it is one line that people can be shown: no control characters, and nothing that turns the
/// direction of what follows.
fn is_line(text: &str, most: usize) -> bool {
    let fits = (1..=most).contains(&text.chars().count());
    fits && !text.chars().any(is_hidden)
}

/// Characters that change how others look.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
