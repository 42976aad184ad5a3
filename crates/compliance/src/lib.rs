//! Compliance reports: what a server's evidence says of the controls of a framework, and what it cannot
//! say. Pure: evidence is gathered elsewhere, and handed in with the time and with randomness.
//!
//! A [`Framework`] has an OSCAL catalog in `catalogs/`, whose controls each name a [`Check`] or none.
//! [`assess`] asks the checks; `oscal`, `markdown` and `html` write down what came of it.

mod catalog;
mod check;
mod evidence;
mod html;
mod markdown;
mod operation;
mod oscal;
mod report;

pub use catalog::{Catalog, CatalogError, Control, Framework};
pub use check::{Check, Finding, State};
pub use evidence::{
    Answer, Backup, Checkpoint, Detections, Evidence, Key, LogState, MOST_SHOWN, Person, Policy,
    Proven, Question, Seen, Server,
};
pub use html::html;
pub use markdown::markdown;
pub use operation::{MOST_PURPOSE, OperationError, validate_operation};
pub use oscal::oscal;
pub use report::{Assessed, Report, assess};
