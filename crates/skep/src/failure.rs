//! How a verb fails: an exit code, what happened and the next thing to do.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::json;
use skep_api::Problem;
use skep_client::ClientError;
use skep_core::PublicError;
use skep_core::config::ConfigError;

use crate::table::clean_lines;

/// The exit codes, a part of the CLI's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok = 0,
    /// It did not work.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Somebody said no.
    Cancelled = 3,
    /// The key is missing, wrong or not allowed to.
    Auth = 4,
    /// What was watched failed: a call, a deployed agent.
    Watched = 5,
    /// It took too long.
    Timeout = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    const fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::Cancelled => "cancelled",
            Self::Auth => "auth",
            Self::Watched => "watched-failed",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Nothing is printed when it is empty.
    pub(crate) detail: String,
    hint: Option<String>,
    problem: Option<Box<Problem>>,
    /// The status of a program that was run for the user, instead of ours.
    status: Option<u8>,
}

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(exit: Exit, detail: impl Into<String>) -> Self {
        Self {
            exit,
            detail: detail.into(),
            hint: None,
            problem: None,
            status: None,
        }
    }

    pub(crate) fn plain(detail: impl Into<String>) -> Self {
        Self::new(Exit::Failure, detail)
    }

    pub(crate) fn usage(detail: impl Into<String>) -> Self {
        Self::new(Exit::Usage, detail)
    }

    /// Ends without a word, as a program did that was run for the user.
    pub(crate) fn passed(status: i32) -> Self {
        let mut failure = Self::quiet(Exit::Failure);
        failure.status = Some(u8::try_from(status).unwrap_or(u8::MAX));
        failure
    }

    /// What the process exits with.
    pub(crate) fn status(&self) -> ExitCode {
        match self.status {
            Some(status) => status.into(),
            None => self.exit.into(),
        }
    }

    /// Ends without a word.
    pub(crate) fn quiet(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From an error that may be shown.
    pub(crate) fn public(error: &dyn PublicError) -> Self {
        Self::plain(error.detail()).hint(error.hint())
    }

    /// What happened, and what to do about it, in a line.
    pub(crate) fn told(&self) -> String {
        let first = self.detail.lines().next().unwrap_or_default();
        let first = first.trim_end_matches('.');
        match &self.hint {
            Some(hint) => format!("{first} ({hint})"),
            None => first.to_owned(),
        }
    }

    /// What goes to standard error.
    pub(crate) fn render(&self, json: bool, verbose: bool) -> String {
        if self.detail.is_empty() {
            return String::new();
        }
        if json {
            let document = match &self.problem {
                Some(problem) => skep_api::to_json(problem.as_ref()),
                None => json!({
                    "code": self.exit.code(),
                    "detail": self.detail,
                    "hint": self.hint,
                })
                .to_string(),
            };
            return format!("{document}\n");
        }
        let mut text = format!("error: {}\n", clean_lines(&self.detail));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {}\n", clean_lines(hint)));
        }
        if let (true, Some(problem)) = (verbose, &self.problem) {
            text.push_str(&format!("  code: {}\n", problem.code));
            text.push_str(&format!("  request: {}\n", problem.request_id));
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// What happened and what was at the bottom of it; the layers between say nothing more.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let detail = with_cause(&error);
        match error {
            ClientError::Problem { problem, .. } => {
                let exit = match (problem.status, problem.code.as_str()) {
                    (401 | 403, _) => Exit::Auth,
                    (_, "call-dead" | "call-cancelled" | "call-expired" | "agent-crash-loop") => {
                        Exit::Watched
                    }
                    _ => Exit::Failure,
                };
                let mut failure = Self::new(exit, detail).hint(problem.hint.clone());
                failure.problem = Some(problem);
                failure
            }
            ClientError::Unreachable { url, .. } => {
                Self::plain(detail).hint(match url.starts_with("https:") {
                    true => "Name another with --server, or what to trust with --ca-file.",
                    false => "Start a server with `skep up`, or name another with --server.",
                })
            }
            ClientError::Interrupted { .. } => Self::plain(detail)
                .hint("Accepted calls go on without you: find them with `skep calls list`."),
            ClientError::Unresumable { call, .. } => Self::plain(detail).hint(format!(
                "`skep calls attach {call}` prints its whole answer."
            )),
            ClientError::Timeout { .. } => {
                Self::new(Exit::Timeout, detail).hint("See how the server is with `skep health`.")
            }
            ClientError::Protocol { .. } => Self::plain(detail)
                .hint("Check that --server is the address of a Skep server of this version."),
            ClientError::Request(_) | ClientError::File { .. } => Self::usage(detail),
            ClientError::Certificates { .. } => {
                Self::plain(detail).hint("Name a PEM file of certificates with --ca-file.")
            }
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::public(&error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::plain(format!("{error:#}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Who reads us has seen enough.
            io::ErrorKind::BrokenPipe => Self::quiet(Exit::Ok),
            _ => Self::plain(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, code: &str) -> Failure {
        let problem = Problem {
            type_uri: format!("/docs/errors/{code}"),
            title: "t".into(),
            status,
            detail: "no agent is called `helo`".into(),
            code: code.into(),
            request_id: "req_1".into(),
            hint: "Did you mean `hello`?".into(),
        };
        ClientError::Problem {
            problem: Box::new(problem),
            retry_after: None,
            call: None,
        }
        .into()
    }

    #[test]
    fn a_refusal_is_told_with_its_hint() {
        let failure = problem(404, "agent-not-found");
        assert_eq!(failure.exit, Exit::Failure);
        assert_eq!(
            failure.render(false, true),
            "error: no agent is called `helo`\n  hint: Did you mean `hello`?\n  \
             code: agent-not-found\n  request: req_1\n"
        );
        let json: Problem = serde_json::from_str(&failure.render(true, false)).unwrap();
        assert_eq!(json.request_id, "req_1");
    }

    #[test]
    fn codes_tell_what_kind_of_failure_it_is() {
        assert_eq!(problem(401, "unauthorized").exit, Exit::Auth);
        assert_eq!(problem(502, "call-dead").exit, Exit::Watched);
        let pipe = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(
            (pipe.exit, pipe.render(false, true).as_str()),
            (Exit::Ok, "")
        );
    }
}
