//! The verbs, by what they are about.

pub(crate) mod agents;
pub(crate) mod attach;
pub(crate) mod backup;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod manifest;
pub(crate) mod orders;
pub(crate) mod pages;
pub(crate) mod rollout;
pub(crate) mod select;
pub(crate) mod servers;
pub(crate) mod stats;
pub(crate) mod store;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod wait;
