//! What the end-to-end tests stand on: a real server of their own, with its own folder, port and
//! environment, and a plain HTTP client.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot be set up has failed"
)]

pub mod client;
pub mod cutter;
pub mod etcd;
pub mod host;
pub mod issuer;
pub mod mcp;
pub mod postgres;
pub mod provider;
pub mod receiver;
pub mod registry;
pub mod server;
pub mod terminal;
pub mod upstream;
pub mod wire;

pub use client::{Answer, Client};
pub use host::{Ca, Host};
pub use receiver::{Receiver, payload};
pub use registry::{Passing, Registry, Way};
pub use server::{Server, Setup, agent_binary, eventually, executed, kill};
pub use terminal::Terminal;
pub use upstream::{Upstream, packages, sdk};
pub use wire::{Said, Wire};
