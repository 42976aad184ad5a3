//! The verbs, by what they are about.

pub(crate) mod agents;
pub(crate) mod backup;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod pages;
pub(crate) mod rollout;
pub(crate) mod servers;
pub(crate) mod store;
pub(crate) mod up;
pub(crate) mod wait;
