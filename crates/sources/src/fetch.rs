//! A file at an address, which anybody may read: https, or http of this machine. No credential is sent, so that it
//! may be said to be elsewhere; from https that leads to https only.

use ::http::Uri;
use bytes::Bytes;

use crate::SourceError;
use crate::http::{Got, Http};

/// How often it may be elsewhere.
const MOST_STEPS: usize = 5;

fn wrong(address: &str, why: &'static str) -> SourceError {
    SourceError::Address(address.to_owned(), why)
}

/// The address as its server, and the path with its query.
fn parts(address: &str) -> Result<(String, String, bool), SourceError> {
    let uri: Uri = address
        .parse()
        .map_err(|_| wrong(address, "it is no URL such as https://host/file"))?;
    let (Some(scheme), Some(server)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong(address, "it is no URL such as https://host/file"));
    };
    if server.as_str().contains('@') {
        // A password in a URL would be shown wherever the URL is.
        return Err(wrong("…@…", "a name or a password stands in it"));
    }
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    Ok((
        format!("{scheme}://{server}"),
        path.to_owned(),
        scheme == "https",
    ))
}

/// Where an answer sends: a whole address, or a path on the same server.
fn next(server: &str, to: &str) -> Result<String, SourceError> {
    match to {
        _ if to.contains("://") => Ok(to.to_owned()),
        _ if to.starts_with('/') && !to.starts_with("//") => Ok(format!("{server}{to}")),
        _ => Err(wrong(
            to,
            "it is sent there from elsewhere, and that is no whole URL",
        )),
    }
}

/// Gets a file of at most so many bytes. Certificates are checked against the system's, or against those of a file.
///
/// # Errors
/// [`SourceError`].
pub async fn fetch(address: &str, most: usize, ca: Option<&str>) -> Result<Bytes, SourceError> {
    let mut address = address.to_owned();
    let mut was_safe = false;
    for _ in 0..=MOST_STEPS {
        let (server, path, is_safe) = parts(&address)?;
        if was_safe && !is_safe {
            return Err(SourceError::Unsafe(server));
        }
        let http = Http::new(&server, ca, None).map_err(|error| match error {
            SourceError::Open(base) => SourceError::Unsafe(base),
            other => other,
        })?;
        match http.get(&path, most).await? {
            Got::Here(bytes) => return Ok(bytes),
            Got::Elsewhere(to) => address = next(&server, &to)?,
        }
        was_safe = is_safe;
    }
    Err(wrong(&address, "it is sent on and on, and never there"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that says what it is told to, by path, and what it was asked.
    async fn server(says: &[(&str, &str)]) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let own = |(path, answer): &(&str, &str)| ((*path).to_owned(), (*answer).to_owned());
        let says: Vec<_> = says.iter().map(own).collect();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = Vec::new();
                while !text.ends_with(b"\r\n\r\n") {
                    text.push(stream.read_u8().await.unwrap());
                }
                let text = String::from_utf8(text).unwrap();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = says.iter().find(|(it, _)| *it == path);
                let answer =
                    answer.map_or("404 Not Found\r\ncontent-length: 0\r\n\r\n", |it| &it.1);
                heard.lock().unwrap().push(text);
                let answer = format!("HTTP/1.1 {answer}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, all)
    }

    const GOOD: &str = "200 OK\r\ncontent-length: 5\r\n\r\nhello";

    #[tokio::test]
    async fn a_file_is_fetched_within_bounds_and_without_credentials() {
        let says = [
            ("/a?b=c", GOOD),
            ("/short", "200 OK\r\ncontent-length: 9\r\n\r\nhello"),
        ];
        let (url, heard) = server(&says).await;
        let get = async |path: &str, most| fetch(&format!("{url}{path}"), most, None).await;
        assert_eq!(get("/a?b=c", 5).await.unwrap(), "hello");
        assert!(get("/a?b=c", 4).await.is_err());
        assert!(get("/short", 9).await.is_err());
        let missing = get("/none", 5).await.unwrap_err();
        assert!(matches!(missing, SourceError::Refused { status: 404, .. }));
        let heard = heard.lock().unwrap().join("\n").to_lowercase();
        assert!(!heard.contains("authorization") && !heard.contains("cookie"));
    }

    #[tokio::test]
    async fn it_may_be_elsewhere_a_few_times() {
        let (other, heard) = server(&[("/x", GOOD)]).await;
        let to = |to: &str| format!("302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let (there, loops) = (to(&format!("{other}/x")), to("/loop"));
        let (path, open, odd) = (to("/there"), to("http://example.com/x"), to("x"));
        let says = [
            ("/path", &path[..]),
            ("/there", &there),
            ("/loop", &loops),
            ("/open", &open),
            ("/odd", &odd),
        ];
        let (url, _) = server(&says).await;
        let get = async |path: &str| fetch(&format!("{url}{path}"), 5, None).await;
        assert_eq!(get("/path").await.unwrap(), "hello");
        assert_eq!(heard.lock().unwrap().len(), 1);
        for (path, expected) in [
            ("/loop", "on and on"),
            ("/open", "is not https"),
            ("/odd", "no whole URL"),
        ] {
            let told = get(path).await.unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_not_asked() {
        for (address, expected) in [
            ("http://example.com/x", "is not https"),
            ("ftp://example.com/x", "no address"),
            ("/x", "no URL"),
            (
                "https://ada:canary@example.com/x",
                "a password stands in it",
            ),
        ] {
            let told = fetch(address, 5, None).await.unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
