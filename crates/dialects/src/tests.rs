//! Tests.

mod passing;
