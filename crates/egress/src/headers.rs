//! Headers of one connection, which go no further than that, by whatever way an exchange goes.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, TRANSFER_ENCODING};

/// Of one connection (RFC 9110, section 7.6.1), and what old programs take for such.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
];

/// Whether a header belongs to the connection of a message, and not to the message.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    OF_CONNECTION.contains(&name.as_str()) || *name == TRANSFER_ENCODING
}

/// The headers of one message that go no further than its connection.
pub(crate) struct Hop {
    /// Those that `Connection` names besides.
    named: Vec<HeaderName>,
}

impl Hop {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(CONNECTION).iter();
        let names = values
            .filter_map(|it| it.to_str().ok())
            .flat_map(|it| it.split(','));
        let named = names.filter_map(|it| it.trim().parse().ok()).collect();
        Self { named }
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        is_of_connection(name) || self.named.contains(name)
    }
}
