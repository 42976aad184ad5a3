//! Tools: the servers that a workspace has them from, what somebody said yes to, and the doors that lead to them.
//! Messages pass as they came: what is not decided by is not looked at.

mod api;
mod body;
mod chain;
mod client;
mod door;
mod link;
mod look;
mod merged;
mod parts;
mod process;
mod rows;
mod service;
mod sessions;
mod stored;
mod things;

pub use body::{Body, Cut};
pub use chain::{No, Own, Steps};
pub use door::{DoorError, Judge, Plan, Refused, Wanted};
pub use parts::Leads;
pub use process::{Boxes, Order, Program};
pub use rows::MIGRATIONS;
pub use service::{Approval, Condition, Known, Options, Server, Tool, Tools};
