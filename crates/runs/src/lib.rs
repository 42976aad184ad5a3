//! Runs and threads: which there are, and what outlives the calls that carried them. What is said in a run is the recording of its
//! call, and lies there (docs/adr/0009); how it is translated is `skep-protocols`' affair, and who may see it the server's.

mod pushes;
mod rows;
mod service;
#[cfg(test)]
mod tests;

pub use pushes::{MOST_PUSHES, Place, Push, PushState};
pub use rows::{Kept, MIGRATIONS, Run, Thread};
pub use service::{Ended, Filter, Fork, New, Runs, RunsError, Tasks};
