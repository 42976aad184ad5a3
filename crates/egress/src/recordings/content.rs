//! What is kept of an exchange, as bytes: the head as JSON with its length before it (u32, little endian), what was asked,
//! and what was answered. No I/O.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

/// Bytes of a length.
const LENGTH: usize = 4;
/// The version of this form.
const VERSION: u32 = 1;
/// Headers of an answer that are given again.
const HEADERS: [&str; 3] = ["content-type", "request-id", "x-request-id"];

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The method and the target that it was asked with, behind its door; empty when what was asked is not kept.
    pub target: String,
    /// Headers that it was asked with.
    pub asked_headers: Vec<(String, String)>,
    /// The body that came in.
    pub asked: Bytes,
    /// How many bytes came in, when more did than are kept.
    pub asked_whole: Option<u64>,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body, as it went out.
    pub answer: Vec<u8>,
    /// How many bytes went out, when more did than are kept.
    pub answer_whole: Option<u64>,
}

/// Fields may be added with a default; none changes its meaning.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    target: String,
    asked: u32,
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    asked_headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked_whole: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer_whole: Option<u64>,
}

/// The headers of an answer that are kept.
pub(crate) fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    kept.collect()
}

impl Content {
    /// Whether the answer is a stream of events.
    fn is_stream(&self) -> bool {
        let kind = self
            .headers
            .iter()
            .find(|(name, _)| name == CONTENT_TYPE.as_str());
        kind.is_some_and(|(_, value)| value.starts_with("text/event-stream"))
    }

    /// The answer, to be given again.
    pub(crate) fn again(self) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut answer = Vec::new();
        if self.is_stream() && !self.answer.ends_with(b"\n\n") {
            // What came after the last event was not waited for.
            let line = !self.answer.ends_with(b"\n");
            answer.extend(std::iter::repeat_n(b'\n', 1 + usize::from(line)));
        }
        let pair = |(name, value): &(String, String)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        };
        let headers = self.headers.iter().filter_map(pair).collect();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        (status, headers, [self.answer, answer].concat())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = Head {
            v: VERSION,
            target: self.target.clone(),
            asked: u32::try_from(self.asked.len()).unwrap_or(u32::MAX),
            status: self.status,
            headers: self.headers.clone(),
            asked_headers: self.asked_headers.clone(),
            asked_whole: self.asked_whole,
            answer_whole: self.answer_whole,
        };
        // Texts and numbers alone: it cannot fail.
        let head = serde_json::to_vec(&head).unwrap_or_default();
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
        let mut bytes =
            Vec::with_capacity(LENGTH + head.len() + self.asked.len() + self.answer.len());
        bytes.extend(length.to_le_bytes());
        bytes.extend(head);
        bytes.extend(&self.asked);
        bytes.extend(&self.answer);
        bytes
    }

    /// Of bytes; nothing, when they are not of this version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (head, rest) = rest.split_at_checked(length)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        if head.v != VERSION {
            return None;
        }
        let (asked, answer) = rest.split_at_checked(usize::try_from(head.asked).ok()?)?;
        Some(Self {
            target: head.target,
            asked_headers: head.asked_headers,
            asked: Bytes::copy_from_slice(asked),
            asked_whole: head.asked_whole,
            status: head.status,
            headers: head.headers,
            answer: answer.to_vec(),
            answer_whole: head.answer_whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(asked: &[u8], answer: &[u8]) -> Content {
        Content {
            target: "POST /v1/chat/completions".to_owned(),
            asked: Bytes::copy_from_slice(asked),
            status: 200,
            headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
            answer: answer.to_vec(),
            ..Content::default()
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(asked: Vec<u8>, answer: Vec<u8>, cut in 0_usize..64) {
            let mut kept = content(&asked, &answer);
            let bytes = kept.to_bytes();
            prop_assert_eq!(Content::from_bytes(&bytes), Some(kept.clone()));
            kept.asked_headers = vec![("accept".to_owned(), "*".to_owned())];
            (kept.asked_whole, kept.answer_whole) = (Some(1 << 40), Some(0));
            let bytes = kept.to_bytes();
            prop_assert_eq!(Content::from_bytes(&bytes), Some(kept.clone()));
            // Half of a head is none.
            let half = bytes.len().min(cut);
            prop_assert_eq!(Content::from_bytes(&bytes[..half]), None);
        }
    }

    #[test]
    fn a_stream_that_is_given_again_comes_to_its_end() {
        for (kept, given) in [
            ("data: [DONE]", "data: [DONE]\n\n"),
            ("data: [DONE]\n", "data: [DONE]\n\n"),
            ("data: [DONE]\n\n", "data: [DONE]\n\n"),
        ] {
            let (status, headers, answer) = content(b"", kept.as_bytes()).again();
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers[CONTENT_TYPE], "text/event-stream");
            assert_eq!(answer, given.as_bytes());
        }
        let plain = Content {
            headers: Vec::new(),
            ..content(b"", b"{}")
        };
        assert_eq!(plain.again().2, b"{}");
    }
}
