//! What a client asks of the door: `Prefer` (RFC 7240) and `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).

use std::time::Duration;

use http::HeaderMap;

use crate::IngressError;

/// The longest idempotency key.
const MOST_KEY_BYTES: usize = 255;

/// The client's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Answer 202 with the call's address.
    pub(crate) asynchronous: bool,
    /// Wait so long for the answer first.
    pub(crate) wait: Option<Duration>,
    /// The same key gets the same answer.
    pub(crate) key: Option<String>,
}

impl Wishes {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, IngressError> {
        let mut wishes = Self::default();
        let preferences = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok());
        for preference in preferences.flat_map(|value| value.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => wishes.asynchronous = true,
                // A preference that cannot be read is ignored (RFC 7240 section 2).
                "wait" => {
                    let seconds = value.trim().trim_matches('"').parse().ok();
                    wishes.wait = seconds.map(Duration::from_secs);
                }
                _ => {}
            }
        }
        let mut keys = headers.get_all(skep_api::HEADER_IDEMPOTENCY_KEY).iter();
        if let Some(key) = keys.next() {
            wishes.key = Some(read_key(key)?);
        }
        if keys.next().is_some() {
            return Err(IngressError::BadRequest(
                "there is more than one Idempotency-Key".to_owned(),
            ));
        }
        Ok(wishes)
    }
}

/// Whether a client wants to know no more than that its call is accepted, or not for long.
#[must_use]
pub fn wants_receipt(headers: &HeaderMap) -> bool {
    Wishes::read(headers).is_ok_and(|wishes| wishes.asynchronous)
}

fn read_key(value: &http::HeaderValue) -> Result<String, IngressError> {
    let key = value.to_str().ok().map(str::trim).unwrap_or_default();
    if key.is_empty() || key.len() > MOST_KEY_BYTES {
        return Err(IngressError::BadRequest(format!(
            "an Idempotency-Key has 1 to {MOST_KEY_BYTES} visible ASCII characters"
        )));
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn wishes(lines: &[(&'static str, &'static str)]) -> Result<Wishes, IngressError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Wishes::read(&headers)
    }

    #[test]
    fn preferences_are_read_wherever_they_stand() {
        let read = wishes(&[
            ("prefer", "handling=lenient, Respond-Async"),
            ("prefer", "wait=10; x=1"),
        ]);
        let read = read.unwrap();
        assert!(read.asynchronous);
        assert_eq!(read.wait, Some(Duration::from_secs(10)));
        assert_eq!(
            wishes(&[("prefer", "wait=soon")]).unwrap(),
            Wishes::default()
        );
    }

    #[test]
    fn keys_have_bounds() {
        assert_eq!(
            wishes(&[("idempotency-key", "k-1")])
                .unwrap()
                .key
                .as_deref(),
            Some("k-1")
        );
        assert!(wishes(&[("idempotency-key", " ")]).is_err());
        assert!(wishes(&[("idempotency-key", "a"), ("idempotency-key", "b")]).is_err());
        let long: &'static str = Box::leak("x".repeat(256).into_boxed_str());
        assert!(wishes(&[("idempotency-key", long)]).is_err());
    }
}
