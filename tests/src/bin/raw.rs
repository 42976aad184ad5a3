//! An agent that speaks HTTP byte for byte: it writes down every request as it heard it, and says
//! whatever the body of a request tells it to, be it HTTP or not.
//!
//! It keeps `heard.log` in `$HOME`: a JSON object a line, with the connection's number, the head
//! and the body, but for what is to be said. What its health is asked with is not written down.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

/// In what is to be said: wait for the file `go` first.
const PAUSE: u8 = 0;
/// How often the file is looked for, and the pause before the same is said again.
const LOOK: Duration = Duration::from_millis(2);

/// One line is written at a time.
static LEDGER: Mutex<()> = Mutex::new(());

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    for (number, stream) in listener.incoming().enumerate() {
        let stream = stream?;
        // What is said late must be there when it was said, and not wait for a confirmation.
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            // The other side may hang up whenever it likes.
            let _ = serve(number, &stream);
        });
    }
    Ok(())
}

fn home(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(name)
}

/// A request as it came.
struct Heard {
    head: String,
    body: Vec<u8>,
}

fn serve(number: usize, stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(heard) = hear(&mut reader)? {
        let target = heard.head.split(' ').nth(1).unwrap_or_default().to_owned();
        if target == "/ping" {
            answer(stream, "pong")?;
            continue;
        }
        write_down(number, &heard)?;
        match target.as_str() {
            "/say" => say(stream, &heard.body)?,
            // And hangs up.
            "/say?end" => {
                say(stream, &heard.body)?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            // And again, and again.
            "/say?again" => loop {
                say(stream, &heard.body)?;
                std::thread::park_timeout(LOOK);
            },
            // Agrees to another protocol, and says more than anybody reads.
            "/flood" => return flood(stream, &mut reader),
            _ => answer(stream, &target)?,
        }
    }
    Ok(())
}

/// The next request, without any tolerance of its own: CRLF, and chunks or a length.
fn hear(reader: &mut impl BufRead) -> io::Result<Option<Heard>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .next()
    };
    let mut body = Vec::new();
    if field("transfer-encoding").is_some() {
        chunks(reader, &mut body)?;
    } else if let Some(length) = field("content-length").and_then(|it| it.parse().ok()) {
        reader.take(length).read_to_end(&mut body)?;
    }
    Ok(Some(Heard { head, body }))
}

/// The chunks with their trailers behind them.
fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        reader.take(size).read_to_end(body)?;
        line.clear();
        while reader.read_line(&mut line)? > 2 && size == 0 {}
        if size == 0 {
            body.extend_from_slice(line.trim_end().as_bytes());
            return Ok(());
        }
    }
}

fn write_down(number: usize, heard: &Heard) -> io::Result<()> {
    let _one = LEDGER.lock();
    // What is to be said is known to who wrote it.
    let is_order = heard.head.contains(" /say");
    let body = if is_order {
        "".into()
    } else {
        String::from_utf8_lossy(&heard.body)
    };
    let line = json!({ "connection": number, "head": heard.head, "body": body });
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(home("heard.log"))?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn answer(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    let length = text.len();
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}").as_bytes())
}

fn flood(mut stream: &TcpStream, reader: &mut (impl Read + Send)) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: flood\r\nconnection: upgrade\r\n\r\n",
    )?;
    std::thread::scope(|scope| {
        // What is said to it is heard all the same.
        scope.spawn(|| io::copy(reader, &mut io::sink()));
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
        stream.shutdown(std::net::Shutdown::Both)
    })
}

/// Says the parts, and after each pause leaves the file `said`.
fn say(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    for (number, part) in bytes.split(|byte| *byte == PAUSE).enumerate() {
        if number > 0 {
            while !home("go").exists() {
                std::thread::park_timeout(LOOK);
            }
        }
        stream.write_all(part)?;
        if number > 0 {
            std::fs::write(home("said"), "")?;
        }
    }
    Ok(())
}
