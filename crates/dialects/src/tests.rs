//! Tests.

mod answers;
mod back;
mod passing;
mod requests;
mod streams;
