//! What a client wishes of Skep in the headers of a request: `Skep-Thread`, `Skep-Cache`, and the call that it belongs to.
//! No I/O.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

use super::preferences::LONGEST_CACHE;
use crate::EgressError;

/// Names the thread that a request belongs to: it stays with one model of a route.
const THREAD: HeaderName = HeaderName::from_static("skep-thread");
/// Whether the answer may be one that was given before.
const CACHE: HeaderName = HeaderName::from_static("skep-cache");
/// The call for which an agent asks, and which attempt of it, as it was told them.
const CALL: HeaderName = HeaderName::from_static("skep-call-id");
const ATTEMPT: HeaderName = HeaderName::from_static("skep-attempt");
/// Tags of one answer, and bytes of one.
const MOST_TAGS: usize = 8;
const MOST_TAG: usize = 64;
/// Bytes of a call's id.
const MOST_CALL: usize = 64;

/// What a client wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) thread: Option<Vec<u8>>,
    pub(super) cache: Cache,
    /// The call that it is for, and the number of its attempt.
    pub(super) call: Option<(String, u32)>,
}

/// Whether an answer may be given again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// It is not to be one that was given before.
    pub(super) fresh: bool,
    /// It is not kept.
    pub(super) forget: bool,
    /// It is not to be one to another question.
    pub(super) exact: bool,
    /// For how long it may be given again.
    pub(super) time: Option<Duration>,
    /// By what it can be forgotten.
    pub(super) tags: Vec<String>,
}

/// Whether a text is a tag: a-z, 0-9 and `-`.
pub(super) fn is_tag(text: &str) -> bool {
    let fits = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    !text.is_empty() && text.len() <= MOST_TAG && text.bytes().all(fits)
}

impl Cache {
    fn read(text: &str) -> Result<Self, EgressError> {
        let wrong = |what: &str| {
            let known = "`no-cache`, `no-store`, `exact`, `max-age=SECONDS` and `tag=NAME`, with commas between them";
            EgressError::Invalid(format!("`Skep-Cache`: `{what}` is none of {known}"))
        };
        let mut cache = Self::default();
        for word in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            match word.split_once('=') {
                None if word == "no-cache" => cache.fresh = true,
                None if word == "no-store" => cache.forget = true,
                None if word == "exact" => cache.exact = true,
                Some(("max-age", seconds)) => {
                    let seconds: u64 = seconds.parse().map_err(|_| wrong(word))?;
                    cache.time = Some(Duration::from_secs(seconds).min(LONGEST_CACHE));
                }
                Some(("tag", tag)) if is_tag(tag) => cache.tags.push(tag.to_owned()),
                _ => return Err(wrong(word)),
            }
        }
        match cache.tags.len() > MOST_TAGS {
            true => Err(EgressError::Invalid(format!(
                "`Skep-Cache`: {MOST_TAGS} tags at most"
            ))),
            false => Ok(cache),
        }
    }
}

impl Wishes {
    /// What the headers of a request say.
    ///
    /// # Errors
    /// [`EgressError::Invalid`].
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, EgressError> {
        let text = |name: &HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
        let call = text(&CALL).filter(|it| !it.is_empty() && it.len() <= MOST_CALL);
        let attempt = text(&ATTEMPT).and_then(|it| it.parse().ok());
        Ok(Self {
            thread: headers.get(THREAD).map(|it| it.as_bytes().to_vec()),
            cache: Cache::read(text(&CACHE).unwrap_or_default())?,
            call: call.map(str::to_owned).zip(attempt),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        };
        all.iter().map(pair).collect()
    }

    #[test]
    fn what_is_wished_is_understood_or_refused() {
        let none = Wishes::of(&headers(&[])).unwrap();
        assert_eq!(none, Wishes::default());
        let all = Wishes::of(&headers(&[
            ("skep-thread", "t"),
            ("skep-cache", "no-cache, max-age=60 ,tag=a,tag=b-1"),
            ("skep-call-id", "call_1"),
            ("skep-attempt", "2"),
        ]));
        let all = all.unwrap();
        assert_eq!(all.thread.as_deref(), Some(&b"t"[..]));
        assert_eq!(all.cache.time, Some(Duration::from_secs(60)));
        assert!(all.cache.fresh && !all.cache.forget);
        assert_eq!(all.cache.tags, ["a", "b-1"]);
        assert_eq!(all.call, Some(("call_1".to_owned(), 2)));
        // Half of it names no attempt.
        let half = Wishes::of(&headers(&[("skep-call-id", "call_1")])).unwrap();
        assert_eq!(half.call, None);
        let long = Wishes::of(&headers(&[("skep-cache", "max-age=99999999999")])).unwrap();
        assert_eq!(long.cache.time, Some(LONGEST_CACHE));
        for wrong in [
            "always",
            "max-age=soon",
            "tag=",
            "tag=A",
            "tag=a%",
            "no-cache=1",
            "tag=a,tag=b,tag=c,tag=d,tag=e,tag=f,tag=g,tag=h,tag=i",
        ] {
            let told = Wishes::of(&headers(&[("skep-cache", wrong)])).unwrap_err();
            assert!(told.to_string().starts_with("`Skep-Cache`"), "{told}");
        }
    }
}
