//! `up`: a server in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use skep_server::Started;

use crate::failure::Result;
use crate::serve;
use crate::session::{KEY_FILE, Session};

/// The levels of `-v`: our own crates tell more, what they stand on does not.
const DEBUG: &str = "info,skep_server=debug,skep_ingress=debug,skep_runtime=debug,skep_store=debug";

/// Flags of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Accept unencrypted connections from other machines
    #[arg(long)]
    listen_plaintext: bool,
    /// The server's certificate chain, as a PEM file
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as a PEM file
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// A PostgreSQL database, which several servers may share; one with a password is better
    /// given in SKEP_STORE_URL or SKEP_STORE_URL_FILE
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Human on a terminal, JSON otherwise
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

pub(crate) fn up(session: &Session, args: &UpArgs) -> Result {
    let mut flags = Vec::new();
    let path = |path: &PathBuf| path.display().to_string();
    if let Some(address) = args.listen {
        flags.push(("listen", address.to_string()));
    }
    if args.listen_plaintext {
        flags.push(("listen_plaintext", "true".to_owned()));
    }
    if let Some(file) = &args.tls_cert {
        flags.push(("tls.cert", path(file)));
    }
    if let Some(file) = &args.tls_key {
        flags.push(("tls.key", path(file)));
    }
    if let Some(url) = &args.store {
        flags.push(("store.url", url.clone()));
    }
    if let Some(format) = args.log_format {
        let word = match format {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        };
        flags.push(("log.format", word.to_owned()));
    }
    match session.global.verbose {
        0 => {}
        1 => flags.push(("log.level", DEBUG.to_owned())),
        _ => flags.push(("log.level", "debug".to_owned())),
    }
    let settings = session.config(flags)?.into_settings();
    let output = session.output.clone();
    serve::serve(settings, move |started| {
        if output.is_terminal() {
            // The server is up, whether somebody reads this or not.
            let _ = output.say(&banner(started));
        }
    })
}

fn banner(started: &Started) -> String {
    let data = started.data.display();
    let key = match &started.first_key {
        Some(key) => format!("{key}  (shown this once; kept in {data}/{KEY_FILE})"),
        None => format!("in {data}/{KEY_FILE}"),
    };
    format!(
        "\n  Skep {version} listens at {url}\n\n  data     {data}\n  key      {key}\n  \
         try      skep deploy NAME --command \"COMMAND\"\n  stop     Ctrl-C\n",
        version = env!("CARGO_PKG_VERSION"),
        url = started.url,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_shown_the_first_time_only() {
        let mut started = Started {
            url: "http://127.0.0.1:7537".into(),
            first_key: Some("skep_secret".into()),
            data: "/data".into(),
        };
        assert!(banner(&started).contains("skep_secret"));
        started.first_key = None;
        assert!(banner(&started).contains("key      in /data/admin.key"));
    }
}
