//! A2A: what clients ask, what they are shown, cards, and agents that speak it.

mod agents;
mod asked;
mod cards;
mod requests;
mod shown;
