//! One request on its way to a host: what stays here is taken out, the secret of its rule is put in, and what comes back
//! is looked through.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::answer::{Body, Counted};
use super::exchange::Open;
use super::fill::{Filled, How, basic, leases, percent};
use super::rule::{Credential, Place, Rule, secrets_at, sent_path};
use super::service::{Asked, Lessee, Web, watched};
use super::{WebError, headers};
use crate::EgressError;
use crate::scrub::{Forms, LEAST, Scrub};
use crate::upstream::Fault;

/// How long a host may take until its answer begins.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of a body in which placeholders are replaced; a larger one passes as it is.
const MOST_FILLED: usize = 1 << 20;
/// Bytes of an upgraded connection that are read at once.
const PIECE: usize = 16 << 10;

/// Secrets of one host that are looked for in its answers.
const MOST_SECRETS: usize = 64;

/// The body of a request on its way out.
pub(super) type Sent = UnsyncBoxBody<Bytes, Fault>;

/// Whether something that was begun may go on: asked now and then.
pub type May = Arc<dyn Fn() -> bool + Send + Sync>;

/// A client's connection that is to speak another protocol, and whether it may go on.
pub struct Upgrade {
    /// The connection.
    pub client: OnUpgrade,
    /// Whether it may go on.
    pub may: May,
}

/// A body of which the beginning was read.
struct Rest<B> {
    begun: Option<Bytes>,
    body: B,
}

impl<B> http_body::Body for Rest<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Fault>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        match this.begun.take().filter(|it| !it.is_empty()) {
            Some(begun) => Poll::Ready(Some(Ok(Frame::data(begun)))),
            None => Pin::new(&mut this.body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.as_ref().map_or(0, |it| it.len() as u64);
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + begun);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + begun);
        }
        whole
    }
}

/// What is put into a request.
#[derive(Default)]
struct Loan {
    /// The secret of the rule.
    value: Option<Zeroizing<Vec<u8>>>,
    filled: Filled,
    /// What must not come back.
    forms: Forms,
    /// Whether a value was put in.
    keyed: bool,
}

/// How a body writes texts.
fn how(headers: &HeaderMap) -> How {
    let kind = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default() {
        "application/x-www-form-urlencoded" => How::Percent,
        kind if kind.ends_with("json") => How::Json,
        _ => How::Plain,
    }
}

/// A value as it is sent: what an editor left at the end of its file is no part of it.
fn trimmed(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let length = value.trim_ascii_end().len();
    value.truncate(length);
    value
}

/// The beginning of a body, and whether that is all of it.
async fn begun<B>(body: &mut B, pause: Duration) -> Result<(Bytes, bool), WebError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Fault>,
{
    if body.size_hint().lower() > MOST_FILLED as u64 {
        return Ok((Bytes::new(), false));
    }
    let mut begun = BytesMut::new();
    while begun.len() <= MOST_FILLED {
        let frame = tokio::time::timeout(pause, body.frame()).await;
        match frame.map_err(|_| WebError::Late)? {
            None => return Ok((begun.freeze(), true)),
            Some(Err(_)) => return Err(WebError::Bad("the body was cut off".to_owned())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    begun.extend_from_slice(&data);
                }
            }
        }
    }
    Ok((begun.freeze(), false))
}

/// The query with a field of it in the place of those of its name.
fn with_field(query: Option<&str>, name: &str, value: &[u8]) -> String {
    let value = percent(value);
    let value = String::from_utf8_lossy(&value);
    let kept = query.unwrap_or_default().split('&').filter(|it| {
        let field = it.split('=').next().unwrap_or_default();
        !it.is_empty() && field != name
    });
    let mut fields: Vec<String> = kept.map(str::to_owned).collect();
    fields.push(format!("{name}={value}"));
    fields.join("&")
}

/// Placeholders that somebody may have been lent, wherever they stand in a request.
fn leases_of(head: &http::request::Parts, body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    leases(head.uri.to_string().as_bytes(), &mut found);
    for value in head.headers.values() {
        leases(value.as_bytes(), &mut found);
        if let Some(inner) = basic(value.as_bytes()) {
            leases(&inner, &mut found);
        }
    }
    leases(body, &mut found);
    found
}

/// The text fields of a value that is a JSON object: placeholders may stand for one of them.
fn fields(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let read: Result<BTreeMap<String, serde_json::Value>, _> = serde_json::from_slice(value);
    let texts = read.unwrap_or_default().into_values();
    let texts = texts.filter_map(|it| match it {
        serde_json::Value::String(text) => Some(Zeroizing::new(text.into_bytes())),
        _ => None,
    });
    texts.take(MOST_SECRETS).collect()
}

impl Web {
    /// The values of all secrets that rules of a host name: what one request leaves there another one may read.
    async fn values_at(
        &self,
        by: &Lessee,
        host: &str,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, WebError> {
        let workspace = &by.who.workspace;
        let rules = self.rules(workspace).await?;
        let named = secrets_at(&rules, host);
        let mut all = Vec::new();
        for (index, ((secret, field), rule)) in named.into_iter().enumerate() {
            let failed = |why: String| WebError::Credential {
                rule: rule.to_owned(),
                why,
            };
            if index >= MOST_SECRETS {
                let why = format!("rules of this host name more than {MOST_SECRETS} secrets");
                return Err(failed(why));
            }
            let value = self.values().secret(workspace, secret, field).await;
            // One that is gone has no value that could come back.
            if let Some(value) = value.map_err(failed)? {
                if field.is_none() {
                    all.extend(fields(&value));
                }
                all.push(trimmed(value));
            }
        }
        Ok(all)
    }

    /// What is put into a request that falls under a rule.
    async fn loan(
        &self,
        (asked, rule, by): (&Asked, &Rule, &Lessee),
        head: &http::request::Parts,
        body: &[u8],
    ) -> Result<Loan, WebError> {
        let looked_for = self.values_at(by, &asked.host).await?;
        let Some(credential) = &rule.credential else {
            return Ok(Loan {
                forms: Forms::of(&as_slices(&looked_for)),
                ..Loan::default()
            });
        };
        let failed = |why: String| WebError::Credential {
            rule: rule.name.clone(),
            why,
        };
        let values = self.values();
        let mut filled = Filled::default();
        let mut seen: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for text in leases_of(head, body) {
            let lent = values.lease(by, &credential.secret, &text).await;
            if let Some(value) = lent.map_err(failed)? {
                let value = trimmed(value);
                seen.push(value.clone());
                filled.add(text, value);
            }
        }
        let Credential {
            secret,
            field,
            place,
        } = credential;
        let value = match place {
            Place::Placeholder(None) => None,
            _ => {
                let workspace = &by.who.workspace;
                let value = values.secret(workspace, secret, field.as_deref()).await;
                let value = value.map_err(failed)?;
                let missing = || failed(format!("there is no secret `{secret}`"));
                Some(trimmed(value.ok_or_else(missing)?))
            }
        };
        seen.extend(value.clone());
        if let (Place::Placeholder(Some(text)), Some(value)) = (place, &value) {
            filled.add(text.clone(), value.clone());
        }
        if seen.iter().any(|it| it.len() < LEAST) {
            return Err(failed(format!(
                "it has less than {LEAST} bytes: answers could not be kept free of it"
            )));
        }
        let keyed = !seen.is_empty();
        seen.extend(looked_for);
        Ok(Loan {
            value,
            filled,
            forms: Forms::of(&as_slices(&seen)),
            keyed,
        })
    }

    /// Sends a request that a rule lets out, and gives its answer when that begins. An exchange of its own was opened
    /// for it. `upgrade`: the client's connection, when it wants to speak something else on it. `may`: whether the answer
    /// may go on.
    ///
    /// # Errors
    /// [`WebError`].
    pub async fn send<B>(
        &self,
        (asked, rule, by): (&Asked, &Arc<Rule>, &Lessee),
        request: Request<B>,
        mut open: Open,
        (upgrade, may): (Option<Upgrade>, May),
    ) -> Result<Response<Body>, WebError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Fault>,
    {
        let prepared = self.prepare((asked, rule, by), request, &mut open).await;
        let (request, (forms, keyed)) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                if let WebError::Credential { rule, why } = &error {
                    tracing::warn!(rule, why, "a secret cannot be put into a request");
                }
                open.settle("refused");
                return Err(error);
            }
        };
        let asking = tokio::time::timeout(PATIENCE, self.upstream().ask(request)).await;
        let host = asked.name();
        let answer = match asking {
            Ok(Ok(answer)) => answer,
            Ok(Err((why, _))) => {
                open.settle("unreachable");
                return Err(WebError::Unreachable { host, why });
            }
            Err(_) => {
                open.settle("late");
                let why = format!("it took more than {} s", PATIENCE.as_secs());
                return Err(WebError::Unreachable { host, why });
            }
        };
        answered((host, answer), (&forms, keyed), open, (upgrade, may))
    }

    /// The request as it leaves, and what must not come back.
    async fn prepare<B>(
        &self,
        (asked, rule, by): (&Asked, &Arc<Rule>, &Lessee),
        request: Request<B>,
        open: &mut Open,
    ) -> Result<(Request<Sent>, (Forms, bool)), WebError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Fault>,
    {
        let (mut head, mut body) = request.into_parts();
        head.uri = as_sent(&head.uri)?;
        if body.size_hint().lower() > self.most_body() {
            return Err(EgressError::TooLarge(self.most_body()).into());
        }
        let fills = rule.credential.is_some() && !head.headers.contains_key(CONTENT_ENCODING);
        let (start, whole) = match fills {
            true => begun(&mut body, self.pause()).await?,
            false => (Bytes::new(), false),
        };
        let part = if whole { &start[..] } else { &[] };
        let loan = self.loan((asked, rule, by), &head, part).await?;
        open.keep = self.keep((&open.opened, rule, &loan.forms), (asked, &head));
        let mut headers = headers::to_host(&head.headers);
        if rule.credential.is_some() || !loan.forms.is_empty() {
            headers::readable(&mut headers);
        }
        for value in headers.values_mut() {
            if let Some(filled) = loan.filled.header(value.as_bytes()) {
                *value = secret_header(&filled, rule)?;
            }
        }
        let uri = target(asked, rule, &head.uri, &loan)?;
        if let (Some(Place::Header { name, form }), Some(value)) =
            (rule.credential.as_ref().map(|it| &it.place), &loan.value)
        {
            let formed = Zeroizing::new(Credential::formed(form, value));
            let name: Result<HeaderName, _> = name.parse();
            let name = name.map_err(|_| WebError::invalid("header", "it is no header"))?;
            headers.insert(name, secret_header(&formed, rule)?);
        }
        let bounds = (open.passed.clone(), self.most_body(), self.pause());
        let keep = open.keep.clone();
        let sent = match (whole, loan.filled.text(part, how(&head.headers))) {
            (true, Some(filled)) => {
                // What is kept is what came, and not what was put in.
                keep.inspect(|it| it.asks(part));
                Counted::new(Full::new(Bytes::from(filled.to_vec())), bounds).boxed_unsync()
            }
            (true, None) => Counted::new(Full::new(start), bounds)
                .kept(keep)
                .boxed_unsync(),
            (false, _) => {
                let rest = Rest {
                    begun: Some(start).filter(|it| !it.is_empty()),
                    body,
                };
                Counted::new(rest, bounds).kept(keep).boxed_unsync()
            }
        };
        let mut out = Request::new(sent);
        *out.method_mut() = head.method;
        *out.uri_mut() = uri;
        *out.headers_mut() = headers;
        Ok((out, (loan.forms, loan.keyed)))
    }
}

fn as_slices(values: &[Zeroizing<Vec<u8>>]) -> Vec<&[u8]> {
    values.iter().map(|it| it.as_slice()).collect()
}

/// A target with its path as it was decided on.
fn as_sent(uri: &Uri) -> Result<Uri, WebError> {
    let path = sent_path(uri.path())?;
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    let bad = |_| WebError::Bad("the target is not one that can be asked for".to_owned());
    parts.path_and_query = Some(whole.parse().map_err(bad)?);
    Uri::from_parts(parts)
        .map_err(|_| WebError::Bad("the target is not one that can be asked for".to_owned()))
}

fn secret_header(bytes: &[u8], rule: &Rule) -> Result<HeaderValue, WebError> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| WebError::Credential {
        rule: rule.name.clone(),
        why: "it has bytes that no header can have".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where a request goes, with what belongs into its path and its query.
fn target(asked: &Asked, rule: &Rule, uri: &Uri, loan: &Loan) -> Result<Uri, WebError> {
    let fill = |text: &str| match loan.filled.text(text.as_bytes(), How::Percent) {
        Some(filled) => String::from_utf8_lossy(&filled).into_owned(),
        None => text.to_owned(),
    };
    let path = fill(uri.path());
    let query = uri.query().map(fill);
    let query = match (rule.credential.as_ref().map(|it| &it.place), &loan.value) {
        (Some(Place::Query(name)), Some(value)) => Some(with_field(query.as_deref(), name, value)),
        _ => query,
    };
    let whole = match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let uri = Uri::builder()
        .scheme(asked.scheme.as_str())
        .authority(asked.authority())
        .path_and_query(whole);
    // What is wrong with it is not told: a value stands in it.
    uri.build()
        .map_err(|_| WebError::Bad("the target is not one that can be asked for".to_owned()))
}

/// The answer as it goes on.
fn answered(
    (host, mut answer): (String, Response<hyper::body::Incoming>),
    (forms, keyed): (&Forms, bool),
    mut open: Open,
    (upgrade, may): (Option<Upgrade>, May),
) -> Result<Response<Body>, WebError> {
    let status = answer.status();
    if !forms.is_empty() && headers::is_coded(answer.headers()) {
        open.settle("encoded");
        let why = "its answer is compressed though it was not asked for that, and cannot be looked through".to_owned();
        return Err(WebError::Unreachable { host, why });
    }
    let upgrades = status == StatusCode::SWITCHING_PROTOCOLS;
    let headers = headers::to_client(answer.headers(), (forms, keyed), upgrades);
    if let Some(keep) = &open.keep {
        keep.answers(status, &headers);
    }
    let scrub = (!forms.is_empty()).then(|| Scrub::new(forms.clone()));
    if upgrades {
        let Some(client) = upgrade else {
            open.settle("upgrade");
            let why = "it changed the protocol though nobody asked for that".to_owned();
            return Err(WebError::Unreachable { host, why });
        };
        let server = hyper::upgrade::on(&mut answer);
        let (_, body) = answer.into_parts();
        tokio::spawn(carry(client, server, scrub, open));
        let mut response = Response::new(Body::empty(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        return Ok(response);
    }
    let (_, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body, (status.as_u16(), may), scrub, open));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Carries an upgraded connection, until one of its sides ends.
async fn carry(upgrade: Upgrade, server: OnUpgrade, mut scrub: Option<Scrub>, mut open: Open) {
    open.begins();
    let Upgrade { client, may } = upgrade;
    let (Ok(client), Ok(server)) = tokio::join!(client, server) else {
        open.settle("upgrade");
        return;
    };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_server, mut to_server) = tokio::io::split(TokioIo::new(server));
    let passed = open.passed.clone();
    let up = async {
        let mut piece = vec![0; PIECE];
        loop {
            let count = from_client.read(&mut piece).await.unwrap_or(0);
            let Some(bytes) = piece.get(..count).filter(|it| !it.is_empty()) else {
                break;
            };
            passed.up.fetch_add(count as u64, Ordering::Relaxed);
            if to_server.write_all(bytes).await.is_err() || to_server.flush().await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        loop {
            let count = from_server.read(&mut piece).await.unwrap_or(0);
            let Some(bytes) = piece.get(..count).filter(|it| !it.is_empty()) else {
                break;
            };
            passed.down.fetch_add(count as u64, Ordering::Relaxed);
            let out = match &mut scrub {
                Some(scrub) => scrub.push(bytes),
                None => bytes.to_vec(),
            };
            if to_client.write_all(&out).await.is_err() || to_client.flush().await.is_err() {
                break;
            }
        }
    };
    let outcome = tokio::select! {
        () = up => "101",
        () = down => "101",
        outcome = watched(&passed, || may()) => outcome,
    };
    open.settle(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_takes_the_place_of_those_of_its_name() {
        for (query, expected) in [
            (None, "key=a%20b"),
            (Some(""), "key=a%20b"),
            (Some("key=own&a=1&key"), "a=1&key=a%20b"),
            (Some("keys=1"), "keys=1&key=a%20b"),
        ] {
            assert_eq!(with_field(query, "key", b"a b"), expected);
        }
    }
}
