//! The way out to web APIs: which hosts, methods and paths a workspace lets its agents ask, and which secret is put into
//! a request on its way. Nothing of who asks, of policies, or of the door that they come by.

mod answer;
mod authority;
mod error;
mod exchange;
mod fill;
mod headers;
mod recording;
mod rule;
mod send;
mod service;

pub use answer::Body;
pub use authority::{Authority, Made};
pub use error::WebError;
pub use exchange::Open;
pub use fill::LEASE;
pub use rule::{Credential, Host, Origin, Place, Rule, Scheme, Tunnel, is_plain, seen_path};
pub use send::{May, Upgrade};
pub use service::{Asked, Lessee, Options, Values, Web, carry};
