//! Asking an instance whether it is well: one fresh connection, one GET, and of the body only
//! whether it says that the agent works (`{"status": "HealthyBusy"}`, as AgentCore agents do).

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use skep_core::units::format_duration;
use tokio::net::TcpStream;

use crate::driver::Door;
use crate::supervisor::{Miss, MissKind};

/// Where agents usually answer.
const USUAL_PATHS: [&str; 3] = ["/ping", "/readiness", "/health"];

/// Of a longer body nothing is read out.
const MOST_BODY: usize = 4 << 10;

/// How an instance is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is not known yet whether it answers at a usual path.
    Find,
    /// At this path.
    Path(String),
    /// It has none: the open port is all that can be seen.
    Port,
}

/// An instance that is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Well {
    /// How to ask from now on.
    pub(crate) check: Check,
    /// Whether it says that it works, also when no call runs.
    pub(crate) busy: bool,
}

impl From<Check> for Well {
    fn from(check: Check) -> Self {
        Self { check, busy: false }
    }
}

impl Check {
    /// What an instance that is well answered, in words.
    pub(crate) fn answered(&self) -> String {
        match self {
            Self::Path(path) => format!("GET {path} answered well"),
            Self::Find | Self::Port => "its port is open".to_owned(),
        }
    }
}

/// The part of a health document that is looked at.
#[derive(serde::Deserialize)]
struct Health {
    status: String,
}

/// What was heard.
enum Answer {
    /// A status, and whether the body says that the agent works.
    Status(StatusCode, bool),
    /// The port is open, but what came was no HTTP, or nothing before the end.
    Odd,
}

/// Asks once. Tells how to ask from now on.
pub(crate) async fn probe(door: &Door, check: Check, timeout: Duration) -> Result<Well, Miss> {
    tokio::time::timeout(timeout, look(door, check))
        .await
        .unwrap_or_else(|_| {
            Err(Miss {
                kind: MissKind::Silent,
                reason: format!("no answer within {}", format_duration(timeout)),
            })
        })
}

async fn look(door: &Door, check: Check) -> Result<Well, Miss> {
    match check {
        Check::Port => connect(door).await.map(|_| Check::Port.into()),
        Check::Path(path) => {
            let answer = ask(door, &path).await?;
            is_well(&path, &answer).ok_or_else(|| unwell(&path, &answer))
        }
        Check::Find => find(door).await,
    }
}

async fn find(door: &Door) -> Result<Well, Miss> {
    for path in USUAL_PATHS {
        match ask(door, path).await? {
            // Whatever listens there speaks something else.
            Answer::Odd => return Ok(Check::Port.into()),
            // It has such a path, and says that it is not ready yet.
            answer @ Answer::Status(StatusCode::SERVICE_UNAVAILABLE, _) => {
                return Err(unwell(path, &answer));
            }
            answer => {
                if let Some(well) = is_well(path, &answer) {
                    return Ok(well);
                }
            }
        }
    }
    Ok(Check::Port.into())
}

fn is_well(path: &str, answer: &Answer) -> Option<Well> {
    match answer {
        Answer::Status(status, busy) if status.is_success() || status.is_redirection() => {
            Some(Well {
                check: Check::Path(path.to_owned()),
                busy: *busy,
            })
        }
        _ => None,
    }
}

fn unwell(path: &str, answer: &Answer) -> Miss {
    let reason = match answer {
        Answer::Status(status, _) => format!("GET {path} answered {}", status.as_u16()),
        Answer::Odd => format!("GET {path} had no HTTP answer"),
    };
    Miss {
        kind: MissKind::Unwell,
        reason,
    }
}

async fn connect(door: &Door) -> Result<TcpStream, Miss> {
    let refused = || Miss {
        kind: MissKind::Refused,
        reason: format!("nothing listens on port {}", door.address().port()),
    };
    match door.connect().await {
        // A connection to a port of the ephemeral range may meet itself.
        Ok(stream) if stream.local_addr().ok() == Some(door.address()) => Err(refused()),
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(refused()),
        Err(error) => Err(Miss {
            kind: MissKind::Silent,
            reason: format!("no connection to port {}: {error}", door.address().port()),
        }),
    }
}

async fn ask(door: &Door, path: &str) -> Result<Answer, Miss> {
    let stream = connect(door).await?;
    let request = Request::get(path)
        .header(HOST, door.address().to_string())
        .header(USER_AGENT, "skep-probe")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Miss {
            kind: MissKind::Unwell,
            reason: format!("GET {path} cannot be sent: {error}"),
        })?;
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
        return Ok(Answer::Odd);
    };
    let mut connection = pin!(connection);
    let mut asking = pin!(async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BODY).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes);
        let health = body.map(|body| serde_json::from_slice::<Health>(&body));
        let busy = matches!(health, Ok(Ok(health)) if health.status == "HealthyBusy");
        Ok::<_, hyper::Error>(Answer::Status(status, busy))
    });
    let mut open = true;
    let answer = loop {
        tokio::select! {
            answer = &mut asking => break answer,
            // The answer tells what came of it.
            _ = &mut connection, if open => open = false,
        }
    };
    Ok(answer.unwrap_or(Answer::Odd))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers `path` with `status`, everything else with 404.
    async fn agent(path: &'static str, status: u16) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let there = head.starts_with(&format!("GET {path} "));
                let status = if there { status } else { 404 };
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn check(address: SocketAddr, check: Check) -> Result<Check, MissKind> {
        probe(&Door::at(address), check, Duration::from_secs(5))
            .await
            .map(|well| well.check)
            .map_err(|miss| miss.kind)
    }

    #[tokio::test]
    async fn finds_the_usual_paths_or_takes_the_port() {
        let health = agent("/health", 204).await;
        assert_eq!(
            check(health, Check::Find).await,
            Ok(Check::Path("/health".to_owned()))
        );
        let none = agent("/none", 200).await;
        assert_eq!(check(none, Check::Find).await, Ok(Check::Port));
        let not_yet = agent("/readiness", 503).await;
        assert_eq!(check(not_yet, Check::Find).await, Err(MissKind::Unwell));
    }

    #[tokio::test]
    async fn a_given_path_must_be_well() {
        let moved = agent("/up", 302).await;
        let path = Check::Path("/up".to_owned());
        assert_eq!(check(moved, path.clone()).await, Ok(path.clone()));
        let wrong = agent("/up", 500).await;
        assert_eq!(check(wrong, path).await, Err(MissKind::Unwell));
    }

    #[tokio::test]
    async fn tells_closed_ports_from_silent_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = probe(&Door::at(address), Check::Find, Duration::from_millis(50)).await;
        assert_eq!(silent.map_err(|miss| miss.kind), Err(MissKind::Silent));
        drop(listener);
        assert_eq!(check(address, Check::Find).await, Err(MissKind::Refused));
    }
}
