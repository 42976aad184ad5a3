//! `build`: an image by this machine's Docker Engine. No server is asked: who builds runs programs with
//! the engine's rights, outside of everything that locks agents in, and no API key shall give that.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use skep_runtime_docker::{Source, build as make};

use crate::failure::{Failure, Result};
use crate::output::human_bytes;
use crate::session::Session;

const DOCKERFILE: &str = "Dockerfile";
const LATEST: &str = "latest";

/// Flags of `build`.
#[derive(Debug, Args)]
#[command(
    long_about = "Make a container image with this machine's Docker Engine (`docker.socket`), and \
    say how to deploy it. No server is asked: to deploy on another machine, push the image to a \
    registry, or `docker save` it there.",
    after_help = "Examples:
  skep build . -t hello:1
  skep build src -f docker/Dockerfile -t hello:1
  skep build --binary target/x86_64-unknown-linux-musl/release/hello"
)]
pub(crate) struct BuildArgs {
    /// The folder that the Dockerfile may copy from
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// The image's name [default: that of the folder or program]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Option<String>,
    /// The Dockerfile [default: DIR/Dockerfile]
    #[arg(short, long, value_name = "FILE", conflicts_with = "binary")]
    file: Option<PathBuf>,
    /// Make an image of this program alone, which must need no library
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    binary: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    image: &'a str,
    id: &'a str,
    size_bytes: u64,
}

pub(crate) async fn build(session: &Session, args: BuildArgs) -> Result {
    let source = match args.binary {
        Some(path) => Source::Binary(path),
        None => Source::Folder {
            dockerfile: args.file.unwrap_or_else(|| args.folder.join(DOCKERFILE)),
            folder: args.folder,
        },
    };
    let image = match args.tag {
        Some(tag) => tagged(&tag),
        None => format!("{}:{LATEST}", name_of(&source)?),
    };
    let config = session.config(Vec::new())?;
    let socket = &config.settings().docker_socket;
    let output = &session.output;
    let built = make(socket, source, &image, |line| output.note(line)).await;
    let built = built.map_err(|error| Failure::plain(error.to_string()).hint(error.hint()))?;
    let name = image.split([':', '@']).next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let said = format!(
        "{image} is built: {} ({}).\nDeploy it with `skep deploy {} --image {image}`.",
        built.id,
        human_bytes(built.size),
        name.replace(['_', '.'], "-"),
    );
    let shown = Shown {
        image: &image,
        id: &built.id,
        size_bytes: built.size,
    };
    output.done(&shown, &image, &said)
}

fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:{LATEST}"),
    }
}

/// The name of what it is made of, as an image may be called.
fn name_of(source: &Source) -> Result<String> {
    let path = match source {
        Source::Folder { folder, .. } => folder,
        Source::Binary(path) => path,
    };
    let whole = path.canonicalize();
    let whole = whole.map_err(|error| Failure::plain(format!("{}: {error}", path.display())))?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name
        .to_lowercase()
        .chars()
        .map(|one| {
            if one.is_ascii_alphanumeric() {
                one
            } else {
                '-'
            }
        })
        .collect();
    let name: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    match name.is_empty() {
        true => Err(nameless(path)),
        false => Ok(name.join("-")),
    }
}

fn nameless(path: &Path) -> Failure {
    let why = format!("{} gives the image no name", path.display());
    Failure::usage(why).hint("Give it one: -t NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_a_tag() {
        assert_eq!(tagged("a"), "a:latest");
        assert_eq!(tagged("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(tagged("localhost:5000/a:1"), "localhost:5000/a:1");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("My__Agent.x");
        std::fs::write(&path, "").unwrap();
        assert_eq!(name_of(&Source::Binary(path)).unwrap(), "my-agent-x");
        assert!(name_of(&Source::Binary(PathBuf::from("/"))).is_err());
    }
}
