//! Templates, archives, indexes and notes: what is right comes through, what is hostile does not.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use semver::Version;
use serde_json::{Value as Json, json};
use skep_core::Timestamp;
use skep_crypto::signing::SigningKey;
use tar::{Builder, EntryType, Header};

use super::*;

const TOML: &str = r#"
format = 1
name = "greeter"
version = "1.2.0"
title = "Greeter"
about = "greets people"
tags = ["persona"]
first_call = "/greet"
files = ["README.md", "agent.yaml", "run.sh", "logo.bin", "prompt.md"]

[[variables]]
name = "shop"
about = "What the shop is called"
default = "the shop"

[[variables]]
name = "tone"
about = "How it speaks"
one_of = ["warm", "plain"]

[[credentials]]
name = "OPENAI_API_KEY"
about = "the model's server"

[personality]
prompt = { file = "prompt.md" }
tone = "{{tone}}"
model = { temperature = 0.5, stop = ["{{shop}}", 3] }

[memory]
facts = ["{{name}} greets"]
"#;

fn files() -> BTreeMap<String, File> {
    let file = |bytes: &[u8], is_program| File {
        bytes: bytes.to_vec(),
        is_program,
    };
    BTreeMap::from([
        ("README.md".to_owned(), file(b"# {{name}}\n", false)),
        ("agent.yaml".to_owned(), file(b"name: {{name}}\n", false)),
        (
            "run.sh".to_owned(),
            file(b"echo \"{{ shop }}\" {{shop}} {{{tone}}} {{other}}\n", true),
        ),
        ("logo.bin".to_owned(), file(b"\xff\xfe{{name}}", false)),
        (
            "prompt.md".to_owned(),
            file(b"You work for {{shop}}.", false),
        ),
    ])
}

fn greeter() -> Template {
    Template::of(TOML.as_bytes(), files()).unwrap()
}

fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn a_project_is_made_of_a_template() {
    let made = greeter().made("ada", &said(&[("tone", "warm")])).unwrap();
    let order: Vec<&str> = made.files.iter().map(|(path, _)| path.as_str()).collect();
    let wanted = ["README.md", "agent.yaml", "run.sh", "logo.bin", "prompt.md"];
    assert_eq!(order, wanted);
    let text = |place: usize| String::from_utf8_lossy(&made.files[place].1.bytes).into_owned();
    assert_eq!(text(0), "# ada\n");
    // Other braces than a variable's are the file's own.
    let script = "echo \"{{ shop }}\" the shop {warm} {{other}}\n";
    assert_eq!(
        (text(2).as_str(), made.files[2].1.is_program),
        (script, true)
    );
    assert_eq!(made.files[3].1.bytes, b"\xff\xfe{{name}}");
    let personality = json!({
        "prompt": "You work for the shop.", "tone": "warm",
        "model": { "temperature": 0.5, "stop": ["the shop", 3] },
    });
    assert_eq!(json!(made.layers["personality"]), personality);
    assert_eq!(
        json!(made.layers["memory"]),
        json!({ "facts": ["ada greets"] })
    );
}

#[test]
fn variables_have_values_that_stand_in_quotes() {
    let told = |pairs: &[(&str, &str)]| greeter().made("ada", &said(pairs)).unwrap_err();
    let missing = TemplateError::Missing(vec!["tone".to_owned()]);
    assert_eq!(told(&[("shop", "x")]), missing);
    for (pairs, why) in [
        (&[("tone", "loud")][..], "it is one of: warm, plain"),
        (&[("tone", "warm"), ("sop", "x")], "it has: shop, tone"),
        (&[("tone", "warm"), ("name", "x")], "no such variable"),
        (&[("tone", "warm"), ("shop", "a\"b")], "`\"`"),
        (&[("tone", "warm"), ("shop", "a\\")], "`\\`"),
        (&[("tone", "warm"), ("shop", "a\nb")], "not one line"),
        (&[("tone", "warm"), ("shop", "")], "not one line"),
        (&[("tone", "warm"), ("shop", "a\u{202e}b")], "not one line"),
    ] {
        let told = told(pairs).to_string();
        assert!(told.contains(why), "{told}");
    }
    // A value is not looked at again.
    let made = greeter().made("ada", &said(&[("tone", "warm"), ("shop", "{{tone}}")]));
    assert_eq!(made.unwrap().files[4].1.bytes, b"You work for {{tone}}.");
}

/// What is changed in the form, into what, and what is told then.
const WRONG: &[(&str, &str, &str)] = &[
    ("format = 1", "format = 2", "version 2 of its form"),
    (
        "format = 1",
        "formats = 1",
        "line 2, column 1: unknown field",
    ),
    ("\"greeter\"", "\"Greeter\"", "name: a name is made of"),
    ("\"1.2.0\"", "\"1.2\"", "line 4, column 11"),
    (
        "\"greets people\"",
        "\"greets\\u001b[2J\"",
        "about: it is not one line",
    ),
    ("\"README.md\", ", "", "has `README.md`"),
    (
        "\"run.sh\"",
        "\"../run.sh\"",
        "\"../run.sh\": a path leads down",
    ),
    ("\"run.sh\"", "\"/run.sh\"", "a path leads down"),
    ("\"run.sh\"", "\"a//run.sh\"", "a path leads down"),
    ("\"run.sh\"", "\"a/./run.sh\"", "a path leads down"),
    ("\"run.sh\"", "\"C:run.sh\"", "printable ASCII"),
    ("\"run.sh\"", "\"a\\\\run.sh\"", "printable ASCII"),
    ("\"run.sh\"", "\".git/hooks/post-checkout\"", "no place for"),
    ("\"run.sh\"", "\".GIT/config\"", "no place for"),
    ("\"run.sh\"", "\"agent.lock\"", "no place for"),
    ("\"run.sh\"", "\"readme.MD\"", "named twice"),
    (
        "\"run.sh\"",
        "\"agent.yaml/x\"",
        "one of its folders is a file",
    ),
    ("name = \"shop\"", "name = \"name\"", "there twice"),
    ("name = \"shop\"", "name = \"Shop\"", "begins with a letter"),
    ("default = \"the shop\"", "default = \"a\\\"b\"", "`\"`"),
    (
        "one_of = [",
        "default = \"loud\"\none_of = [",
        "none of `one_of`",
    ),
    ("OPENAI_API_KEY", "OPENAI-KEY", "a name is made of"),
    (
        "{ file = \"prompt.md\" }",
        "{ file = \"other.md\" }",
        "none of `files`",
    ),
    (
        "{ file = \"prompt.md\" }",
        "{ file = \"logo.bin\" }",
        "no UTF-8 text",
    ),
    (
        "tone = \"{{tone}}\"",
        "tone = 1979-05-27",
        "no value in JSON",
    ),
    ("tone = \"{{tone}}\"", "tone = nan", "no value in JSON"),
];

#[test]
fn what_is_wrong_with_a_form_has_its_place() {
    for (from, to, expected) in WRONG {
        assert!(TOML.contains(from), "{from}");
        let told = Template::of(TOML.replacen(from, to, 1).as_bytes(), files());
        let told = told.unwrap_err().to_string();
        assert!(told.contains(expected), "{to}: {told}");
    }
    let mut fewer = files();
    fewer.remove("run.sh");
    let told = Template::of(TOML.as_bytes(), fewer)
        .unwrap_err()
        .to_string();
    assert_eq!(told, "run.sh: template.toml names it, and it is not there");
    let mut more = files();
    more.insert(".env".to_owned(), more["run.sh"].clone());
    let told = Template::of(TOML.as_bytes(), more).unwrap_err().to_string();
    assert_eq!(told, ".env: template.toml does not name it in `files`");
}

#[test]
fn an_archive_is_the_same_bytes_for_the_same_template() {
    let packed = archive::pack(&greeter()).unwrap();
    assert_eq!(archive::pack(&greeter()).unwrap(), packed);
    assert_eq!(archive::unpack(&packed).unwrap(), greeter());
    let mut program = files();
    program.get_mut("run.sh").unwrap().is_program = false;
    let other = Template::of(TOML.as_bytes(), program).unwrap();
    assert_ne!(archive::pack(&other).unwrap(), packed);
}

/// An archive as somebody hostile, or another program, makes it.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry whose name is written as it is, whatever leads where.
    fn raw(mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name, EntryType::Regular, "", content)
    }

    fn template(self) -> Self {
        let whole = self.file("template.toml", TOML.as_bytes());
        let all = files().into_iter();
        all.fold(whole, |tar, (path, file)| tar.file(&path, &file.bytes))
    }

    fn packed(self) -> Vec<u8> {
        gzip::pack(&self.0.into_inner().unwrap())
    }

    fn told(self) -> String {
        archive::unpack(&self.packed()).unwrap_err().to_string()
    }
}

#[test]
fn archives_of_other_programs_are_read() {
    let folders = Tar::new().raw("./", EntryType::Directory, "", b"").raw(
        "./docs/",
        EntryType::Directory,
        "",
        b"",
    );
    let all = files().into_iter();
    let tar = all.fold(
        folders.file("./template.toml", TOML.as_bytes()),
        |tar, (path, file)| tar.file(&format!("./{path}"), &file.bytes),
    );
    let read = archive::unpack(&tar.packed()).unwrap();
    assert_eq!(read.form, greeter().form);
}

#[test]
fn hostile_archives_are_refused() {
    let with =
        |name: &str, kind, link: &str| Tar::new().template().raw(name, kind, link, b"").told();
    let neither = "neither a file nor a folder";
    for (kind, link) in [
        (EntryType::Symlink, "/etc/passwd"),
        (EntryType::Symlink, "README.md"),
        (EntryType::Link, "README.md"),
        (EntryType::Char, ""),
        (EntryType::Block, ""),
        (EntryType::Fifo, ""),
    ] {
        let told = with("x", kind, link);
        assert!(told.contains(neither), "{kind:?}: {told}");
    }
    for name in [
        "../x",
        "/x",
        "a/../../x",
        "./../x",
        "a/..",
        "..",
        "\\x",
        "a\u{1b}[2J",
        ".git/x",
    ] {
        let told = with(name, EntryType::Regular, "");
        assert!(
            told.contains("a path") || told.contains("no place"),
            "{name}: {told}"
        );
        assert!(!told.contains('\u{1b}'), "{told}");
        let told = with(name, EntryType::Directory, "");
        assert!(
            told.contains("a path") || told.contains("no place"),
            "{name}/: {told}"
        );
    }
    let told = Tar::new().template().file("README.md", b"").told();
    assert_eq!(told, "README.md: it is there twice");
    let told = Tar::new().template().file("./template.toml", b"").told();
    assert_eq!(told, "./template.toml: it is there twice");
    let told = Tar::new().template().file("more", b"").told();
    assert!(told.contains("does not name it"), "{told}");
    assert!(
        Tar::new()
            .file("README.md", b"")
            .told()
            .contains("no template.toml")
    );
    let long = vec![b'#'; MOST_FORM + 1];
    assert!(
        Tar::new()
            .file("template.toml", &long)
            .told()
            .contains("too long")
    );
    let many = |tar: Tar, _| tar.raw("a/", EntryType::Directory, "", b"");
    let told = (0..=2 * MOST_FILES).fold(Tar::new(), many).told();
    assert!(told.contains("over 2000 entries"), "{told}");
    let sparse = with("x", EntryType::GNUSparse, "");
    assert!(sparse.contains("numeric field"), "{sparse}");
    // A long name of GNU's, and one of pax, lead out as well.
    for (kind, content) in [
        (EntryType::GNULongName, b"../../x\0".to_vec()),
        (EntryType::XHeader, b"16 path=../../x\n".to_vec()),
    ] {
        let tar = Tar::new().template().raw("h", kind, "", &content);
        let told = tar.file("x", b"").told();
        assert!(told.contains("a path leads down"), "{kind:?}: {told}");
    }
}

#[test]
fn bombs_are_not_expanded_and_cut_archives_are_told() {
    let zeros = vec![0; 64 << 20];
    let bomb = gzip::pack(&zeros);
    assert!(bomb.len() < 1 << 20);
    let told = archive::unpack(&bomb).unwrap_err().to_string();
    assert!(told.contains("expands to more"), "{told}");
    let told = archive::unpack(&vec![0; MOST_PACKED + 1])
        .unwrap_err()
        .to_string();
    assert!(told.contains("over 8 MiB"), "{told}");
    let tar = Tar::new().template().0.into_inner().unwrap();
    for length in (0..tar.len() - 2 * 512).step_by(97) {
        // What ends between two entries lacks a file; what ends within one is cut.
        assert!(
            archive::unpack(&gzip::pack(&tar[..length])).is_err(),
            "{length}"
        );
    }
    // A size that is a lie.
    let mut header = Header::new_gnu();
    header.set_path("template.toml").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    let lie = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    assert!(archive::unpack(&gzip::pack(&lie)).is_err());
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn listed() -> Listed {
    let template = greeter();
    let packed = archive::pack(&template).unwrap();
    Listed::of(&template, &packed, "greeter-1.2.0.tar.gz".to_owned())
}

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn index(serial: u64, key: &SigningKey) -> Index {
    Index::sign(serial, later(60), vec![listed()], key).unwrap()
}

#[test]
fn an_index_is_its_publishers_and_nobody_changes_it() {
    let key = key();
    let made = index(7, &key);
    let text = made.render();
    assert_eq!(Index::parse(text.as_bytes()), Ok(made.clone()));
    assert_eq!(made.publisher().unwrap(), key.publisher().unwrap());
    let value: Json = serde_json::from_str(&text).unwrap();
    let changed = |pointer: &str, to: Json| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = to;
        Index::parse(value.to_string().as_bytes()).unwrap_err()
    };
    let other = SigningKey::generate().unwrap().publisher().unwrap();
    for (pointer, to) in [
        ("/serial", json!(8)),
        ("/expires", json!("2030-01-01T00:00:00Z")),
        ("/publisher", json!(other.to_string())),
        ("/templates", json!([])),
        ("/templates/0/sha256", json!("0".repeat(64))),
        ("/templates/0/size", json!(1)),
        (
            "/templates/0/address",
            json!("https://elsewhere.example/x.tar.gz"),
        ),
        ("/templates/0/version", json!("1.3.0")),
        ("/signature", json!("")),
        ("/signature", json!("!")),
    ] {
        assert_eq!(changed(pointer, to), TemplateError::Signature, "{pointer}");
    }
    assert_eq!(changed("/version", json!(2)), TemplateError::Version(2));
    for (pointer, to) in [
        ("/serial", json!(0)),
        ("/serial", json!(-1)),
        ("/serial", json!(LAST_SERIAL + 1)),
        ("/expires", json!("soon")),
        ("/templates/0/address", json!("../x.tar.gz")),
        ("/templates/0/about", json!("a\u{1b}[2J")),
        ("/templates/0/size", json!(MOST_PACKED + 1)),
        ("/publisher", json!("skepsig1_x")),
    ] {
        let error = changed(pointer, to);
        assert!(
            matches!(error, TemplateError::Malformed { .. }),
            "{pointer}: {error}"
        );
    }
    let mut more = value.clone();
    more["extra"] = json!(1);
    assert!(Index::parse(more.to_string().as_bytes()).is_err());
    let twice = text.replacen("\"serial\"", "\"serial\": 9,\n  \"serial\"", 1);
    assert!(Index::parse(twice.as_bytes()).is_err());
    let double = Index::sign(1, NOW, vec![listed(), listed()], &key);
    assert!(double.unwrap_err().to_string().contains("listed twice"));
}

#[test]
fn an_index_is_taken_from_whom_and_when_it_should_be() {
    let (ada, eve) = (key(), key());
    let publisher = |key: &SigningKey| key.publisher().unwrap();
    let seen = index(7, &ada);
    let expected = |publisher, seen| Expected {
        publisher,
        seen,
        older: false,
    };
    let accepted = |index: &Index, expected| index.accept(expected, NOW);
    // Who comes first is believed; then only the same one.
    assert_eq!(accepted(&index(1, &eve), expected(None, None)), Ok(()));
    let other = TemplateError::Publisher {
        is: publisher(&eve),
        wanted: publisher(&ada),
    };
    assert_eq!(
        accepted(&index(9, &eve), expected(None, Some(&seen))),
        Err(other.clone())
    );
    let pinned = Some(publisher(&ada));
    assert_eq!(
        accepted(&index(9, &eve), expected(pinned, None)),
        Err(other)
    );
    // The settings say who it is from now on, and its serials are its own.
    let changed = Some(publisher(&eve));
    assert_eq!(
        accepted(&index(1, &eve), expected(changed, Some(&seen))),
        Ok(())
    );
    assert_eq!(
        accepted(&index(8, &ada), expected(pinned, Some(&seen))),
        Ok(())
    );
    assert_eq!(accepted(&seen, expected(None, Some(&seen))), Ok(()));
    let older = TemplateError::Older { is: 6, seen: 7 };
    assert_eq!(
        accepted(&index(6, &ada), expected(None, Some(&seen))),
        Err(older)
    );
    let twin = Index::sign(7, later(60), vec![], &ada).unwrap();
    assert_eq!(
        accepted(&twin, expected(None, Some(&seen))),
        Err(TemplateError::Twice(7))
    );
    let late = seen.accept(expected(None, None), later(60));
    assert!(matches!(late, Err(TemplateError::Expired(_))), "{late:?}");
    // What is older can be wanted; what is another's cannot.
    let older = Expected {
        older: true,
        ..expected(None, Some(&seen))
    };
    assert_eq!(index(6, &ada).accept(older, later(90)), Ok(()));
    assert!(index(9, &eve).accept(older, NOW).is_err());
}

#[test]
fn what_is_fetched_is_what_is_listed() {
    let template = greeter();
    let packed = archive::pack(&template).unwrap();
    assert_eq!(listed().is(&template, &packed), Ok(()));
    let mut other = packed.clone();
    *other.last_mut().unwrap() ^= 1;
    let told = listed().bytes_are(&other).unwrap_err().to_string();
    assert!(told.starts_with("its SHA-256 is"), "{told}");
    let told = listed().bytes_are(&packed[1..]).unwrap_err().to_string();
    assert!(told.starts_with("its size is"), "{told}");
    let renamed = Listed {
        version: Version::new(2, 0, 0),
        ..listed()
    };
    let told = renamed.is(&template, &packed).unwrap_err().to_string();
    assert_eq!(told, "its version is 1.2.0, and the index says 2.0.0");
}

#[test]
fn the_newest_is_found_and_words_find() {
    let key = key();
    let of = |version: &str| Listed {
        version: version.parse().unwrap(),
        ..listed()
    };
    let all = ["1.9.0", "1.10.0", "2.0.0-rc.1"].map(of).to_vec();
    let index = Index::sign(1, later(1), all, &key).unwrap();
    let version = |it: Option<&Listed>| it.map(|it| it.version.to_string());
    assert_eq!(
        version(index.find("greeter", None)).as_deref(),
        Some("1.10.0")
    );
    let named: Version = "2.0.0-rc.1".parse().unwrap();
    let found = version(index.find("greeter", Some(&named)));
    assert_eq!(found.as_deref(), Some("2.0.0-rc.1"));
    assert!(index.find("greet", None).is_none());
    let fits = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
        listed().fits(&words)
    };
    assert!(fits(&["GREET", "persona"]) && fits(&[]) && !fits(&["greet", "cook"]));
}

#[test]
fn addresses_are_below_the_index_or_https() {
    for (index, address, expected) in [
        (
            "https://t.example/a/index.json",
            "x.tar.gz",
            "https://t.example/a/x.tar.gz",
        ),
        (
            "https://t.example/index.json?a=/b",
            "d/x y.gz",
            "https://t.example/d/x%20y.gz",
        ),
        ("https://t.example", "x", "https://t.example/x"),
        ("/srv/index.json", "d/x y.gz", "/srv/d/x y.gz"),
        ("index.json", "x", "x"),
        (
            "https://t.example/i",
            "https://cdn.example/x",
            "https://cdn.example/x",
        ),
        (
            "http://127.0.0.1:1/i",
            "http://127.0.0.1:1/x",
            "http://127.0.0.1:1/x",
        ),
    ] {
        assert_eq!(joined(index, address).as_deref(), Ok(expected));
    }
    for (index, address) in [
        ("https://t.example/i", "http://t.example/x"),
        ("https://t.example/i", "http://127.0.0.1:80/x"),
        ("https://t.example/i", "file:///etc/passwd"),
        ("/srv/index.json", "http://127.0.0.1/x"),
    ] {
        assert!(joined(index, address).is_err(), "{address}");
    }
}

#[test]
fn a_rater_has_one_vote_and_only_true_notes_count() {
    let (ada, bob) = (key(), key());
    let note = |key: &SigningKey, stars, at| Note::sign(&listed(), stars, None, at, key).unwrap();
    let counted = |notes: &[Note]| {
        let mut templates = [listed()];
        let refused = tally(notes, &mut templates, NOW);
        (templates[0].ratings.map(|it| (it.count, it.stars)), refused)
    };
    let before = |seconds| NOW.minus(Duration::from_secs(seconds));
    let notes = [
        note(&ada, 1, before(9)),
        note(&ada, 5, before(1)),
        note(&ada, 2, before(5)),
        note(&bob, 4, NOW),
    ];
    assert_eq!(counted(&notes), (Some((2, 9)), vec![]));
    // In any order, and however often.
    let again: Vec<Note> = notes.iter().rev().chain(&notes).cloned().collect();
    assert_eq!(counted(&again), (Some((2, 9)), vec![]));
    let other = Listed {
        sha256: "0".repeat(64),
        ..listed()
    };
    let version = Listed {
        version: Version::new(9, 0, 0),
        ..listed()
    };
    let wrong = [
        Note::sign(&other, 5, None, NOW, &bob).unwrap(),
        Note::sign(&version, 5, None, NOW, &bob).unwrap(),
        note(&bob, 5, later(1)),
    ];
    let whys = [
        "it is about other bytes than the index's",
        "the index has no such template",
        "it is from the future",
    ];
    let expected = whys.into_iter().enumerate().collect();
    assert_eq!(counted(&wrong), (None, expected));
    let line = notes[3].render();
    assert_eq!(Note::parse(line.as_bytes()), Ok(notes[3].clone()));
    for (from, to) in [
        ("\"stars\":4", "\"stars\":5"),
        ("greeter", "greeted"),
        ("1.2.0", "1.2.1"),
    ] {
        assert!(line.contains(from));
        let changed = Note::parse(line.replacen(from, to, 1).as_bytes());
        assert_eq!(changed, Err(TemplateError::Signature), "{to}");
    }
    let zero = line.replacen("\"stars\":4", "\"stars\":0", 1);
    assert!(
        Note::parse(zero.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("1 to 5")
    );
    let ratings = |count, stars| Ratings { count, stars }.mean();
    assert_eq!(
        (ratings(2, 9), ratings(3, 14), ratings(0, 0)),
        ("4.5".into(), "4.7".into(), "0.0".into())
    );
}

proptest! {
    #[test]
    fn no_bytes_are_a_surprise(bytes in prop::collection::vec(any::<u8>(), 0..4_096), at in 0_usize..4_096) {
        let _ = archive::unpack(&bytes);
        let _ = archive::unpack(&gzip::pack(&bytes));
        let mut tar = Tar::new().template().0.into_inner().unwrap();
        let place = at % tar.len();
        let length = bytes.len().min(tar.len() - place).min(16);
        tar[place..place + length].copy_from_slice(&bytes[..length]);
        if let Ok(read) = archive::unpack(&gzip::pack(&tar)) {
            // Whatever is read can be written, and is the same then.
            prop_assert_eq!(archive::unpack(&archive::pack(&read).unwrap()).unwrap(), read);
        }
    }

    #[test]
    fn texts_are_filled_in_one_pass(text in "[{}a-c]{0,64}", value in "[{}a-c]{1,8}") {
        let toml = TOML.replace("\"prompt.md\"]", "\"prompt.md\", \"t\"]");
        let mut files = files();
        files.insert("t".to_owned(), File { bytes: text.clone().into_bytes(), is_program: false });
        let toml = toml.replace("name = \"shop\"", "name = \"a\"").replace("{{shop}}", "x");
        let template = Template::of(toml.as_bytes(), files).unwrap();
        let made = template.made("n", &said(&[("tone", "warm"), ("a", &value)])).unwrap();
        let is = String::from_utf8_lossy(&made.files[5].1.bytes).into_owned();
        prop_assert_eq!(is, text.replace("{{a}}", &value));
    }
}
