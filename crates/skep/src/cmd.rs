//! The verbs, by what they are about.

pub(crate) mod agents;
pub(crate) mod benchmark;
pub(crate) mod call;
pub(crate) mod calls;
mod child;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod healthcheck;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod pages;
pub(crate) mod replay;
pub(crate) mod rollout;
pub(crate) mod servers;
pub(crate) mod up;
pub(crate) mod wait;
