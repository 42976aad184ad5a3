//! What of a request looks like a try: pure, and in one pass over its target. It says what it saw and changes
//! nothing; what an agent is sent are bytes of its own, and an odd one may be meant.
//!
//! Escapes are taken apart as often as they are nested, so `%252e` is as good as a dot. Text that people write
//! (line ends, quotes, angle brackets in a query) is no pattern.

/// Bytes of a path, and of a query, that are looked at.
const LOOKED: usize = 8 * 1024;
/// How often escapes are taken apart.
const NESTED: u8 = 3;
/// Bytes of a user agent that are looked at.
const AGENT: usize = 256;
/// Headers that no client of ours comes near.
const HEADERS: usize = 64;
/// Line ends of a query behind which a header is looked for.
const LINES: usize = 8;
/// Characters behind a line end that are looked at.
const LINE: usize = 20;

/// What somebody asks for who does not know what is here, as the beginning of a path.
const PROBES: [&str; 22] = [
    "/_ignition/",
    "/actuator/",
    "/autodiscover/",
    "/boaform/",
    "/cgi-bin/",
    "/console/login",
    "/etc/passwd",
    "/hnap1",
    "/jmx-console",
    "/manager/html",
    "/owa/",
    "/phpmyadmin",
    "/phpinfo",
    "/server-status",
    "/solr/admin",
    "/telescope/requests",
    "/vendor/phpunit",
    "/wp-admin",
    "/wp-content",
    "/wp-includes",
    "/wp-login",
    "/xmlrpc.php",
];

/// Files and folders that nobody serves on purpose, as a segment of a path.
const HIDDEN: [&str; 12] = [
    ".aws",
    ".ds_store",
    ".dockercfg",
    ".env",
    ".git",
    ".hg",
    ".htaccess",
    ".htpasswd",
    ".npmrc",
    ".ssh",
    ".svn",
    ".vscode",
];

/// Programs that look for holes and say so.
const SCANNERS: [&str; 15] = [
    "acunetix",
    "dirbuster",
    "feroxbuster",
    "ffuf",
    "gobuster",
    "masscan",
    "nessus",
    "nikto",
    "nmap",
    "nuclei",
    "openvas",
    "sqlmap",
    "wfuzz",
    "wpscan",
    "zgrab",
];

/// What stands behind a line end that is meant for a head.
const HEADS: [&str; 7] = [
    "content-length:",
    "content-type:",
    "host:",
    "http/1.",
    "location:",
    "set-cookie:",
    "transfer-encoding:",
];

/// Something that looks like a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// A way up (`..`), as it is or escaped.
    Traversal,
    /// A character that no text has.
    Control,
    /// A line end where it would end a header.
    Injection,
    /// UTF-8 that is longer than it has to be.
    Overlong,
    /// A host that is none, or more than one.
    Host,
    /// A request that could be read in two ways, or not at all.
    Framing,
    /// More headers than anybody has.
    Headers,
    /// A well-known path of something that is not here.
    Probe,
    /// A program that looks for holes. A hint only.
    Scanner,
}

impl Pattern {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Traversal,
        Self::Control,
        Self::Injection,
        Self::Overlong,
        Self::Host,
        Self::Framing,
        Self::Headers,
        Self::Probe,
        Self::Scanner,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traversal => "traversal",
            Self::Control => "control",
            Self::Injection => "injection",
            Self::Overlong => "overlong",
            Self::Host => "host",
            Self::Framing => "framing",
            Self::Headers => "headers",
            Self::Probe => "probe",
            Self::Scanner => "scanner",
        }
    }
}

/// The patterns of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patterns(u16);

impl Patterns {
    /// This one as well.
    pub const fn add(&mut self, pattern: Pattern) {
        self.0 |= 1 << pattern as u16;
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether there is nothing more than a hint.
    #[must_use]
    pub const fn is_hint(self) -> bool {
        self.0 & !(1 << Pattern::Scanner as u16) == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Pattern> {
        let all = Pattern::ALL.into_iter();
        all.filter(move |it| self.0 & (1 << *it as u16) != 0)
    }
}

impl FromIterator<Pattern> for Patterns {
    fn from_iter<T: IntoIterator<Item = Pattern>>(all: T) -> Self {
        let mut patterns = Self::default();
        all.into_iter().for_each(|it| patterns.add(it));
        patterns
    }
}

/// What is looked at of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// The path as it was sent; of a request to an agent the part that the agent sees.
    pub path: &'a str,
    /// The query as it was sent.
    pub query: Option<&'a str>,
    /// What it says of the host.
    pub host: Option<&'a [u8]>,
    /// The user agent.
    pub agent: Option<&'a [u8]>,
    /// The number of headers.
    pub headers: usize,
}

/// What looks like a try.
#[must_use]
pub fn look(head: &Head<'_>) -> Patterns {
    let mut found = Patterns::default();
    let path = head.path.as_bytes();
    look_at_path(first(path, LOOKED), &mut found);
    if is_probe(first(path, LOOKED)) {
        found.add(Pattern::Probe);
    }
    if let Some(query) = head.query {
        look_at_query(first(query.as_bytes(), LOOKED), &mut found);
    }
    if head.host.is_some_and(|host| !host.iter().all(of_host)) {
        found.add(Pattern::Host);
    }
    if head.headers > HEADERS {
        found.add(Pattern::Headers);
    }
    if head.agent.is_some_and(|it| is_scanner(first(it, AGENT))) {
        found.add(Pattern::Scanner);
    }
    found
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

const fn of_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

/// The bytes of a text without its escapes, each with how often it was escaped.
#[derive(Clone)]
struct Unescaped<'a> {
    bytes: &'a [u8],
}

impl Iterator for Unescaped<'_> {
    type Item = (u8, u8);

    fn next(&mut self) -> Option<(u8, u8)> {
        let (first, rest) = self.bytes.split_first()?;
        let (mut byte, mut depth) = (*first, 0);
        self.bytes = rest;
        while byte == b'%' && depth < NESTED {
            let [high, low, rest @ ..] = self.bytes else {
                break;
            };
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                break;
            };
            self.bytes = rest;
            byte = high << 4 | low;
            depth += 1;
        }
        Some((byte, depth))
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether two bytes begin a character that a shorter form has.
const fn is_overlong(first: u8, second: u8) -> bool {
    matches!(
        (first, second),
        (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f)
    )
}

fn look_at_path(path: &[u8], found: &mut Patterns) {
    let mut before = 0;
    // How many dots the segment has, while it has nothing else.
    let mut dots = Some(0_u8);
    for (byte, _) in (Unescaped { bytes: path }) {
        dots = match byte {
            b'.' => dots.map(|count| count.saturating_add(1)),
            b'/' | b'\\' | b';' => {
                if dots == Some(2) {
                    found.add(Pattern::Traversal);
                }
                (byte != b';').then_some(0)
            }
            b'\r' | b'\n' => {
                found.add(Pattern::Injection);
                None
            }
            0..=0x1f | 0x7f => {
                found.add(Pattern::Control);
                None
            }
            _ => None,
        };
        if is_overlong(before, byte) {
            found.add(Pattern::Overlong);
        }
        before = byte;
    }
    if dots == Some(2) {
        found.add(Pattern::Traversal);
    }
}

fn look_at_query(query: &[u8], found: &mut Patterns) {
    let mut all = Unescaped { bytes: query };
    let (mut before, mut lines) = (0, 0);
    // One way up may be meant; a second one behind it is not.
    let (mut dots, mut ups) = (Some(0_u8), 0_u8);
    while let Some((byte, depth)) = all.next() {
        match byte {
            b'.' => dots = dots.map(|count| count.saturating_add(1)),
            b'/' | b'\\' => {
                ups = match dots {
                    Some(2) => ups.saturating_add(1),
                    Some(0) => ups,
                    _ => 0,
                };
                dots = Some(0);
            }
            b'=' | b'&' => (dots, ups) = (Some(0), 0),
            _ => (dots, ups) = (None, 0),
        }
        if ups == 2 {
            found.add(Pattern::Traversal);
        }
        match (before, byte) {
            (_, 0) if depth == 1 => found.add(Pattern::Control),
            (b'\r', b'\n') if depth > 0 && lines < LINES => {
                lines += 1;
                if is_head(all.clone()) {
                    found.add(Pattern::Injection);
                }
            }
            _ if is_overlong(before, byte) => found.add(Pattern::Overlong),
            _ => {}
        }
        before = byte;
    }
}

/// Whether what follows a line end is a header, or another request.
fn is_head(rest: Unescaped<'_>) -> bool {
    let mut line = [0; LINE];
    let mut length = 0;
    for ((byte, _), slot) in rest.zip(&mut line) {
        *slot = byte.to_ascii_lowercase();
        length += 1;
    }
    let line = &line[..length];
    HEADS.iter().any(|head| line.starts_with(head.as_bytes()))
}

fn begins(text: &[u8], with: &str) -> bool {
    let start = text.get(..with.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

fn is_probe(path: &[u8]) -> bool {
    if PROBES.iter().any(|probe| begins(path, probe)) {
        return true;
    }
    let mut segments = path.split(|byte| *byte == b'/');
    segments.any(|segment| {
        let hidden = |name: &&'static str| {
            begins(segment, name) && matches!(segment.get(name.len()), None | Some(b'.'))
        };
        segment.first() == Some(&b'.') && HIDDEN.iter().any(hidden)
    })
}

fn is_scanner(agent: &[u8]) -> bool {
    let mut before = b' ';
    for (at, byte) in agent.iter().enumerate() {
        // Words begin where letters do.
        if !before.is_ascii_alphabetic()
            && byte.is_ascii_alphabetic()
            && SCANNERS.iter().any(|word| begins(&agent[at..], word))
        {
            return true;
        }
        before = *byte;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(path: &str, query: Option<&str>) -> Vec<&'static str> {
        let head = Head {
            path,
            query,
            ..Head::default()
        };
        look(&head).iter().map(Pattern::as_str).collect()
    }

    #[test]
    fn tries_are_seen_however_they_are_written() {
        for (path, found) in [
            ("/x/../y", "traversal"),
            ("/..", "traversal"),
            ("/x/..;/manager", "traversal"),
            ("/%2e%2e/etc", "traversal"),
            ("/%2E./etc", "traversal"),
            ("/%252e%252e%252fetc", "traversal"),
            ("/%25252e%25252e/etc", "traversal"),
            ("/..%5c..%5cwindows", "traversal"),
            ("/x%00.png", "control"),
            ("/x%2500.png", "control"),
            ("/x%1b%5b", "control"),
            ("/x%7f", "control"),
            ("/x%0d%0aSet-Cookie:a=b", "injection"),
            ("/x%250ax", "injection"),
            ("/%c0%ae%c0%ae/", "overlong"),
            ("/%e0%80%af", "overlong"),
            ("/%f0%80%80%af", "overlong"),
            ("/.env", "probe"),
            ("/app/.ENV.local", "probe"),
            ("/.git/config", "probe"),
            ("/wp-admin/install.php", "probe"),
            ("/WP-login.php", "probe"),
        ] {
            assert_eq!(words(path, None), [found], "{path}");
        }
        for (query, found) in [
            ("f=../../etc/passwd", "traversal"),
            ("f=%2e%2e%2f%2e%2e%2fetc", "traversal"),
            ("f=..\\..\\boot.ini", "traversal"),
            ("f=a%00.png", "control"),
            ("u=x%0d%0aSet-Cookie:%20a=b", "injection"),
            ("u=x%0D%0Alocation:%20//e", "injection"),
            ("u=x%0d%0a%0d%0aHTTP/1.1%20200", "injection"),
            ("q=%c0%af", "overlong"),
        ] {
            assert_eq!(words("/", Some(query)), [found], "{query}");
        }
    }

    #[test]
    fn what_people_write_is_none() {
        for (path, query) in [
            ("/", None),
            ("/agents/a/.well-known/agent.json", None),
            ("/a/file..txt", None),
            ("/a/...", None),
            ("/a/.../b", None),
            ("/a/.environment", None),
            ("/a/.gitignore", None),
            ("/caf%C3%A9/%E2%82%AC/%F0%9F%90%9D", None),
            ("/x", Some("q=one%0D%0Atwo%0Athree%09four")),
            ("/x", Some("q=100%25+sure&next=../back")),
            ("/x", Some("q=Note%0d%0Asincerely: me")),
            ("/x", Some("a=1&b=2&c=..")),
            ("/x", Some("t=..&u=../x&v=../y")),
            ("/x", Some("q=%2500")),
            ("/x%", Some("%zz%2")),
        ] {
            assert_eq!(words(path, query), Vec::<&str>::new(), "{path} {query:?}");
        }
    }

    #[test]
    fn heads_are_looked_at() {
        let scanner = Head {
            agent: Some(b"Mozilla/5.0 (compatible; Nmap Scripting Engine)"),
            host: Some(b"[::1]:7537"),
            headers: 20,
            ..Head::default()
        };
        let hint = look(&scanner);
        assert!(hint.is_hint() && !hint.is_empty());
        for agent in ["curl/8.5", "python-requests/2.32 (unmapped)", "snmapper/1"] {
            let agent = Some(agent.as_bytes());
            let ordinary = Head {
                agent,
                ..Head::default()
            };
            assert!(look(&ordinary).is_empty());
        }
        let odd = Head {
            host: Some(b"a%0d%0ab"),
            headers: 65,
            ..Head::default()
        };
        let words: Vec<Pattern> = look(&odd).iter().collect();
        assert_eq!(words, [Pattern::Host, Pattern::Headers]);
        assert!(!look(&odd).is_hint());
    }

    /// Text as a browser escapes it.
    fn escaped(text: &str, keep: &str) -> String {
        let one = |byte: u8| match byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect()
    }

    proptest! {
        #[test]
        fn ordinary_paths_are_not_marked(
            segments in proptest::collection::vec("[a-zA-Z0-9_~äé€語🐝 ][a-zA-Z0-9._~äé€語🐝 -]{0,12}", 0..8),
            query in proptest::collection::vec(("[a-z]{1,8}", "[^\u{0}]{0,40}"), 0..4),
        ) {
            let segments: Vec<String> = segments.iter().map(|it| escaped(it, "-._~")).collect();
            let path = format!("/{}", segments.join("/"));
            // What people write into a field, but two ways up, and heads of requests.
            let plain = |text: &String| !text.contains("..") && !text.contains("\r\n");
            let query = query.iter().filter(|(_, text)| plain(text));
            let query: Vec<String> = query
                .map(|(name, text)| format!("{name}={}", escaped(text, "-._~/")))
                .collect();
            let known = PROBES.iter().any(|probe| begins(path.as_bytes(), probe));
            prop_assume!(!known);
            let found = words(&path, Some(&query.join("&")));
            prop_assert!(found.is_empty(), "{found:?} {path} {query:?}");
        }

        #[test]
        fn a_way_up_is_seen_anywhere(
            before in "(/[a-z0-9]{1,8}){0,4}",
            up in "(\\.|%2e|%2E|%252e|%25252E){2}",
            after in "((/|%2f|%5C|%252f)[a-z0-9]{0,8}){0,3}",
        ) {
            let path = format!("{before}/{up}{after}");
            prop_assert!(words(&path, None).contains(&"traversal"), "{path}");
        }

        #[test]
        fn whatever_comes_is_looked_at(path in ".{0,200}", query in ".{0,200}") {
            let _ = words(&path, Some(&query));
        }
    }
}
