//! The composition root: the store, the runtime and the call door joined into one server, with the
//! HTTP surface, its keys, health, metrics, logs and traces.
//!
//! [`run()`] is the server's life. `dispatch` is where a request goes first; `api` has the handlers;
//! `join` is where the capabilities meet. Nothing of what a capability decides is decided here.

mod a2a;
mod access;
mod act;
mod agui;
mod api;
mod audit;
mod backups;
mod boxes;
mod budgets;
mod changes;
mod channel;
mod connection;
mod cookie;
mod credentials;
mod dispatch;
mod doors;
mod evidence;
mod gate;
mod headers;
mod join;
mod keys;
mod lending;
mod listen;
mod live;
mod machine;
mod mcp;
mod metrics;
mod migrations;
mod models;
mod mounts;
mod oauth;
mod openai;
mod outgoing;
mod outs;
mod outside;
mod page;
mod peers;
mod problem;
mod providers;
mod proxy;
mod quotas;
mod rates;
mod renewals;
mod reread;
mod run;
mod runs;
mod spelling;
mod state;
mod strict;
pub mod telemetry;
mod threats;
mod tls;
mod tokens;
mod trace;
mod vault;
mod ways;
mod web;
mod webhooks;
mod who;
mod within;
mod workspace;

use std::net::SocketAddr;
use std::path::PathBuf;

use skep_core::{Code, PublicError};

pub use api::{openapi, routes_with_methods};
pub use backups::bucket;
pub use dispatch::PUBLIC;
pub use gate::reset_policies;
pub use keys::new_key_text;
pub use migrations::migrations;
pub use run::restored;
pub use run::{RunOptions, Started, run};

/// Why a server does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listen address is taken.
    #[error("{0} is taken")]
    PortTaken(SocketAddr),
    /// The listen address cannot be used.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The address is open to others, and nothing would be encrypted.
    #[error("{0} is open to other machines, and there is no TLS")]
    Plaintext(SocketAddr),
    /// A certificate or key file cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The log filter cannot be read.
    #[error("log.level: {0}")]
    LogFilter(String),
    /// The collector's endpoint cannot be used.
    #[error("otlp.endpoint: {0}")]
    Otlp(String),
    /// The way out to models cannot be opened.
    #[error("models: {0}")]
    Models(String),
    /// Another server has taken this one for gone and taken its agents.
    #[error(
        "another server has taken this one's place: it could not reach the database for too long"
    )]
    Ended,
    /// Backups cannot be made as they are to be.
    #[error("{0}")]
    Backup(String),
    /// A restore was cut short in the data folder.
    #[error("{path} is restored by half", path = .0.display())]
    HalfRestored(PathBuf),
    /// The file with keys cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a key.
        reason: String,
    },
    /// The file of issuers cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Issuers {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a secret.
        reason: String,
    },
    /// The file of providers cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Providers {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a secret.
        reason: String,
    },
    /// The file of hooks cannot be used.
    #[error("{path}: {reason}")]
    Hooks {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a secret.
        reason: String,
    },
    /// What is to be complied with is not known.
    #[error("compliance.frameworks: {0}")]
    Compliance(String),
    /// The audit log cannot be used: nothing is done without it.
    #[error("audit log: {0}")]
    Audit(String),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
    /// A rate is for nothing that can be done.
    #[error(
        "limits.rate_actions: `{0}` is neither an action nor a group of actions; `skep policy schema` shows them"
    )]
    Rate(String),
    /// What should open the vault cannot.
    #[error("{key}: {reason}")]
    Seal {
        /// Which setting it is.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What is to be detected cannot be.
    #[error("{0}")]
    Detections(String),
    /// What may be asked is not readable.
    #[error("outgoing.allow: {0}")]
    Outgoing(String),
    /// Webhooks cannot be sent so.
    #[error("{0}")]
    Webhooks(String),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] skep_store::StoreError),
    /// The runtime's own error.
    #[error(transparent)]
    Runtime(#[from] skep_runtime::RuntimeError),
    /// The call door's own error.
    #[error(transparent)]
    Ingress(#[from] skep_ingress::IngressError),
}

impl PublicError for ServerError {
    fn code(&self) -> Code {
        match self {
            Self::PortTaken(_) => Code::PortTaken,
            Self::Listen { .. }
            | Self::Plaintext(_)
            | Self::Tls { .. }
            | Self::LogFilter(_)
            | Self::Backup(_)
            | Self::Audit(_)
            | Self::Seal { .. }
            | Self::Compliance(_)
            | Self::Rate(_)
            | Self::Detections(_)
            | Self::Outgoing(_)
            | Self::Models(_)
            | Self::Webhooks(_)
            | Self::Keys { .. }
            | Self::Issuers { .. }
            | Self::Providers { .. }
            | Self::Hooks { .. }
            | Self::Otlp(_) => Code::ConfigInvalid,
            Self::HalfRestored(_) => Code::RestoreIncomplete,
            Self::File { .. } | Self::Random(_) => Code::Internal,
            Self::Ended => Code::StoreUnavailable,
            Self::Store(error) => error.code(),
            Self::Runtime(error) => error.code(),
            Self::Ingress(error) => error.code(),
        }
    }

    /// Who starts a server may see everything.
    fn detail(&self) -> String {
        self.to_string()
    }

    fn hint(&self) -> String {
        match self {
            Self::Plaintext(_) => {
                "Set tls.cert and tls.key, or accept it with --listen-plaintext.".to_owned()
            }
            Self::Listen { .. } => "Choose another address with --listen.".to_owned(),
            Self::Tls { .. } => "Give PEM files in tls.cert and tls.key.".to_owned(),
            Self::LogFilter(_) => {
                "Write a level such as `info`, or `info,skep_ingress=debug`.".to_owned()
            }
            Self::Otlp(_) => {
                "Give the base URL of a collector, such as http://127.0.0.1:4318.".to_owned()
            }
            Self::Keys { .. } => "Mend the file that `keys.file` names; a line is NAME ROLE SCOPES KEY.".to_owned(),
            Self::Issuers { .. } => "Mend the file that `auth.issuers` names; docs/jwt.md says what stands in it.".to_owned(),
            Self::Providers { .. } => "Mend the file that `auth.providers` names; docs/providers.md says what stands in it.".to_owned(),
            Self::Hooks { .. } => "Mend the file that `secrets.hooks` names; docs/secrets.md says what stands in it.".to_owned(),
            Self::Audit(_) => {
                "Name the log's own key in `audit.key`; of servers that share a database, that of the first.".to_owned()
            }
            Self::Ended => "Start it again: it joins the others as a new server.".to_owned(),
            Self::File { .. } => "Make the folder writable for this user.".to_owned(),
            _ => self.code().hint().to_owned(),
        }
    }
}
