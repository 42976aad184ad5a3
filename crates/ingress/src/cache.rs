//! Answers to GET requests that are given again without the agent, as HTTP caching allows it (RFC 9111)
//! and only for agents whose manifest asks for it. What may be kept, for how long, and when the agent
//! is asked again is decided by `http-cache-semantics`; here is what is kept, and when it goes: with a
//! deployment, with a successful request that changes the same target, by tag, and for want of room.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, DATE, ETAG, EXPIRES, HeaderMap,
    HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, SET_COOKIE,
    VARY,
};
use http::{Method, StatusCode, request, response};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};
use parking_lot::Mutex;

use crate::lane::Lane;
use crate::policy::{CacheRules, CallPolicy};

/// Answers of one target that differ by the headers of their requests.
const MOST_VARIANTS: usize = 16;
/// What an entry costs besides its body.
const ENTRY_BYTES: u64 = 1024;
/// Changes that are remembered for the answers that were on their way meanwhile.
const MOST_CHANGES: usize = 128;
/// The greatest age that there is (RFC 9111 section 1.2.2).
const MOST_AGE: u64 = 1 << 31;
/// What agents are told of a request that clients do not say: an answer that differs by it cannot be
/// told from another's here.
const SAID_HERE: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "traceparent",
    "tracestate",
];
/// How a response says what happened here (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// The tags of an answer, by which it can be forgotten.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

struct Entry {
    head: Head,
    body: Bytes,
    /// Who it is for, when answers are kept apart by headers.
    by: By,
    /// When it was used last, as a count of uses.
    used: u64,
    /// What it costs.
    bytes: u64,
}

/// The values of the headers by which answers are kept apart, each with the place of its name.
type By = Vec<(usize, HeaderValue)>;

/// What is kept of an answer besides its body.
#[derive(Clone)]
struct Head {
    policy: CachePolicy,
    tags: Vec<String>,
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    /// The length of its headers.
    bytes: u64,
}

impl Head {
    fn new(policy: CachePolicy, headers: &HeaderMap) -> Self {
        Self {
            policy,
            tags: tags(headers),
            etag: headers.get(ETAG).cloned(),
            modified: headers.get(LAST_MODIFIED).cloned(),
            bytes: length(headers),
        }
    }

    /// Asks the agent whether this answer holds: this one, and none that the client has.
    fn ask(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (IF_NONE_MATCH, &self.etag),
            (IF_MODIFIED_SINCE, &self.modified),
        ] {
            headers.remove(&name);
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }

    const fn can_be_confirmed(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// Completes what an agent says that confirms this: few repeat what they were asked with.
    fn complete(&self, confirmed: &mut HeaderMap) {
        for (name, value) in [(ETAG, &self.etag), (LAST_MODIFIED, &self.modified)] {
            confirmed.remove(&name);
            if let Some(value) = value {
                confirmed.insert(name, value.clone());
            }
        }
    }
}

fn length(headers: &HeaderMap) -> u64 {
    let lengths = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    lengths.sum::<usize>() as u64
}

#[derive(Default)]
struct State {
    /// The revision that gave the answers.
    revision: u32,
    entries: HashMap<Arc<str>, Vec<Entry>>,
    /// The targets by when an entry of theirs was used last.
    order: BTreeMap<u64, Arc<str>>,
    bytes: u64,
    uses: u64,
    /// The policy as of the last look: each deployment brings another.
    policy: Option<Arc<CallPolicy>>,
    /// The targets that were changed last, and when.
    changes: VecDeque<(u64, Arc<str>)>,
    /// Answers that were asked for before then are not kept: something has changed since.
    stale_until: u64,
}

/// The answers of one agent.
#[derive(Default)]
pub(crate) struct Cache {
    state: Mutex<State>,
}

/// What there is for a request.
pub(crate) enum Found {
    /// This, as it goes out.
    Fresh(Box<response::Parts>, Bytes),
    /// Something that the agent must confirm: what it is asked with, and what is confirmed then.
    Stale(Box<Stale>),
    /// Nothing.
    Nothing,
}

/// An answer that is to be confirmed.
pub(crate) struct Stale {
    /// The headers with which the agent is asked.
    pub(crate) headers: HeaderMap,
    kept: Head,
    body: Bytes,
}

/// A request as the cache sees it.
pub(crate) struct Asked {
    parts: request::Parts,
    target: Arc<str>,
    by: By,
    revision: u32,
    policy: Arc<CallPolicy>,
    /// When it was looked for.
    began: u64,
}

impl Asked {
    /// A request that may be answered from the cache, or whose answer may be kept: a plain GET to an
    /// agent that runs one revision.
    pub(crate) fn new(
        (policy, rules): (&Arc<CallPolicy>, &CacheRules),
        revision: Option<u32>,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Option<Self> {
        if *method != Method::GET || headers.contains_key(RANGE) {
            return None;
        }
        let mut request = http::Request::new(());
        *request.uri_mut() = target.parse().ok()?;
        *request.headers_mut() = headers.clone();
        join_repeated(request.headers_mut());
        let mut by = By::new();
        for (at, name) in rules.by.iter().enumerate() {
            by.extend(
                headers
                    .get_all(name)
                    .iter()
                    .map(|value| (at, value.clone())),
            );
        }
        Some(Self {
            parts: request.into_parts().0,
            target: target.into(),
            by,
            revision: revision?,
            policy: policy.clone(),
            began: 0,
        })
    }
}

/// Makes one line of those with the same name: of several, only the first or the last would be looked
/// at and given.
fn join_repeated(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    // What cannot be joined.
    for name in names.iter().filter(|name| **name != SET_COOKIE) {
        let values: Vec<&[u8]> = headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        let between: &[u8] = if *name == COOKIE { b"; " } else { b", " };
        if values.len() > 1
            && let Ok(value) = HeaderValue::from_bytes(&values.join(between))
        {
            headers.insert(name, value);
        }
    }
}

fn options(rules: &CacheRules) -> CacheOptions {
    CacheOptions {
        // Kept apart by who asks, it is each one's own.
        shared: rules.by.is_empty(),
        // Nothing is guessed.
        cache_heuristic: 0.0,
        ..CacheOptions::default()
    }
}

pub(crate) fn says(headers: &HeaderMap, directive: &str) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let words = values.filter_map(|value| value.to_str().ok());
    words
        .flat_map(|text| text.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(directive))
}

fn tags(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CACHE_TAG).iter();
    let words = values.filter_map(|value| value.to_str().ok());
    let words = words.flat_map(|text| text.split(','));
    words.map(|tag| tag.trim().to_owned()).collect()
}

impl State {
    fn clear(&mut self) -> u64 {
        let gone = self.entries.values().map(Vec::len).sum::<usize>() as u64;
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
        gone
    }

    /// Forgets what was given by other revisions, or before a deployment.
    fn at(&mut self, revision: u32, policy: &Arc<CallPolicy>) {
        let same = self
            .policy
            .as_ref()
            .is_some_and(|of| Arc::ptr_eq(of, policy));
        if self.revision != revision || !same {
            self.clear();
            self.revision = revision;
            self.policy = Some(policy.clone());
        }
    }

    /// Whether nothing has happened since this was asked for that makes its answer an old one.
    fn holds(&self, asked: &Asked) -> bool {
        let same = self
            .policy
            .as_ref()
            .is_some_and(|of| Arc::ptr_eq(of, &asked.policy));
        let mut changes = self.changes.iter();
        same && self.revision == asked.revision
            && asked.began >= self.stale_until
            && !changes.any(|(at, target)| *at > asked.began && *target == asked.target)
    }

    fn retain(&mut self, target: &str, keep: impl Fn(&Entry) -> bool) -> u64 {
        let Some(entries) = self.entries.get_mut(target) else {
            return 0;
        };
        let before = entries.len();
        for entry in entries.iter().filter(|entry| !keep(entry)) {
            self.bytes -= entry.bytes;
            self.order.remove(&entry.used);
        }
        entries.retain(keep);
        let gone = before - entries.len();
        if entries.is_empty() {
            self.entries.remove(target);
        }
        gone as u64
    }

    fn put(&mut self, target: &Arc<str>, mut entry: Entry, most: u64) {
        self.uses += 1;
        entry.used = self.uses;
        self.bytes += entry.bytes;
        self.order.insert(entry.used, target.clone());
        let entries = self.entries.entry(target.clone()).or_default();
        entries.push(entry);
        let extra = entries.len() > MOST_VARIANTS;
        let oldest = entries.iter().map(|entry| entry.used).min();
        if let Some(oldest) = oldest.filter(|_| extra) {
            self.retain(target, |entry| entry.used != oldest);
        }
        while self.bytes > most {
            let Some((used, target)) = self.order.pop_first() else {
                return;
            };
            self.retain(&target, |entry| entry.used != used);
        }
    }
}

impl Cache {
    /// What there is for a request.
    pub(crate) fn look(&self, asked: &mut Asked) -> Found {
        let now = SystemTime::now();
        let mut state = self.state.lock();
        state.at(asked.revision, &asked.policy);
        state.uses += 1;
        let uses = state.uses;
        asked.began = uses;
        let State { entries, order, .. } = &mut *state;
        let Some((target, entries)) = entries.get_key_value(&asked.target) else {
            return Found::Nothing;
        };
        let target = target.clone();
        let mut stale = None;
        for (at, entry) in entries.iter().enumerate() {
            if entry.by != asked.by {
                continue;
            }
            match entry.head.policy.before_request(&asked.parts, now) {
                BeforeRequest::Fresh(parts) => {
                    let (body, was) = (entry.body.clone(), entry.used);
                    order.remove(&was);
                    order.insert(uses, target.clone());
                    if let Some(entry) = state
                        .entries
                        .get_mut(&target)
                        .and_then(|all| all.get_mut(at))
                    {
                        entry.used = uses;
                    }
                    drop(state);
                    let (parts, body) = give(asked, parts, body, "hit");
                    return Found::Fresh(parts, body);
                }
                BeforeRequest::Stale {
                    mut request,
                    matches: true,
                } if entry.head.can_be_confirmed() => {
                    entry.head.ask(&mut request.headers);
                    stale = Some(Stale {
                        headers: request.headers,
                        kept: entry.head.clone(),
                        body: entry.body.clone(),
                    });
                }
                BeforeRequest::Stale { .. } => {}
            }
        }
        stale.map_or(Found::Nothing, |stale| Found::Stale(Box::new(stale)))
    }

    /// The revision that gave the answers.
    pub(crate) fn revision(&self) -> u32 {
        self.state.lock().revision
    }

    /// Keeps an answer.
    fn keep(&self, asked: &Asked, head: Head, body: Bytes, rules: &CacheRules) {
        let text = head.bytes + length(&asked.parts.headers) + 2 * asked.target.len() as u64;
        let entry = Entry {
            bytes: body.len() as u64 + text + ENTRY_BYTES,
            head,
            body,
            by: asked.by.clone(),
            used: 0,
        };
        if entry.bytes > rules.size {
            return;
        }
        let now = SystemTime::now();
        let mut state = self.state.lock();
        if !state.holds(asked) {
            return;
        }
        // What answered the same request before is replaced.
        state.retain(&asked.target, |old| {
            let before = old.head.policy.before_request(&asked.parts, now);
            let same = !matches!(before, BeforeRequest::Stale { matches: false, .. });
            old.by != asked.by || !same
        });
        state.put(&asked.target, entry, rules.size);
    }

    /// Forgets the answers of a target that a request has changed (RFC 9111 section 4.4).
    pub(crate) fn changed(&self, target: &str) {
        let mut state = self.state.lock();
        state.retain(target, |_| false);
        state.uses += 1;
        let now = state.uses;
        state.changes.push_back((now, target.into()));
        if state.changes.len() > MOST_CHANGES {
            state.stale_until = state.changes.pop_front().map_or(now, |(at, _)| at);
        }
    }

    /// Forgets the answers with this tag, or all; tells how many.
    pub(crate) fn forget(&self, tag: Option<&str>) -> u64 {
        let mut state = self.state.lock();
        state.uses += 1;
        // Nobody knows the tags of what is on its way.
        state.stale_until = state.uses;
        let Some(tag) = tag else {
            return state.clear();
        };
        let targets: Vec<Arc<str>> = state.entries.keys().cloned().collect();
        let has = |entry: &Entry| entry.head.tags.iter().any(|one| one == tag);
        let gone = targets
            .iter()
            .map(|target| state.retain(target, |entry| !has(entry)));
        gone.sum()
    }
}

/// A kept answer as it goes out: not at all when the client has it.
fn give(
    asked: &Asked,
    mut parts: response::Parts,
    body: Bytes,
    what: &str,
) -> (Box<response::Parts>, Bytes) {
    status(&mut parts.headers, what);
    // In the form of mail; the server gives one of its own, and `Age` says the rest.
    parts.headers.remove(DATE);
    let wanted = asked.parts.headers.get(IF_NONE_MATCH);
    let is_known = wanted
        .zip(parts.headers.get(ETAG))
        .is_some_and(|(wanted, etag)| {
            let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
            let etag = etag.to_str().map(weak).unwrap_or_default();
            let wanted = wanted.to_str().unwrap_or_default();
            wanted.trim() == "*" || wanted.split(',').any(|tag| weak(tag) == etag)
        });
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_LENGTH);
        return (Box::new(parts), Bytes::new());
    }
    (Box::new(parts), body)
}

fn status(headers: &mut HeaderMap, what: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("skep; {what}")) {
        headers.append(CACHE_STATUS, value);
    }
}

/// What becomes of an agent's answer to a request of the cache's.
pub(crate) enum After {
    /// It is given as it comes; when it is whole, this keeps it.
    Pass(Option<Box<Recorder>>),
    /// The kept answer holds: this is given.
    Confirmed(Box<response::Parts>, Bytes),
}

/// Looks at an agent's answer, and marks it.
pub(crate) fn after(
    lane: &Arc<Lane>,
    rules: &CacheRules,
    asked: Asked,
    stale: Option<Stale>,
    head: &mut response::Parts,
) -> After {
    let now = SystemTime::now();
    join_repeated(&mut head.headers);
    bound_age(&mut head.headers);
    let why = if stale.is_some() {
        "fwd=stale"
    } else {
        "fwd=uri-miss"
    };
    if let Some(stale) = stale
        && head.status == StatusCode::NOT_MODIFIED
    {
        stale.kept.complete(&mut head.headers);
        let confirmed = stale.kept.policy.after_response(&asked.parts, head, now);
        if let AfterResponse::NotModified(policy, parts) = confirmed {
            let kept = Head::new(policy, &parts.headers);
            lane.cache.keep(&asked, kept, stale.body.clone(), rules);
            let what = "fwd=stale; fwd-status=304";
            let (parts, body) = give(&asked, parts, stale.body, what);
            return After::Confirmed(parts, body);
        }
    }
    // Whose it is could not be told from another's.
    let personal = [AUTHORIZATION, COOKIE]
        .iter()
        .any(|name| asked.parts.headers.contains_key(name) && !rules.by.contains(name))
        || head.headers.contains_key(SET_COOKIE);
    // Nor is it said to be somebody else's to keep.
    let whose = if rules.by.is_empty() { "" } else { "private, " };
    if let Some(ttl) = rules.ttl
        && head.status == StatusCode::OK
        && !personal
        && !head.headers.contains_key(CACHE_CONTROL)
        && !head.headers.contains_key(EXPIRES)
        && let Ok(value) = HeaderValue::try_from(format!("{whose}max-age={}", ttl.as_secs()))
    {
        head.headers.insert(CACHE_CONTROL, value);
    }
    let policy = CachePolicy::new_options(&asked.parts, head, now, options(rules));
    let keeps = policy.is_storable()
        && policy.time_to_live(now).as_secs() + u64::from(has_validator(&head.headers)) > 0
        && (!personal || says(&head.headers, "public"))
        && can_be_told(&head.headers);
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let keeps = keeps && length.is_none_or(|length| length <= rules.largest);
    status(
        &mut head.headers,
        &match keeps {
            true => format!("{why}; stored"),
            false => why.to_owned(),
        },
    );
    After::Pass(keeps.then(|| {
        Box::new(Recorder {
            lane: lane.clone(),
            asked,
            kept: Head::new(policy, &head.headers),
            rules: rules.clone(),
            body: BytesMut::new(),
        })
    }))
}

/// Whether what it differs by can be seen here, and all of it can be given again.
fn can_be_told(headers: &HeaderMap) -> bool {
    let differs = headers.get(VARY).map(HeaderValue::to_str);
    let known = match differs {
        None => true,
        Some(Ok(names)) => !names.split(',').any(|name| {
            let name = name.trim();
            name == "*" || SAID_HERE.iter().any(|said| said.eq_ignore_ascii_case(name))
        }),
        Some(Err(_)) => false,
    };
    known && headers.get_all(SET_COOKIE).iter().count() <= 1
}

/// An age that cannot be counted on is the greatest there is.
fn bound_age(headers: &mut HeaderMap) {
    let age = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse::<u64>().ok());
    if age.is_some_and(|age| age > MOST_AGE) {
        headers.insert(AGE, HeaderValue::from(MOST_AGE));
    }
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// Holds on to an answer's body while it passes.
pub(crate) struct Recorder {
    lane: Arc<Lane>,
    asked: Asked,
    kept: Head,
    rules: CacheRules,
    body: BytesMut,
}

impl Recorder {
    /// Takes a piece; false when it becomes too large to be kept.
    pub(crate) fn add(&mut self, piece: &[u8]) -> bool {
        let fits = (self.body.len() + piece.len()) as u64 <= self.rules.largest;
        if fits {
            self.body.extend_from_slice(piece);
        }
        fits
    }

    /// The answer is whole: it is kept.
    pub(crate) fn finish(self) {
        let Self {
            lane,
            asked,
            kept,
            rules,
            body,
        } = self;
        lane.cache.keep(&asked, kept, body.freeze(), &rules);
    }
}
