//! Continues an answer behind what was handed on of it, when its connection was lost. Pure: bytes
//! in, bytes out; `through` fetches them.
//!
//! What comes after a loss is the same attempt's answer, or another attempt's from its start. The
//! rule for both: what was handed on must come again, is compared, and is not handed on twice.
//! When it does not come again, the answer cannot be continued. Events are compared without
//! comments and without the ids that Skep gives them, which name the attempt; those ids spare the
//! comparison as long as the attempt is the same.

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// A stream with a longer event passes as it comes and cannot be continued.
const MOST_EVENT_BYTES: usize = 16 << 20;

pub(crate) const DIFFERS: &str = "the agent was tried again and answers differently";
const FROM_THE_MIDDLE: &str = "it was read from the middle, and the agent was tried again";
const NO_EVENTS: &str = "its events are too long or without ends";

/// Why an answer cannot be continued.
pub(crate) type Reason = &'static str;

/// What follows from a piece, or from the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This is new.
    New(Bytes),
    /// It does not show where it begins: the whole has to be asked for.
    Restart,
}

/// How far an answer was handed on.
#[derive(Debug)]
pub(crate) enum Splice {
    Plain(Plain),
    Events(Events),
}

impl Splice {
    /// `from`: the event behind which an event stream was asked for first.
    pub(crate) fn new(events: bool, from: Option<String>) -> Self {
        match events {
            true => Self::Events(Events::new(from)),
            false => Self::Plain(Plain::default()),
        }
    }

    /// Takes what came next.
    pub(crate) fn push(&mut self, data: Bytes) -> Result<Step, Reason> {
        match self {
            Self::Plain(plain) => plain.push(data).map(Step::New),
            Self::Events(events) => events.push(data),
        }
    }

    /// The answer is whole: what is left of it.
    pub(crate) fn finish(&mut self) -> Result<Step, Reason> {
        match self {
            Self::Plain(plain) => plain.finish().map(Step::New),
            Self::Events(events) => events.finish(),
        }
    }

    /// The connection was lost: `Last-Event-ID` of the request for the rest.
    pub(crate) fn resume(&mut self) -> Result<Option<String>, Reason> {
        match self {
            Self::Plain(plain) => {
                plain.again = Some((0, Sha256::new()));
                Ok(None)
            }
            Self::Events(events) => events.resume(),
        }
    }
}

/// An answer that is not an event stream: it comes from its first byte each time.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    length: u64,
    digest: Sha256,
    /// What came again so far.
    again: Option<(u64, Sha256)>,
}

impl Plain {
    fn push(&mut self, mut data: Bytes) -> Result<Bytes, Reason> {
        if let Some((came, digest)) = &mut self.again {
            let known = usize::try_from(self.length - *came).unwrap_or(usize::MAX);
            let known = data.split_to(known.min(data.len()));
            digest.update(&known);
            *came += known.len() as u64;
            if *came == self.length {
                self.compare()?;
            }
        }
        self.digest.update(&data);
        self.length += data.len() as u64;
        Ok(data)
    }

    fn finish(&mut self) -> Result<Bytes, Reason> {
        self.compare().map(|()| Bytes::new())
    }

    fn compare(&mut self) -> Result<(), Reason> {
        let Some((came, digest)) = self.again.take() else {
            return Ok(());
        };
        let same = digest.finalize() == self.digest.clone().finalize();
        match same && came == self.length {
            true => Ok(()),
            false => Err(DIFFERS),
        }
    }
}

/// The id that Skep gives an event: `ATTEMPT.INDEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    attempt: u32,
    index: u64,
}

/// An event as it is compared.
#[derive(Debug)]
struct Event {
    stamp: Option<Stamp>,
    mark: [u8; 8],
}

/// What the next event means.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// It is new.
    New,
    /// It is new if this is its id.
    Stamped(Stamp),
    /// It must be the known one with this index.
    Known(usize),
}

/// An event stream (WHATWG HTML, section 9.2), handed on in whole events.
#[derive(Debug)]
pub(crate) struct Events {
    from: Option<String>,
    /// The event that is being received.
    held: BytesMut,
    /// Where its current line begins.
    line: usize,
    /// The events that were handed on.
    known: Vec<[u8; 8]>,
    /// The id of the last of them, if it is one of Skep's.
    last: Option<Stamp>,
    next: Next,
    /// The last id did not show where the answer goes on.
    in_doubt: bool,
    /// It does not come in events that can be held.
    shapeless: bool,
}

impl Events {
    fn new(from: Option<String>) -> Self {
        Self {
            from,
            held: BytesMut::new(),
            line: 0,
            known: Vec::new(),
            last: None,
            next: Next::New,
            in_doubt: false,
            shapeless: false,
        }
    }

    fn push(&mut self, data: Bytes) -> Result<Step, Reason> {
        if self.shapeless {
            return Ok(Step::New(data));
        }
        let mut new = BytesMut::new();
        // The last byte that was looked at may be half of a line's end.
        let mut fresh = self.held.len().saturating_sub(1);
        for part in data.split_inclusive(|&byte| byte == b'\n') {
            self.held.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                break;
            }
            let blank = matches!(&self.held[self.line..], b"\n" | b"\r\n");
            self.line = self.held.len();
            if blank && self.event_ended(&mut new)? {
                return Ok(Step::Restart);
            }
            fresh = self.line;
        }
        // A line may also end with a bare CR: events of that kind have no end that is looked for.
        let bare = self.held[fresh..]
            .windows(2)
            .any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
        if bare || self.held.len() > MOST_EVENT_BYTES {
            if !matches!(self.next, Next::New) {
                return Err(NO_EVENTS);
            }
            self.shapeless = true;
            new.extend_from_slice(&self.held.split());
        }
        Ok(Step::New(new.freeze()))
    }

    /// Takes the event that is whole now; tells whether all has to be asked for.
    fn event_ended(&mut self, new: &mut BytesMut) -> Result<bool, Reason> {
        let bytes = self.held.split();
        self.line = 0;
        let Some(event) = Event::read(&bytes) else {
            // A comment.
            if matches!(self.next, Next::New) {
                new.extend_from_slice(&bytes);
            }
            return Ok(false);
        };
        match self.next {
            Next::Stamped(stamp) if event.stamp != Some(stamp) => {
                self.in_doubt = true;
                return Ok(true);
            }
            Next::Known(index) => {
                if self.known[index] != event.mark {
                    return Err(DIFFERS);
                }
                if index + 1 < self.known.len() {
                    self.next = Next::Known(index + 1);
                    return Ok(false);
                }
            }
            Next::New | Next::Stamped(_) => {
                new.extend_from_slice(&bytes);
                self.known.push(event.mark);
            }
        }
        (self.next, self.last, self.in_doubt) = (Next::New, event.stamp, false);
        Ok(false)
    }

    fn finish(&mut self) -> Result<Step, Reason> {
        match self.next {
            Next::New => Ok(Step::New(self.held.split().freeze())),
            // Nothing came: it ended behind the last event, or before.
            Next::Stamped(_) => {
                self.in_doubt = true;
                Ok(Step::Restart)
            }
            Next::Known(_) => Err(DIFFERS),
        }
    }

    fn resume(&mut self) -> Result<Option<String>, Reason> {
        if self.shapeless {
            return Err(NO_EVENTS);
        }
        self.held.clear();
        self.line = 0;
        if self.known.is_empty() {
            self.next = Next::New;
            return Ok(self.from.clone());
        }
        match self.last {
            Some(last) if !self.in_doubt => {
                let index = last.index.saturating_add(1);
                self.next = Next::Stamped(Stamp { index, ..last });
                Ok(Some(format!("{}.{}", last.attempt, last.index)))
            }
            _ if self.from.is_some() => Err(FROM_THE_MIDDLE),
            _ => {
                self.next = Next::Known(0);
                Ok(None)
            }
        }
    }
}

impl Event {
    /// `None` when it is nothing but comments.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .peekable();
        // Skep puts its id before everything else.
        let stamp = lines.peek().and_then(|line| Stamp::read(line));
        let fields = lines
            .skip(usize::from(stamp.is_some()))
            .filter(|line| !line.is_empty() && !line.starts_with(b":"));
        let (mut digest, mut any) = (Sha256::new(), stamp.is_some());
        for field in fields {
            any = true;
            digest.update(field);
            digest.update(b"\n");
        }
        let mut mark = [0; 8];
        mark.copy_from_slice(&digest.finalize()[..8]);
        any.then_some(Self { stamp, mark })
    }
}

impl Stamp {
    fn read(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_prefix(b"id: ")?).ok()?;
        let (attempt, index) = text.split_once('.')?;
        Some(Self {
            attempt: attempt.parse().ok()?,
            index: index.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of these pieces.
    fn pushed(splice: &mut Splice, text: &str) -> Result<Step, Reason> {
        splice.push(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn new(text: &str) -> Result<Step, Reason> {
        Ok(Step::New(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn events() -> Splice {
        Splice::new(true, None)
    }

    #[test]
    fn a_plain_answer_goes_on_behind_the_bytes_that_are_known() {
        let mut plain = Splice::new(false, None);
        assert_eq!(pushed(&mut plain, "hello, "), new("hello, "));
        for _ in 0..2 {
            assert_eq!(plain.resume(), Ok(None));
            assert_eq!(pushed(&mut plain, "hel"), new(""));
        }
        assert_eq!(plain.resume(), Ok(None));
        assert_eq!(pushed(&mut plain, "hello"), new(""));
        assert_eq!(pushed(&mut plain, ", wor"), new("wor"));
        assert_eq!(plain.resume(), Ok(None));
        assert_eq!(pushed(&mut plain, "hello, world"), new("ld"));
        assert_eq!(plain.finish(), new(""));
    }

    #[test]
    fn a_plain_answer_that_is_another_one_is_not_continued() {
        let mut plain = Splice::new(false, None);
        pushed(&mut plain, "one ").unwrap();
        plain.resume().unwrap();
        assert_eq!(pushed(&mut plain, "two three"), Err(DIFFERS));
        let mut short = Splice::new(false, None);
        pushed(&mut short, "one ").unwrap();
        short.resume().unwrap();
        pushed(&mut short, "one").unwrap();
        assert_eq!(short.finish(), Err(DIFFERS));
        let mut unseen = Splice::new(false, None);
        unseen.resume().unwrap();
        assert_eq!(pushed(&mut unseen, "all"), new("all"));
    }

    #[test]
    fn only_whole_events_are_handed_on() {
        let mut events = events();
        assert_eq!(pushed(&mut events, "id: 1.1\nda"), new(""));
        assert_eq!(
            pushed(&mut events, "ta: a\n\n: ping\n\r\ndata: b"),
            new("id: 1.1\ndata: a\n\n: ping\n\r\n")
        );
        // An event without an end is the stream's affair, not ours.
        assert_eq!(events.finish(), new("data: b"));
    }

    #[test]
    fn the_same_attempt_goes_on_behind_the_last_event() {
        let mut events = events();
        pushed(&mut events, "id: 1.1\ndata: a\n\nid: 1.2\ndata").unwrap();
        assert_eq!(events.resume(), Ok(Some("1.1".to_owned())));
        assert_eq!(
            pushed(&mut events, "id: 1.2\ndata: b\n\n"),
            new("id: 1.2\ndata: b\n\n")
        );
        assert_eq!(events.resume(), Ok(Some("1.2".to_owned())));
    }

    #[test]
    fn another_attempt_is_compared_from_its_start() {
        let mut events = events();
        pushed(
            &mut events,
            "id: 1.1\ndata: a\n\n: ping\n\nid: 1.2\ndata: b\n\n",
        )
        .unwrap();
        assert_eq!(events.resume(), Ok(Some("1.2".to_owned())));
        assert_eq!(
            pushed(&mut events, "id: 2.1\ndata: a\n\n"),
            Ok(Step::Restart)
        );
        assert_eq!(events.resume(), Ok(None));
        assert_eq!(pushed(&mut events, "id: 2.1\ndata: a\n\n"), new(""));
        // It is lost again before all that is known came again.
        assert_eq!(events.resume(), Ok(None));
        assert_eq!(
            pushed(
                &mut events,
                ": x\n\nid: 3.1\ndata: a\n\nid: 3.2\r\ndata: b\r\n\r\nid: 3.3\ndata: c\n\n"
            ),
            new("id: 3.3\ndata: c\n\n")
        );
        assert_eq!(events.resume(), Ok(Some("3.3".to_owned())));
        // Nothing more: that does not tell which attempt it was.
        assert_eq!(events.finish(), Ok(Step::Restart));
        assert_eq!(events.resume(), Ok(None));
        pushed(
            &mut events,
            "id: 3.1\ndata: a\n\nid: 3.2\ndata: b\n\nid: 3.3\ndata: c\n\n",
        )
        .unwrap();
        assert_eq!(events.finish(), new(""));
    }

    #[test]
    fn another_attempt_that_says_something_else_is_not_continued() {
        let lost = || {
            let mut events = events();
            pushed(&mut events, "data: a\n\nid: own\ndata: b\n\n").unwrap();
            assert_eq!(events.resume(), Ok(None));
            events
        };
        assert_eq!(pushed(&mut lost(), "data: z\n\n"), Err(DIFFERS));
        let mut short = lost();
        pushed(&mut short, "data: a\n\n").unwrap();
        assert_eq!(short.finish(), Err(DIFFERS));
        let mut other_id = lost();
        assert_eq!(
            pushed(&mut other_id, "data: a\n\nid: other\ndata: b\n\n"),
            Err(DIFFERS)
        );
    }

    #[test]
    fn a_stream_from_the_middle_goes_on_in_the_same_attempt_only() {
        let mut events = Splice::new(true, Some("1.4".to_owned()));
        assert_eq!(events.resume(), Ok(Some("1.4".to_owned())));
        pushed(&mut events, "id: 1.5\ndata: a\n\n").unwrap();
        assert_eq!(events.resume(), Ok(Some("1.5".to_owned())));
        assert_eq!(
            pushed(&mut events, "id: 2.1\ndata: a\n\n"),
            Ok(Step::Restart)
        );
        assert_eq!(events.resume(), Err(FROM_THE_MIDDLE));
    }

    #[test]
    fn what_has_no_events_passes_and_is_not_continued() {
        let mut events = events();
        assert_eq!(pushed(&mut events, "data: a\r\r"), new("data: a\r\r"));
        assert_eq!(pushed(&mut events, "data: b\r\r"), new("data: b\r\r"));
        assert_eq!(events.resume(), Err(NO_EVENTS));
    }

    #[test]
    fn how_it_is_cut_does_not_matter() {
        let first = "id: 1.1\ndata: a\n\nid: 1.2\r\nevent: x\r\ndata: b\r\n\r\n";
        let again = "id: 2.1\ndata: a\n\n: c\n\nid: 2.2\nevent: x\ndata: b\n\nid: 2.3\ndata: c\n\n";
        for cut in 1..20 {
            let mut events = events();
            let mut out = Vec::new();
            for text in [first, again] {
                for piece in text.as_bytes().chunks(cut) {
                    match events.push(Bytes::copy_from_slice(piece)).unwrap() {
                        Step::New(new) => out.extend_from_slice(&new),
                        Step::Restart => panic!("it is known to be whole"),
                    }
                }
                if let Splice::Events(events) = &mut events {
                    events.in_doubt = true;
                }
                events.resume().unwrap();
            }
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out, format!("{first}id: 2.3\ndata: c\n\n"), "cut by {cut}");
        }
    }

    /// A stream as an attempt gives it: with Skep's ids, and with comments where it likes.
    fn attempt(number: u32, content: &[&str], random: &mut fastrand::Rng) -> String {
        let (mut text, mut index) = (String::new(), 0);
        for event in content {
            if random.u8(..4) == 0 {
                text.push_str(": ping\n\n");
            }
            if !event.contains("id:") {
                index += 1;
                text.push_str(&format!("id: {number}.{index}\n"));
            }
            text.push_str(event);
        }
        text
    }

    /// What the server gives of it behind an event.
    fn behind<'a>(stream: &'a str, seen: Option<&str>) -> &'a str {
        let line = format!("id: {}\n", seen.unwrap_or("none"));
        stream.find(&line).map_or(stream, |at| {
            let end = stream[at..].find("\n\n").unwrap();
            &stream[at + end + 2..]
        })
    }

    #[test]
    fn wherever_it_is_lost_each_event_comes_once() {
        const KINDS: [&str; 4] = [
            "data: a\n\n",
            "data: b\n\n",
            "id: own\ndata: c\n\n",
            "event: x\ndata: d\n\n",
        ];
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let content: Vec<&str> = (0..random.usize(..8))
                .map(|_| KINDS[random.usize(..KINDS.len())])
                .collect();
            let (mut events, mut out) = (events(), Vec::new());
            let mut number = 1;
            let mut stream = attempt(number, &content, &mut random);
            let mut rest = stream.as_str();
            loop {
                let lost = random.u8(..3) > 0;
                let cut = if lost {
                    random.usize(..=rest.len())
                } else {
                    rest.len()
                };
                let piece = Bytes::copy_from_slice(&rest.as_bytes()[..cut]);
                let mut step = events.push(piece);
                if let (Ok(Step::New(new)), false) = (&step, lost) {
                    out.extend_from_slice(new);
                    step = events.finish();
                }
                match step.unwrap_or_else(|reason| panic!("seed {seed}: {reason}")) {
                    Step::New(new) => out.extend_from_slice(&new),
                    Step::Restart => assert!(!content.is_empty(), "seed {seed}"),
                }
                let whole = matches!(&events, Splice::Events(it) if matches!(it.next, Next::New));
                if !lost && whole {
                    break;
                }
                if random.bool() {
                    number += 1;
                    stream = attempt(number, &content, &mut random);
                }
                let seen = events.resume().unwrap();
                rest = behind(&stream, seen.as_deref());
            }
            let out = String::from_utf8(out).unwrap();
            let read = |text: &str| -> Vec<_> {
                let whole = text.split_inclusive("\n\n");
                whole
                    .filter_map(|event| Event::read(event.as_bytes()))
                    .map(|it| it.mark)
                    .collect()
            };
            assert_eq!(read(&out), read(&content.concat()), "seed {seed}: {out}");
        }
    }
}
