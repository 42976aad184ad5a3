//! An agent in Rust, with the standard library only. Skep gives it `$PORT`; it listens there and
//! answers HTTP. A real one would use a web framework; this one shows that nothing is needed.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};

/// The longest head of a request, and the longest body.
const MOST_HEAD_BYTES: u64 = 64 << 10;
const MOST_BODY_BYTES: usize = 1 << 20;

struct Request {
    method: String,
    path: String,
    call: String,
    body: String,
}

fn main() -> Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("listening on port {port}");
    for connection in listener.incoming() {
        let connection = connection?;
        std::thread::spawn(move || {
            // A client that goes away is no news.
            let _ = serve(connection);
        });
    }
    Ok(())
}

/// Answers the requests of a connection, one after the other.
fn serve(mut connection: TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    while let Some(request) = read(&mut reader)? {
        let (status, body) = answer(&request);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// What the agent does.
fn answer(request: &Request) -> (&'static str, String) {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/ping") => ("200 OK", "{\"status\":\"Healthy\"}\n".to_owned()),
        ("POST", "/count") => {
            println!("counting for call {}", request.call);
            let (words, lines) = (request.body.split_whitespace().count(), request.body.lines().count());
            let bytes = request.body.len();
            ("200 OK", format!("{{\"words\":{words},\"lines\":{lines},\"bytes\":{bytes}}}\n"))
        }
        _ => ("404 Not Found", "{\"error\":\"try GET /ping or POST /count\"}\n".to_owned()),
    }
}

/// The next request; `None` when the client has closed the connection.
fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut head = reader.by_ref().take(MOST_HEAD_BYTES);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().ok_or_else(|| wrong("no method"))?.to_owned();
    let target = words.next().ok_or_else(|| wrong("no path"))?;
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (mut length, mut call) = (0, String::new());
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(wrong("the head has no end"));
        }
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| wrong("a wrong length"))?,
            "skep-call-id" => call = value.trim().to_owned(),
            _ => {}
        }
    }
    if length > MOST_BODY_BYTES {
        return Err(wrong("the body is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Request { method, path, call, body }))
}
