//! What the upstream remembers: what came for which model, what failed how often, and what is open.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use http::request::Parts;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// Requests that are kept for one model.
const MOST_SEEN: usize = 100;
/// The model of requests that name none.
pub(crate) const NO_MODEL: &str = "-";

const OPEN: u8 = 0;
const WHOLE: u8 = 1;
const CUT: u8 = 2;

struct Seen {
    request: Value,
    ended: Arc<AtomicU8>,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Book {
    requests: AtomicU64,
    /// Requests whose client left before their end.
    cut: AtomicU64,
    open: AtomicU64,
    most: AtomicU64,
    numbers: AtomicU64,
    seen: Mutex<HashMap<String, VecDeque<Seen>>>,
    fails: Mutex<HashMap<String, u64>>,
}

impl Book {
    /// A number that no other answer has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Whether this model may fail once more.
    pub(crate) fn fails(&self, model: &str, times: Option<u64>) -> bool {
        let Some(times) = times else { return true };
        let mut fails = self.fails.lock();
        let done = fails.entry(model.to_owned()).or_default();
        *done += 1;
        *done <= times
    }

    /// Counts a request, and writes it down unless its model is one without options.
    pub(crate) fn enter(
        self: &Arc<Self>,
        model: Option<&str>,
        head: &Parts,
        body: &[u8],
        json: &Value,
    ) -> Going {
        self.requests.fetch_add(1, Relaxed);
        let ended = Arc::new(AtomicU8::new(OPEN));
        let model = model.unwrap_or(NO_MODEL);
        if model == NO_MODEL || model.contains('+') {
            let mut headers = Map::new();
            for (name, value) in &head.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                let value = match headers.get(name.as_str()).and_then(Value::as_str) {
                    Some(before) => format!("{before}, {value}"),
                    None => value.into_owned(),
                };
                headers.insert(name.to_string(), Value::String(value));
            }
            let request = json!({
                "method": head.method.as_str(),
                "path": head.uri.path(),
                "query": head.uri.query().unwrap_or_default(),
                "headers": headers,
                "body": json,
                "raw": String::from_utf8_lossy(body),
            });
            let mut seen = self.seen.lock();
            let of = seen.entry(model.to_owned()).or_default();
            if of.len() == MOST_SEEN {
                of.pop_front();
            }
            let ended = Arc::clone(&ended);
            of.push_back(Seen { request, ended });
        }
        Going {
            book: Arc::clone(self),
            ended,
            stream: false,
        }
    }

    /// What came for a model, the oldest first.
    pub(crate) fn seen(&self, model: &str) -> Value {
        let seen = self.seen.lock();
        let requests = seen.get(model).into_iter().flatten().map(|it| {
            let mut request = it.request.clone();
            request["ended"] = match it.ended.load(Relaxed) {
                OPEN => "open",
                WHOLE => "whole",
                _ => "cut",
            }
            .into();
            request
        });
        json!({ "model": model, "requests": requests.collect::<Vec<Value>>() })
    }

    pub(crate) fn counts(&self) -> Value {
        json!({
            "requests": self.requests.load(Relaxed),
            "cut": self.cut.load(Relaxed),
            "open": self.open.load(Relaxed),
            "most": self.most.load(Relaxed),
        })
    }
}

/// A request that is being answered. Whoever drops it before its end has lost its client.
pub(crate) struct Going {
    book: Arc<Book>,
    ended: Arc<AtomicU8>,
    stream: bool,
}

impl Going {
    /// It is a stream from here on.
    pub(crate) fn opens(&mut self) {
        self.stream = true;
        let open = self.book.open.fetch_add(1, Relaxed) + 1;
        self.book.most.fetch_max(open, Relaxed);
    }

    /// All was said that was to be said.
    pub(crate) fn end(&self) {
        self.ended.store(WHOLE, Relaxed);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if self.stream {
            self.book.open.fetch_sub(1, Relaxed);
        }
        if self.ended.load(Relaxed) == OPEN {
            self.ended.store(CUT, Relaxed);
            self.book.cut.fetch_add(1, Relaxed);
        }
    }
}
