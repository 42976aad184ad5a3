//! Building images: a folder with a Dockerfile, or one program that needs no library, is sent to the
//! engine as it is read, and the engine's own words are passed on. It works beside the driver: whoever
//! builds may use the engine's socket, which no API key gives.

mod binary;
mod context;
mod ignore;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::engine::{Engine, Trouble};
use context::Contents;

/// Time that the engine may take to read the context and begin its answer.
const UPLOAD: Duration = Duration::from_secs(3600);
/// Pieces of the context that wait for the engine.
const PIECES: usize = 4;
/// What the engine says at the beginning of a step.
const STEP: &str = "Step ";

/// What an image is made of.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder, and a Dockerfile in it or elsewhere.
    Folder {
        /// What the Dockerfile may copy.
        folder: PathBuf,
        /// The Dockerfile.
        dockerfile: PathBuf,
    },
    /// One program that needs no library; nothing else is in the image.
    Binary(PathBuf),
}

/// An image that was made.
#[derive(Debug, Clone)]
pub struct Built {
    /// `sha256:…`
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something of the context cannot be read.
    #[error("{}: {source}", path.display())]
    Context {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program cannot stand alone in an image.
    #[error("{} {reason}", path.display())]
    Binary {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The engine is not there, or did not take the context.
    #[error("{0}")]
    Engine(String),
    /// A step failed.
    #[error("{step}: {reason}")]
    Step {
        /// The step in the engine's words.
        step: String,
        /// Why.
        reason: String,
    },
}

impl BuildError {
    /// The next thing to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Context { .. } => {
                "Leave it out with a line in .dockerignore, or name another folder or -f FILE."
            }
            Self::Binary { .. } => {
                "Build it for this machine without libraries: cargo build --target \
                 x86_64-unknown-linux-musl, or CGO_ENABLED=0 go build; or write a Dockerfile."
            }
            Self::Engine(_) => "`skep doctor` says how the engine is.",
            Self::Step { .. } => {
                "Mend the step in the Dockerfile; an image that it begins from must be here or at a \
                 registry that the engine reaches."
            }
        }
    }

    fn context(path: &Path, source: std::io::Error) -> Self {
        Self::Context {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<Trouble> for BuildError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Missing(why) | Trouble::Refused(_, why) | Trouble::Away(why) => {
                Self::Engine(why)
            }
        }
    }
}

/// Builds an image under this name; what the engine says meanwhile is told as it comes.
///
/// # Errors
/// [`BuildError`]: nothing has the name then that did not have it before.
pub async fn build(
    socket: &Path,
    source: Source,
    name: &str,
    mut tell: impl FnMut(&str),
) -> Result<Built, BuildError> {
    let reading = tokio::task::spawn_blocking(move || Contents::of(&source));
    let contents = join(reading).await?;
    let engine = Engine::new(socket.to_owned());
    let docker = engine.get().await?.docker.with_timeout(UPLOAD);
    let options = BuildImageOptions {
        dockerfile: contents.dockerfile().to_owned(),
        t: Some(name.to_owned()),
        rm: true,
        forcerm: true,
        ..BuildImageOptions::default()
    };
    let (sender, receiver) = mpsc::channel(PIECES);
    let packing = tokio::task::spawn_blocking(move || contents.pack(sender));
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let built = {
        let body = bollard::body_try_stream(pieces);
        let steps = pin!(docker.build_image(options, None, Some(body)));
        follow(steps, &mut tell).await
    };
    // What could not be read explains what the engine makes of it.
    join(packing).await?;
    match built {
        Ok(()) => {}
        Err(Stop::Step(step, reason)) => return Err(BuildError::Step { step, reason }),
        Err(Stop::Engine(error)) => return Err(engine.failed(&error).await.into()),
    }
    let image = docker.inspect_image(name).await;
    let image = match image {
        Ok(image) => image,
        Err(error) => return Err(engine.failed(&error).await.into()),
    };
    Ok(Built {
        id: image.id.unwrap_or_default(),
        size: image
            .size
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0),
    })
}

async fn join<T>(task: tokio::task::JoinHandle<Result<T, BuildError>>) -> Result<T, BuildError> {
    let ended = task.await;
    ended.unwrap_or_else(|error| Err(BuildError::Engine(error.to_string())))
}

enum Stop {
    Step(String, String),
    Engine(Error),
}

/// Passes on what the engine says until it is done.
async fn follow(
    mut steps: impl futures_util::Stream<Item = Result<bollard::models::BuildInfo, Error>> + Unpin,
    tell: &mut impl FnMut(&str),
) -> Result<(), Stop> {
    let mut step = String::new();
    let failed = |step: &str, reason: String| {
        let step = match step {
            "" => "the build did not begin".to_owned(),
            step => step.to_owned(),
        };
        Stop::Step(step, reason.trim().to_owned())
    };
    while let Some(said) = steps.next().await {
        let said = match said {
            Ok(said) => said,
            Err(Error::DockerStreamError { error }) => return Err(failed(&step, error)),
            // What is wrong with the Dockerfile as a whole.
            Err(Error::DockerResponseServerError {
                status_code: 400,
                message,
            }) => return Err(failed(&step, message)),
            Err(error) => return Err(Stop::Engine(error)),
        };
        if let Some(reason) = said.error_detail.and_then(|error| error.message) {
            return Err(failed(&step, reason));
        }
        let Some(text) = said.stream.or(said.status) else {
            continue;
        };
        if text.starts_with(STEP) {
            step = text.trim().to_owned();
        }
        if !text.trim().is_empty() {
            tell(text.trim_end());
        }
    }
    Ok(())
}
