//! End-to-end tests against the built binary: one program, one server of its own for each test.

#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod api;
mod archive;
mod audit;
mod backup;
mod bad_input;
mod benchmark;
mod build;
mod cache;
mod cli;
mod dev;
mod docker;
mod door;
mod doubt;
mod drain;
mod events;
mod exec;
mod fault;
mod health;
mod hostile;
mod jwt;
mod keys;
mod kill;
mod manifest;
mod network;
mod openapi;
mod operate;
mod poison;
mod policy;
mod postgres;
mod reattach;
mod registry;
mod replay;
mod rollout;
mod sandbox;
mod scale;
mod servers;
mod smuggling;
mod stalls;
mod streams;
mod templates;
mod tls;
mod tour;
mod traces;
mod unsynced;
