//! The Model Context Protocol as it passes: messages that stay the bytes they came as, the two eras of the protocol,
//! definitions of tools and their pins, classes, names, what a server's settings may be, and plain web APIs as tools. No I/O.

mod class;
mod era;
mod list;
mod message;
mod names;
mod openapi;
#[cfg(test)]
mod openapi_tests;
mod pin;
mod preset;
mod raw;
mod settings;
mod sse;
#[cfg(test)]
mod tests;
mod virtuals;
#[cfg(test)]
mod virtuals_tests;

pub use class::{Class, Rules, fits};
pub use era::{
    Era, HEADER_METHOD, HEADER_NAME, HEADER_PARAM, HEADER_SESSION, HEADER_VERSION, LEGACY,
    META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, Mismatch, agrees, can_repeat, code,
    decoded, encoded, mirrored, repeats,
};
pub use list::{extended, kept, next_cursor, one_of};
pub use message::{Fault, Kind, Message, error, is_same_id, renamed, reply, request};
pub use names::{MOST_NAME, inner_uri, joined, outer_uri, split};
pub use openapi::{Api, Asked, Description, MOST_DESCRIPTION, Operation};
pub use pin::{Definition, NoDefinition, Pin, State};
pub use preset::{PRESETS, Preset};
pub use raw::{Object, array, strict, to_value};
pub use settings::{Settings, Transport, Value, WrongSetting};
pub use sse::{Event, Events, TooLong, event};
pub use virtuals::{Chain, Given, Part, Step, Virtual};
