//! Models: providers, what they cost, what may be spent on them, and the exchanges with them.

mod answer;
mod books;
mod check;
mod content;
mod exchange;
mod guard;
mod headers;
mod health;
mod keeping;
mod numbers;
mod plan;
mod preferences;
mod prices;
mod provider;
mod recordings;
mod route;
mod send;
mod service;
mod shares;
mod stored;
mod wishes;

pub use books::{
    Amount, Books, Budget, Granted, Most, Over, Reservation, Short, Spender, Standing, Subject,
    Want, Window,
};
pub use check::KeyCheck;
pub use content::Content;
pub use exchange::Body;
pub use health::Condition;
pub use plan::{Plan, Target};
pub use preferences::{EVERYBODY, Leaks, Preferences};
pub use prices::{BadPrices, Price, Prices};
pub use provider::{Door, Kind, Provider, Wish};
pub use recordings::{Recorded, Safe, Which};
pub use route::{Leg, Pick, Route};
pub use service::{Keys, Models, Options, Who, Witness};
