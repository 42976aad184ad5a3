//! Runs: what a call carries of a conversation. What its agent says is recorded as events of AG-UI, one after the other, each with an
//! id ([`Recorder`]), and everybody who follows the run is shown those ([`View`]). See docs/adr/0009.

mod record;
#[cfg(test)]
mod tests;
mod view;

pub use record::{EventId, Recorder};
pub use view::{Shown, Unseen, View};
