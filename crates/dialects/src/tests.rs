//! Tests.

mod back;
mod passing;
mod streams;
