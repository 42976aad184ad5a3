//! `call`: one request to an agent, written and read as `curl` would.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use skep_client::{Answer, CallRequest, ClientError, Patience, RequestBody};
use skep_core::units;

use super::wait::duration;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// The largest body that is held in memory, because it can be read but once; as much as a server
/// takes unless `limits.body` says otherwise.
const MOST_PIPED_BYTES: u64 = 64 << 20;

/// Flags of `call`.
#[derive(Debug, Args)]
#[command(after_help = "\
A lost connection and a restart of the server are waited out: for --timeout,
else for a minute without progress. Nothing is sent as a second call, and
nothing is printed twice.

Examples:
  skep call hello /greet -d '{\"name\":\"you\"}'
  skep call hello /report -d @data.json --async
  skep call hello /ping -i")]
pub(crate) struct CallArgs {
    /// The agent
    agent: String,
    /// Path and query, as the agent sees them
    #[arg(default_value = "/")]
    path: String,
    /// The HTTP method [default: POST with a body, else GET]
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<String>,
    /// The body; `@FILE` sends a file, `-` standard input (up to 64 MiB)
    #[arg(short = 'd', long, value_name = "BODY", allow_hyphen_values = true)]
    body: Option<String>,
    /// A header, as `Name: value`
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,
    /// Return as soon as the call is durable, and print its id
    #[arg(long = "async")]
    asynchronous: bool,
    /// The same key gets the same answer, however often it is sent [default: a
    /// random one for each call]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long to wait for the answer; the call goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print status and headers too
    #[arg(short, long)]
    include: bool,
}

pub(crate) async fn call(session: &Session, args: CallArgs) -> Result {
    let mut request = request(&args)?;
    let client = session.client()?;
    let patience = patience(session, args.timeout);
    if args.asynchronous || args.timeout.is_some() {
        // The call is made durable first: so its id is known when the patience ends.
        request = request.respond_async();
    }
    let mut id = None;
    let work = async {
        let answer = client.call_through(request, &patience).await?;
        id = answer.call_id().map(str::to_owned);
        let answer = match &id {
            _ if args.asynchronous => return tell(session, answer, args.include).await,
            Some(id) if answer.is_accepted() => {
                client.response_through(id, true, None, &patience).await?
            }
            _ => answer,
        };
        print(session, answer, args.include).await
    };
    let Some(timeout) = args.timeout else {
        return work.await;
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err(late(timeout, id.as_deref())),
    }
}

/// Tells of a call that is durable and will be answered later.
async fn tell(session: &Session, answer: Answer, include: bool) -> Result {
    let output = &session.output;
    if !answer.is_accepted() {
        output.note("The call was not journaled: this is the agent's own answer.");
        return print(session, answer, include).await;
    }
    let call = answer.accepted().await?;
    let said = format!("{} is {}.", call.id, call.state.as_str());
    output.done(&call, &call.id, &said)?;
    output.note(&format!(
        "  hint: `skep calls attach {}` waits for its answer.",
        call.id
    ));
    Ok(())
}

/// Tries again as long as there is time, else for a while; notes the first try that failed.
pub(crate) fn patience(session: &Session, timeout: Option<Duration>) -> Patience {
    let output = session.output.clone();
    timeout
        .map_or_else(Patience::default, Patience::new)
        .on_loss(move |error| {
            output.note(&match error {
                ClientError::Problem { problem, .. } => {
                    format!("{}, trying again …", problem.detail)
                }
                _ => "connection lost, trying again …".to_owned(),
            });
        })
}

/// The failure of a wait that took too long.
pub(crate) fn late(timeout: Duration, id: Option<&str>) -> Failure {
    let after = units::format_duration(timeout);
    match id {
        Some(id) => Failure::new(Exit::Timeout, format!("{id} has no answer after {after}")).hint(
            format!("It goes on: `skep calls attach {id}` waits for its answer."),
        ),
        None => Failure::new(Exit::Timeout, format!("no answer after {after}"))
            .hint("What was accepted goes on: find it with `skep calls list`."),
    }
}

/// Prints an answer as it comes; one of 400 or more is a failure.
pub(crate) async fn print(session: &Session, mut answer: Answer, include: bool) -> Result {
    let output = &session.output;
    if output.verbose {
        let id = answer
            .call_id()
            .unwrap_or("none, it was not journaled")
            .to_owned();
        let request = answer.request_id().unwrap_or("none").to_owned();
        output.note(&format!("call: {id}\nrequest: {request}"));
    }
    let status = answer.status();
    if include {
        let mut head = format!("HTTP/1.1 {status}\n").into_bytes();
        for (name, value) in answer.headers() {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.push(b'\n');
        }
        head.push(b'\n');
        output.raw(&head)?;
    }
    let id = answer.call_id().map(str::to_owned);
    loop {
        match answer.chunk().await {
            Ok(Some(piece)) => output.raw(&piece)?,
            Ok(None) => break,
            Err(error) => {
                let gone = matches!(error, ClientError::Problem { .. });
                let failure = Failure::from(error);
                return Err(match id {
                    // Skep's own word on how it ended has a better one.
                    Some(id) if !gone => {
                        failure.hint(format!("`skep calls attach {id}` prints its whole answer."))
                    }
                    _ => failure,
                });
            }
        }
    }
    if status.as_u16() < 400 {
        return Ok(());
    }
    let failure = Failure::plain(format!("the agent answered {status}"));
    Err(match id {
        Some(id) => failure.hint(format!("Look at it with `skep calls show {id}`.")),
        None => failure,
    })
}

fn request(args: &CallArgs) -> Result<CallRequest> {
    let body = args.body.as_deref().map(body).transpose()?;
    let (method, headers) = head(args.request.as_deref(), &args.header, body.as_ref())?;
    let mut request = CallRequest::new(method, &args.agent, &args.path);
    request.headers = headers;
    request.body = body.unwrap_or_default();
    match &args.idempotency_key {
        Some(key) => Ok(request.idempotency_key(key)?),
        None => Ok(request),
    }
}

/// Method and headers as the flags say them; a body makes it a POST of its kind.
pub(super) fn head(
    method: Option<&str>,
    lines: &[String],
    body: Option<&RequestBody>,
) -> Result<(Method, HeaderMap)> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = header(line)?;
        headers.append(name, value);
    }
    let method = match (method, body) {
        (Some(word), _) => Method::from_bytes(word.to_ascii_uppercase().as_bytes())
            .map_err(|_| Failure::usage(format!("`{word}` is not an HTTP method")))?,
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    if let Some(body) = body
        && !headers.contains_key(CONTENT_TYPE)
    {
        let kind = match is_json(body) {
            true => "application/json",
            false => "text/plain; charset=utf-8",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok((method, headers))
}

/// A regular file stays on disk, since it can be read again; anything else is held in memory.
pub(super) fn body(text: &str) -> Result<RequestBody> {
    match (text, text.strip_prefix('@')) {
        ("-" | "@-", _) => piped(std::io::stdin().lock(), "standard input"),
        (_, Some(path)) => {
            let wrong = |error| Failure::usage(format!("{path} cannot be read: {error}"));
            let file = File::open(path).map_err(wrong)?;
            match file.metadata().map_err(wrong)?.is_file() {
                true => Ok(RequestBody::File(PathBuf::from(path))),
                false => piped(file, path),
            }
        }
        _ => Ok(text.to_owned().into()),
    }
}

fn piped(from: impl Read, name: &str) -> Result<RequestBody> {
    let mut bytes = Vec::new();
    from.take(MOST_PIPED_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("{name} cannot be read: {error}")))?;
    match bytes.len() as u64 > MOST_PIPED_BYTES {
        false => Ok(bytes.into()),
        true => {
            let most = units::format_bytes(MOST_PIPED_BYTES);
            Err(Failure::usage(format!("{name} gives more than {most}"))
                .hint("Write it to a file and send that with `-d @FILE`; it has no such bound."))
        }
    }
}

fn is_json(body: &RequestBody) -> bool {
    type Any = serde::de::IgnoredAny;
    match body {
        RequestBody::Bytes(bytes) => serde_json::from_slice::<Any>(bytes).is_ok(),
        // One that cannot be read shows when it is sent.
        RequestBody::File(path) => File::open(path)
            .is_ok_and(|file| serde_json::from_reader::<_, Any>(BufReader::new(file)).is_ok()),
    }
}

pub(super) fn header(line: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = || {
        Failure::usage(format!(
            "`{line}` is not a header, such as `Accept: text/html`"
        ))
    };
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CallArgs,
    }

    fn made(words: &[&str]) -> Result<CallRequest> {
        request(&Line::parse_from([&["call", "hello"], words].concat()).args)
    }

    #[test]
    fn bodies_make_a_post_of_their_kind() {
        let kind =
            |request: &CallRequest| request.headers[CONTENT_TYPE].to_str().unwrap().to_owned();
        let get = made(&["/ping"]).unwrap();
        assert_eq!((get.method, get.headers.len()), (Method::GET, 0));
        let json = made(&["-d", "{\"a\":1}"]).unwrap();
        assert_eq!(
            (&json.method, kind(&json).as_str()),
            (&Method::POST, "application/json")
        );
        let text = made(&["-d", "-x", "-X", "put"]).unwrap();
        assert_eq!(kind(&text), "text/plain; charset=utf-8");
        assert_eq!((text.method.as_str(), text.body), ("PUT", "-x".into()));
        let own = made(&[
            "-d",
            "{}",
            "-H",
            "content-type: x/y",
            "-H",
            "A:b",
            "-H",
            "A: c",
        ])
        .unwrap();
        assert_eq!(
            (kind(&own).as_str(), own.headers.get_all("a").iter().count()),
            ("x/y", 2)
        );
    }

    #[test]
    fn files_are_bodies_and_wrong_ones_are_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let at = format!("@{}", file.path().display());
        for (text, kind) in [
            ("[1]", "application/json"),
            ("[1", "text/plain; charset=utf-8"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let request = made(&["-d", &at]).unwrap();
            assert_eq!(request.body, RequestBody::File(file.path().to_owned()));
            assert_eq!(request.headers[CONTENT_TYPE], kind, "{text}");
        }
        assert_eq!(made(&["-d", "@/dev/null"]).unwrap().body, "".into());
        for words in [
            &["-d", "@/nowhere/at/all"][..],
            &["-d", "@/dev/zero"],
            &["-d", "@/"],
            &["-H", "x"],
            &["-X", "a b"],
        ] {
            assert_eq!(made(words).unwrap_err().exit, Exit::Usage, "{words:?}");
        }
        let key = made(&["--idempotency-key", "k"]).unwrap();
        assert_eq!(key.headers["idempotency-key"], "k");
    }
}
