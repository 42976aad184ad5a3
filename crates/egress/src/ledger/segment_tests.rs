//! The ledger's file, whole and cut.

use std::io::Write as _;

use super::*;

pub(crate) fn opened(id: u8) -> Opened {
    Opened {
        id: [id; 16],
        workspace: Workspace::default(),
        at: Timestamp::from_micros(1_000_000),
        way: Way::Tool,
        kind: "agent".to_owned(),
        who: "ada".to_owned(),
        provider: "openai".to_owned(),
        model: "gpt-4o".to_owned(),
        asked: "fast".to_owned(),
        reserved: Amount {
            money: Money::dollars(1),
            tokens: 1_000,
            calls: 1,
            requests: 0,
        },
        prices: "1".to_owned(),
        prompt: String::new(),
        thread: String::new(),
        entry: b"{\"x\":1}".to_vec(),
    }
}

pub(crate) fn settled(id: u8) -> Settled {
    Settled {
        opened: Arc::new(opened(id)),
        outcome: "200".to_owned(),
        input: 10,
        cache_read: 2,
        cache_write: 1,
        output: 5,
        reasoning: 3,
        cost: Money::from_nanos(7),
        estimated: false,
        first_us: 4,
        whole_us: 5,
        entry: vec![0, 255, 10],
    }
}

/// What is open and what has ended, by their ids.
fn ids(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let (_, reading) = read_all(folder).unwrap();
    let mut open: Vec<u8> = reading.open.keys().map(|it| it[0]).collect();
    open.sort_unstable();
    for (id, one) in &reading.open {
        assert_eq!(**one, opened(id[0]));
    }
    for one in &reading.settled {
        assert_eq!(*one, settled(one.opened.id[0]));
    }
    let ended = reading.settled.iter().map(|it| it.opened.id[0]);
    (open, ended.collect())
}

#[test]
fn lines_are_read_as_they_were_written_up_to_one_that_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut first = Segment::begin(at, 0).unwrap();
    let mut second = Segment::begin(at, 1).unwrap();
    first.write(Line::Opened(&opened(1))).unwrap();
    let begun = first.size();
    first.write(Line::Settled(&settled(1))).unwrap();
    second.write(Line::Opened(&opened(2))).unwrap();
    assert_eq!(ids(at), (vec![2], vec![1]));
    let whole = std::fs::read(first.path()).unwrap();
    for length in 0..whole.len() {
        std::fs::write(first.path(), &whole[..length]).unwrap();
        let open = match (length as u64) < begun {
            true => vec![2],
            false => vec![1, 2],
        };
        assert_eq!(ids(at), (open, vec![]), "{length}");
    }
    // What stands behind it is no line, whatever it says of itself.
    let mut flipped = whole.clone();
    let last = flipped.len() - 3;
    flipped[last] ^= 1;
    std::fs::write(first.path(), flipped).unwrap();
    assert_eq!(ids(at), (vec![1, 2], vec![]));
}

#[test]
fn what_begins_in_one_file_may_end_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Segment::begin(folder.path(), 0).unwrap();
    let mut second = Segment::begin(folder.path(), 1).unwrap();
    first.write(Line::Opened(&opened(1))).unwrap();
    second.write(Line::Settled(&settled(1))).unwrap();
    assert_eq!(ids(folder.path()), (vec![], vec![1]));
}

#[test]
fn half_a_line_is_taken_away_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut segment = Segment::begin(folder.path(), 0).unwrap();
    segment.write(Line::Opened(&opened(1))).unwrap();
    segment.file.write_all(b"half").unwrap();
    segment.torn = true;
    segment.write(Line::Opened(&opened(2))).unwrap();
    assert_eq!(ids(folder.path()), (vec![1, 2], vec![]));
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut segment = Segment::begin(folder.path(), 0).unwrap();
    let long = Opened {
        entry: vec![0; MOST],
        ..opened(1)
    };
    assert!(segment.write(Line::Opened(&long)).is_err());
    assert_eq!(segment.size(), 0);
}

#[test]
fn a_file_that_is_not_understood_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Segment::begin(folder.path(), 0).unwrap();
    let line = br#"{"of":"another Skep"}"#;
    let length = u32::try_from(line.len()).unwrap().to_le_bytes();
    let whole = [&length[..], &sum(line), line].concat();
    first.file.write_all(&whole).unwrap();
    let mut second = Segment::begin(folder.path(), 1).unwrap();
    second.write(Line::Opened(&opened(2))).unwrap();
    assert_eq!(ids(folder.path()), (vec![2], vec![]));
    let aside = first.path().with_extension("unread");
    assert_eq!(std::fs::read(aside).unwrap(), whole);
    assert_eq!(read_all(folder.path()).unwrap().0, [second.path()]);
}
