//! End-to-end tests against the built binary: one program, one server of its own for each test.

#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod api;
mod backup;
mod bad_input;
mod build;
mod cache;
mod cli;
mod docker;
mod door;
mod doubt;
mod drain;
mod fault;
mod hostile;
mod kill;
mod manifest;
mod poison;
mod postgres;
mod reattach;
mod rollout;
mod sandbox;
mod scale;
mod servers;
mod smuggling;
mod stalls;
mod streams;
mod tls;
mod traces;
mod unsynced;
