//! The smallest program that can host agents under the process driver: it leads to the shim when
//! it is called with `__shim`, and with `serve` it is a small agent itself. The crate's tests use
//! it as both.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some("__shim") => skep_runtime::shim_main(arguments),
        Some("serve") => serve(),
        _ => ExitCode::from(2),
    }
}

/// Answers `/ping`, tells its environment at `/env` and dies at `/die`.
fn serve() -> ExitCode {
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse::<u16>().ok());
    let Some(Ok(listener)) = port.map(|port| TcpListener::bind(("0.0.0.0", port))) else {
        return ExitCode::FAILURE;
    };
    for mut stream in listener.incoming().flatten() {
        let mut head = [0; 4096];
        let length = stream.read(&mut head).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..length]);
        let path = head.split(' ').nth(1).unwrap_or("/");
        if path == "/die" {
            return ExitCode::from(9);
        }
        let body = match path {
            "/env" => std::env::vars()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect(),
            _ => path.to_owned(),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    ExitCode::SUCCESS
}
