//! The `docker` driver: an agent is a container of Docker Engine, locked in as far as the engine
//! can, on a network from which nothing but Skep is reachable.
//!
//! - [`DockerDriver`] implements [`skep_runtime::Driver`]; [`DockerOptions`] say where the engine is.
//! - The engine is asked over its Unix socket only, and only when it is needed: a server without
//!   one starts and runs as any other.
//! - [`build()`] makes an image.
//!
//! What does not live here: when instances are started and ended (the supervisor's), and the format
//! of logs (`skep_runtime::logfile`).

mod address;
mod build;
mod claim;
mod create;
mod credentials;
mod driver;
mod engine;
mod exec;
mod folder;
mod image;
mod log;
mod network;
mod process;
mod pull;
mod running;
mod sweep;
mod volume;

pub use build::{BuildError, Built, Source, build};
pub use driver::{DockerDriver, DockerOptions};
pub use network::{Bridge, Doors, Firewall, Opened};
pub use pull::PullLimits;
