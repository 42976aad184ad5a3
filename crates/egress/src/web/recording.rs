//! What is kept of an exchange with a host, by a rule that says so: the request as it was sent to Skep, without what Skep put
//! in, and the answer as it went on. Both pass without waiting for anything here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use skep_core::{ExchangeId, Timestamp, Workspace};
use skep_store::By;

use super::rule::Rule;
use super::service::{Asked, Web};
use super::{WebError, headers};
use crate::ledger::{Opened, Way};
use crate::recordings::{Content, Draft, Held, Leaf, MOST_BODY, Marks, Recorded, Recordings};
use crate::scrub::{Forms, Scrub};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Headers whose values are kept; of any other its name is, since its value may be a credential.
const SHOWN: [&str; 31] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "origin",
    "range",
    "request-id",
    "retry-after",
    "server",
    "upgrade",
    "user-agent",
    "vary",
    "x-request-id",
];
/// In the place of another's value.
const HIDDEN: &str = "*";

/// A body as far as it is kept, and its whole length.
#[derive(Default)]
struct Side {
    bytes: Vec<u8>,
    whole: u64,
}

impl Side {
    /// Another piece. Tells how many bytes of it are kept.
    fn push(&mut self, data: &[u8]) -> usize {
        let room = MOST_BODY.saturating_sub(self.bytes.len());
        let kept = data.get(..room).unwrap_or(data);
        self.whole += data.len() as u64;
        self.bytes.extend_from_slice(kept);
        kept.len()
    }

    /// Its whole length, when not all of it is kept.
    fn cut(&self) -> Option<u64> {
        (self.whole > self.bytes.len() as u64).then_some(self.whole)
    }
}

/// What there is until now.
struct Begun {
    held: Held,
    content: Content,
    asked: Side,
    answer: Side,
}

/// What is kept of an exchange while it passes. Nothing any more, once it has ended or too much is held.
pub(super) struct Keep {
    recordings: Recordings,
    opened: Arc<Opened>,
    days: u32,
    /// What no request shows, either: somebody may know the secret of a host by themselves.
    forms: Forms,
    begun: Mutex<Option<Begun>>,
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let plain = SHOWN.contains(&name.as_str());
        let value = value.to_str().ok().filter(|_| plain).unwrap_or(HIDDEN);
        (name.as_str().to_owned(), value.to_owned())
    };
    headers.iter().map(pair).collect()
}

impl Keep {
    /// Of a request as it came.
    pub(super) fn new(
        recordings: &Recordings,
        (opened, days, forms): (&Arc<Opened>, u32, &Forms),
        (asked, head): (&Asked, &http::request::Parts),
    ) -> Self {
        let path = head.uri.path_and_query().map_or("/", |it| it.as_str());
        let (scheme, authority) = (asked.scheme.as_str(), asked.authority());
        let content = Content {
            target: format!("{} {scheme}://{authority}{path}", head.method),
            asked_headers: shown(&headers::to_host(&head.headers)),
            ..Content::default()
        };
        let mut held = recordings.hold();
        let fits = held.more(head.headers.len() + content.target.len());
        let begun = fits.then(|| Begun {
            held,
            content,
            asked: Side::default(),
            answer: Side::default(),
        });
        Self {
            recordings: recordings.clone(),
            opened: opened.clone(),
            days,
            forms: forms.clone(),
            begun: Mutex::new(begun),
        }
    }

    fn push(&self, data: &[u8], side: impl FnOnce(&mut Begun) -> &mut Side) {
        let mut begun = self.begun.lock();
        let Some(now) = begun.as_mut() else { return };
        let kept = side(now).push(data);
        if !now.held.more(kept) {
            *begun = None;
            let workspace = &self.opened.workspace;
            tracing::warn!(%workspace, "too much is held: an exchange is not kept");
        }
    }

    /// A piece of the request goes on.
    pub(super) fn asks(&self, data: &[u8]) {
        self.push(data, |it| &mut it.asked);
    }

    /// The answer begins, as it goes on.
    pub(super) fn answers(&self, status: StatusCode, headers: &HeaderMap) {
        if let Some(begun) = self.begun.lock().as_mut() {
            begun.content.status = status.as_u16();
            begun.content.headers = shown(headers);
        }
    }

    /// A piece of the answer goes on.
    pub(super) fn says(&self, data: &[u8]) {
        self.push(data, |it| &mut it.answer);
    }

    /// It has ended so.
    pub(super) fn end(&self, outcome: &str, now: Timestamp) {
        let Some(begun) = self.begun.lock().take() else {
            return;
        };
        let opened = &self.opened;
        if self.recordings.is_full(&opened.workspace) {
            return;
        }
        let recorded = Recorded {
            id: opened.id,
            way: opened.way,
            asked: opened.asked.clone(),
            at: opened.at,
            until: now.plus(DAY * self.days),
            cached_until: None,
            kind: opened.kind.clone(),
            who: opened.who.clone(),
            model: format!("{}/{}", opened.provider, opened.model),
            outcome: outcome.to_owned(),
            call: None,
            tags: Vec::new(),
            looked_at: true,
            bytes: (begun.asked.bytes.len() + begun.answer.bytes.len()) as u64,
        };
        let Begun {
            held,
            content,
            asked,
            answer,
        } = begun;
        let content = Content {
            asked_whole: asked.cut(),
            asked: asked.bytes.into(),
            answer_whole: answer.cut(),
            answer: answer.bytes,
            ..content
        };
        let forms = self.forms.clone();
        self.recordings.put(Draft {
            workspace: opened.workspace.clone(),
            keys: None,
            leaves: Box::new(std::iter::once_with(move || Leaf {
                recorded,
                marks: Marks::default(),
                content: masked(content, &forms),
                near: None,
            })),
            held,
        });
    }
}

/// With no value of a secret in what was asked. In what was answered there is none any more.
fn masked(mut content: Content, forms: &Forms) -> Content {
    if forms.is_empty() {
        return content;
    }
    let text = |text: &str| String::from_utf8_lossy(&forms.masked(text.as_bytes())).into_owned();
    content.target = text(&content.target);
    let pairs = content.asked_headers.iter();
    content.asked_headers = pairs.map(|(name, it)| (text(name), text(it))).collect();
    let mut scrub = Scrub::new(forms.clone());
    let mut asked = scrub.push(&content.asked);
    // The beginning of a value at the end of what is kept is not shown, either.
    if content.asked_whole.is_none() {
        asked.extend(scrub.finish());
    }
    content.asked = Bytes::from(asked);
    content
}

impl Web {
    /// What is kept of an exchange by its rule, if that says so.
    pub(super) fn keep(
        &self,
        (opened, rule, forms): (&Arc<Opened>, &Rule, &Forms),
        (asked, head): (&Asked, &http::request::Parts),
    ) -> Option<Arc<Keep>> {
        let of = (opened, rule.record_days, forms);
        let kept = self.models().kept();
        (rule.record_days > 0).then(|| Arc::new(Keep::new(kept, of, (asked, head))))
    }

    /// Exchanges that are kept: the newest, before one of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn recordings(
        &self,
        workspace: &Workspace,
        (before, limit): (Option<ExchangeId>, u32),
    ) -> Result<Vec<Recorded>, WebError> {
        let kept = self.models().kept();
        Ok(kept.page((Way::Web, workspace), (before, limit)).await?)
    }

    /// One of them, with request and answer. That somebody saw it is written down before.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], [`EgressError::Closed`], and the store's own.
    ///
    /// [`EgressError::NotFound`]: crate::EgressError::NotFound
    /// [`EgressError::Closed`]: crate::EgressError::Closed
    pub async fn recording(
        &self,
        by: &By,
        workspace: &Workspace,
        id: ExchangeId,
    ) -> Result<(Recorded, Content), WebError> {
        let kept = self.models().kept();
        Ok(kept.shown(by, (Way::Web, workspace), id).await?)
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    ///
    /// [`EgressError::NotFound`]: crate::EgressError::NotFound
    pub async fn drop_recording(
        &self,
        by: &By,
        workspace: &Workspace,
        id: ExchangeId,
    ) -> Result<(), WebError> {
        let kept = self.models().kept();
        Ok(kept.remove(by, (Way::Web, workspace), id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(asked: &str, whole: Option<u64>) -> Content {
        Content {
            target: "GET https://a/?key=sk-0123456789".to_owned(),
            asked_headers: vec![("origin".to_owned(), "sk-0123456789".to_owned())],
            asked: Bytes::copy_from_slice(asked.as_bytes()),
            asked_whole: whole,
            ..Content::default()
        }
    }

    #[test]
    fn no_value_stands_in_what_was_asked_nor_its_beginning_where_it_was_cut() {
        let forms = Forms::of(&[b"sk-0123456789"]);
        for (asked, whole, expected) in [
            ("a sk-0123456789 b", None, "a ************* b"),
            ("a sk-012", None, "a sk-012"),
            ("a sk-012", Some(99), "a "),
        ] {
            let done = masked(content(asked, whole), &forms);
            assert_eq!(&done.asked[..], expected.as_bytes(), "{asked}");
            assert_eq!(done.target, "GET https://a/?key=*************");
            assert_eq!(done.asked_headers[0].1, "*************");
        }
        let plain = content("sk-0123456789", None);
        assert_eq!(masked(plain.clone(), &Forms::default()), plain);
    }

    #[test]
    fn only_headers_that_carry_no_credential_have_values() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("authorization", "Bearer own"),
            ("cookie", "session=own"),
            ("x-api-key", "own"),
            ("location", "https://a/?code=own"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        for (name, value) in shown(&headers) {
            let expected = if name == "accept" { "*/*" } else { HIDDEN };
            assert_eq!(value, expected, "{name}");
        }
    }

    #[test]
    fn a_body_is_cut_where_it_is_too_long() {
        let mut side = Side::default();
        for (length, kept, cut) in [
            (MOST_BODY - 1, MOST_BODY - 1, None),
            (3, MOST_BODY, Some(MOST_BODY as u64 + 2)),
            (5, MOST_BODY, Some(MOST_BODY as u64 + 7)),
        ] {
            side.push(&vec![0; length]);
            assert_eq!((side.bytes.len(), side.cut()), (kept, cut));
        }
    }
}
