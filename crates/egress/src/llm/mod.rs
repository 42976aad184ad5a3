//! Models: providers, what they cost, what may be spent on them, and the exchanges with them.

mod answer;
mod books;
mod exchange;
mod headers;
mod health;
mod plan;
mod prices;
mod provider;
mod route;
mod send;
mod service;
mod stored;

pub use books::{
    Amount, Books, Budget, Most, Over, Reservation, Spender, Standing, Subject, Window,
};
pub use exchange::Body;
pub use health::Condition;
pub use plan::{Plan, Target};
pub use prices::{BadPrices, Price, Prices};
pub use provider::{Door, Kind, Provider, Wish};
pub use route::{Leg, Pick, Route};
pub use service::{Keys, Models, Options, Who, Witness};
