//! Indexes: where they are, what was seen of each last, and what they list.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use skep_core::Timestamp;
use skep_sources::SourceError;
use skep_templates::{Expected, Index, MOST_INDEX, digest};

use super::shelf::{self, failed, refused};
use crate::cmd::lock::publisher;
use crate::cmd::lock::settings::{IndexOf, Settings};
use crate::cmd::message;
use crate::failure::{Failure, Result};
use crate::session::{Session, state_home};

/// Which indexes, and what is taken of them.
#[derive(Debug, Args)]
pub(crate) struct IndexArgs {
    /// Look into this index, a URL or a file [default: the settings']
    #[arg(long, value_name = "ADDRESS")]
    index: Option<String>,
    /// Take the index only when this publisher signed it: skepsig1_…
    #[arg(long, value_name = "PUBLIC", requires = "index")]
    publisher: Option<String>,
    /// Take an index that has expired, or of which a later one was seen
    #[arg(long)]
    allow_older: bool,
}

impl IndexArgs {
    /// The indexes that are meant.
    pub(super) fn all(&self, settings: &Settings) -> Result<Vec<IndexOf>> {
        let Some(address) = &self.index else {
            return Ok(settings.indexes.clone());
        };
        let address = match address.contains("://") {
            true => address.clone(),
            false => {
                let path = std::path::absolute(address)?;
                path.display().to_string()
            }
        };
        let named = self.publisher.as_deref().map(publisher).transpose()?;
        let known = settings.indexes.iter().find(|it| it.address == address);
        let publisher = named.or_else(|| known?.publisher);
        Ok(vec![IndexOf { address, publisher }])
    }
}

/// An index that was taken.
pub(super) struct Taken {
    pub(super) address: String,
    pub(super) index: Index,
    /// Why it is the one that was seen last, and not the one that is there now.
    pub(super) away: Option<String>,
}

/// Why something at an address cannot be had: it is away, or it is not to be taken.
enum Unread {
    Away(Failure),
    Refused(Failure),
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Away(failure) | Unread::Refused(failure) => failure,
        }
    }
}

async fn read(session: &Session, address: &str, most: usize) -> Result<Vec<u8>, Unread> {
    if !address.contains("://") {
        return shelf::read(Path::new(address), most).map_err(Unread::Refused);
    }
    let ca = session.global.ca_file.as_deref().map(Path::to_string_lossy);
    let bytes = skep_sources::fetch(address, most, ca.as_deref()).await;
    bytes.map(Vec::from).map_err(|error| {
        let failure = Failure::plain(format!("{address}: {error}"));
        match error {
            SourceError::Network { .. } | SourceError::Late(_) => Unread::Away(
                failure.hint("What is installed can be used without it; try again later."),
            ),
            SourceError::Refused { .. } => {
                Unread::Away(failure.hint("Ask its publisher where it is now."))
            }
            SourceError::Unsafe(_) | SourceError::Address(..) => Unread::Refused(
                failure.hint("Give its https address, without a name or a password."),
            ),
            _ => Unread::Refused(failure),
        }
    })
}

/// What is at a URL, or in a file.
pub(super) async fn load(session: &Session, address: &str, most: usize) -> Result<Vec<u8>> {
    Ok(read(session, address, most).await?)
}

/// Where what was seen of an index is kept.
fn seen_path(address: &str) -> Result<Option<PathBuf>> {
    let Some(state) = state_home() else {
        return Ok(None);
    };
    let folder = state.join("skep").join("indexes");
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| failed(&folder, error))?;
    Ok(Some(folder.join(digest(address.as_bytes()))))
}

fn seen(path: &Path) -> Result<Option<Index>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let index = Index::parse(&shelf::read(path, MOST_INDEX)?);
    index.map(Some).map_err(|error| {
        refused(&path.display().to_string(), error)
            .hint("It holds what was seen of an index. Remove it, and it is as if none was.")
    })
}

/// Gets an index and checks it against what is known of it, which it is from then on.
pub(super) async fn take(session: &Session, of: &IndexOf, args: &IndexArgs) -> Result<Taken> {
    let address = &of.address;
    let got = read(session, address, MOST_INDEX).await;
    let kept = seen_path(address)?;
    let _held = kept.as_deref().map(message::lock).transpose()?;
    let seen = match &kept {
        Some(path) => seen(path)?,
        None => None,
    };
    let now = Timestamp::system_now();
    let expected = Expected {
        publisher: of.publisher,
        seen: seen.as_ref(),
        older: args.allow_older,
    };
    let wrong = |error| refused(address, error);
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(Unread::Away(failure)) if let Some(seen) = &seen => {
            seen.accept(expected, now).map_err(wrong)?;
            return Ok(Taken {
                address: address.clone(),
                index: seen.clone(),
                away: Some(failure.detail),
            });
        }
        Err(unread) => return Err(unread.into()),
    };
    let index = Index::parse(&bytes).map_err(wrong)?;
    index.accept(expected, now).map_err(wrong)?;
    if seen.is_none() && of.publisher.is_none() {
        let publisher = index.publisher().map_err(wrong)?;
        session.output.complain(&format!(
            "{address} is signed by {publisher}, and is seen here for the first time: from now on \
             it must be. Ask whether that is right, and name it as `publisher` in skep.toml."
        ));
    }
    let is_new = seen.as_ref() != Some(&index);
    if let Some(path) = kept.filter(|_| is_new && !args.allow_older) {
        message::replace(&path, index.render().as_bytes())?;
    }
    Ok(Taken {
        address: address.clone(),
        index,
        away: None,
    })
}

/// Every index that is meant. One that is away is told, and what was seen of it last is taken for it.
pub(super) async fn take_all(
    session: &Session,
    settings: &Settings,
    args: &IndexArgs,
) -> Result<Vec<Taken>> {
    let mut all = Vec::new();
    for of in args.all(settings)? {
        let taken = take(session, &of, args).await?;
        if let Some(why) = &taken.away {
            session
                .output
                .complain(&format!("{why}. What was seen of it last is taken."));
        }
        all.push(taken);
    }
    Ok(all)
}
