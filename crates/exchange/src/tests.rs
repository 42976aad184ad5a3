//! What comes in as it is written elsewhere, and what goes out and comes in again.

use proptest::prelude::*;
use skep_crypto::CryptoError;

use super::sops::Store;
use super::*;

/// Who can open the files in `sops/made`, which SOPS 3.11 itself wrote.
const IDENTITY: &str = "AGE-SECRET-KEY-1HFANT3XVVT77AL4F9K8WN2QXFYFFG4VTSK5UH9MPVRLCK0NYUZJSU2XM7D";
const NOW: &str = "2026-11-22T01:02:03Z";
const ALL: [Format; 6] = [
    Format::Dotenv,
    Format::Json,
    Format::Yaml,
    Format::Sops(Store::Dotenv),
    Format::Sops(Store::Json),
    Format::Sops(Store::Yaml),
];

fn identity() -> Identity {
    Identity::parse(IDENTITY).unwrap()
}

/// Names and values, as text.
fn told(entries: &[Entry]) -> Vec<(String, String)> {
    let text = |entry: &Entry| String::from_utf8(entry.value.to_vec()).unwrap();
    entries
        .iter()
        .map(|it| (it.name.clone(), text(it)))
        .collect()
}

fn plain(format: Format, text: &str) -> Vec<(String, String)> {
    told(&read(format, text.as_bytes(), &[]).unwrap())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn wrong(format: Format, text: &str) -> String {
    read(format, text.as_bytes(), &[]).unwrap_err().to_string()
}

#[test]
fn env_files_are_read_as_others_read_them() {
    let text = "\u{feff}# a comment\r\nexport A=1\n\n  B = two words # and a comment\nC='#$x \\n'\n\
        D=\"a\\n\\\"b\\\" \\$x \\q\" # more\nE=\"one\ntwo\"\nF=\nG=a#b\nH=`x'y`\ni.j-k/l=m=n\nKEY=end";
    let expected = [
        ("A", "1"),
        ("B", "two words"),
        ("C", "#$x \\n"),
        ("D", "a\n\"b\" $x \\q"),
        ("E", "one\ntwo"),
        ("F", ""),
        ("G", "a#b"),
        ("H", "x'y"),
        ("i.j-k/l", "m=n"),
        ("KEY", "end"),
    ];
    assert_eq!(plain(Format::Dotenv, text), pairs(&expected));
    let lines: Vec<_> = read(Format::Dotenv, text.as_bytes(), &[]).unwrap();
    let lines: Vec<_> = lines.iter().filter_map(|it| it.line).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 9, 10, 11, 12, 13]);
}

#[test]
fn documents_are_read_with_paths_and_numbers_as_they_are_written() {
    let expected = pairs(&[
        ("db/password", "p: #1"),
        ("db/port", "5432"),
        ("pin", "007"),
        ("version", "1.10"),
        ("big", "123456789012345678901234567890"),
        ("on", "true"),
        ("nothing", ""),
        ("list", r#"["a",1.50,{"b":null}]"#),
        ("a/b", "flat"),
        ("no", "no"),
    ]);
    let yaml = "db: &db\n  password: 'p: #1'\n  port: 5432\npin: 007\nversion: 1.10\n\
        big: 123456789012345678901234567890\n\"on\": true\nnothing: ~\nlist: [a, 1.50, {b: null}]\n\
        a/b: flat\n\"no\": no\n";
    assert_eq!(plain(Format::Yaml, yaml), expected);
    let json = r#"{"db": {"password": "p: #1", "port": 5432}, "pin": "007", "version": 1.10,
        "big": 123456789012345678901234567890, "on": true, "nothing": null,
        "list": ["a", 1.50, {"b": null}], "a/b": "flat", "no": "no"}"#;
    assert_eq!(plain(Format::Json, json), expected);
    // The text of an alias is its anchor's.
    let alias = "a: &x 010\nb: *x\n\"ä\": ö\nc: *x\n";
    assert_eq!(
        plain(Format::Yaml, alias),
        pairs(&[("a", "010"), ("b", "010"), ("ä", "ö"), ("c", "010")])
    );
}

const WRONG: [(Format, &str, &str); 17] = [
    (Format::Dotenv, "A=1\ngeheim", "line 2: there is no `=`"),
    (
        Format::Dotenv,
        "A=1\nge heim=2",
        "line 2: what stands before",
    ),
    (
        Format::Dotenv,
        "A=1\nB=\"geheim",
        "line 2: the value's quote",
    ),
    (
        Format::Dotenv,
        "A='geheim' geheim",
        "line 1: something stands",
    ),
    (
        Format::Dotenv,
        "A=geheim\nA=geheim",
        "line 2: `A` stands there twice",
    ),
    (
        Format::Json,
        "{\"a\": \"geheim\",\n]",
        "line 2, column 1: it is no JSON",
    ),
    (
        Format::Json,
        "{\"a\": \"geheim\"",
        "line 1, column 14: it ends too early",
    ),
    (
        Format::Json,
        r#"{"a": "geheim", "a": 1}"#,
        "it is no object with each",
    ),
    (
        Format::Json,
        r#"["geheim"]"#,
        "line 1: it is no map of names",
    ),
    (Format::Yaml, "a: geheim\nb: [geheim", "line 2, column"),
    (
        Format::Yaml,
        "a: geheim\na: geheim",
        "line 2, column 1: it is no YAML",
    ),
    (Format::Yaml, "geheim", "line 1: it is no map of names"),
    (Format::Yaml, "a: geheim\n---\na: geheim", "it is no YAML"),
    (
        Format::Json,
        r#"{"a": {"b": "geheim"}, "a/b": "x"}"#,
        "`a/b` stands there twice",
    ),
    (Format::Sops(Store::Yaml), "a: geheim", "there is no `sops`"),
    (Format::Sops(Store::Json), "{}", "there is no `sops`"),
    (
        Format::Sops(Store::Dotenv),
        "a=geheim",
        "there is no `sops`",
    ),
];

/// Files with something wrong in them, and what is said of it. The word `geheim` is never told.
fn wrong_files() -> Vec<(Format, String, &'static str)> {
    let deep = |open: &str, close: &str| {
        let middle = "\"geheim\"";
        format!("{}{middle}{}", open.repeat(40), close.repeat(40))
    };
    let nested = [
        (
            Format::Json,
            deep("{\"a\":", "}"),
            "it is over 32 levels deep",
        ),
        (Format::Yaml, deep("{a: ", "}"), "levels deep"),
    ];
    let plain = WRONG.map(|(format, text, told)| (format, text.to_owned(), told));
    plain.into_iter().chain(nested).collect()
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_without_a_value() {
    for (format, text, told) in wrong_files() {
        let text = text.as_str();
        let said = wrong(format, text);
        assert!(said.contains(told), "{format:?} {text:?}: {said}");
        assert!(!said.contains("geheim"), "{said}");
    }
    let bytes = b"A=1\nB=\xff\xfe";
    let said = read(Format::Dotenv, bytes, &[]).unwrap_err().to_string();
    assert_eq!(said, "line 2: it is no UTF-8 text");
    let large = vec![b'#'; MOST_BYTES + 1];
    let said = read(Format::Dotenv, &large, &[]).unwrap_err();
    assert_eq!(said, ExchangeError::TooLarge);
    let many: String = (0..=MOST_ENTRIES).map(|n| format!("A{n}=1\n")).collect();
    let said = read(Format::Dotenv, many.as_bytes(), &[]).unwrap_err();
    assert_eq!(said, ExchangeError::TooMany);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let entries = [Entry::new("a/b", "1"), Entry::new("a.b", "2")];
    let said = write(Format::Dotenv, &entries, &[], NOW).unwrap_err();
    assert!(said.to_string().contains("the variable `a_b`"), "{said}");
    let bytes = [Entry::new("a", vec![0xff, 0xfe])];
    for format in ALL {
        let to = [identity().recipient().unwrap()];
        let said = write(format, &bytes, &to, NOW).unwrap_err();
        assert!(said.to_string().contains("`a` is no text"), "{said}");
    }
    let own = [Entry::new("sops", "x")];
    let to = [identity().recipient().unwrap()];
    assert!(write(Format::Sops(Store::Yaml), &own, &to, NOW).is_err());
    let own = [Entry::new("sops/x", "x")];
    assert!(write(Format::Sops(Store::Dotenv), &own, &to, NOW).is_err());
    assert!(write(Format::Sops(Store::Yaml), &own, &to, NOW).is_ok());
    assert_eq!(
        write(Format::Sops(Store::Yaml), &own, &[], NOW),
        Err(ExchangeError::NoRecipient)
    );
    assert!("sops".parse::<Format>().is_err());
    for word in Format::WORDS {
        assert!(word.parse::<Format>().is_ok(), "{word}");
    }
}

#[test]
fn names_of_files_tell_formats() {
    for (name, format) in [
        (".env", Some(Format::Dotenv)),
        ("a/.env.local", Some(Format::Dotenv)),
        ("prod.env", Some(Format::Dotenv)),
        ("x.JSON", Some(Format::Json)),
        ("a.enc.yaml", Some(Format::Yaml)),
        ("a.yml.age", Some(Format::Yaml)),
        ("environment", None),
        ("-", None),
    ] {
        assert_eq!(Format::of_name(name), format, "{name}");
    }
}

/// A file that SOPS made, and what its own `--decrypt` says of it.
#[test]
fn files_that_sops_made_are_read() {
    let yaml = include_str!("sops/made/types.yaml");
    let identities = [Identity::generate().unwrap(), identity()];
    let expected = pairs(&[
        ("db/password", "p#1 'q'"),
        ("db/port", "5432"),
        ("db/ratio", "1.5"),
        ("db/tls", "true"),
        ("db/none", ""),
        ("db/empty", ""),
        ("list", r#"["one",2]"#),
        ("open_unencrypted/since", "2020"),
        ("open_unencrypted/rate", "0.5"),
        ("open_unencrypted/on", "false"),
        ("multi", "line 1\nline 2\n"),
    ]);
    for format in [Format::Yaml, Format::Sops(Store::Yaml)] {
        let entries = read(format, yaml.as_bytes(), &identities).unwrap();
        assert_eq!(told(&entries), expected);
    }
    let json = include_str!("sops/made/types.json");
    let entries = read(Format::Json, json.as_bytes(), &identities).unwrap();
    let expected = [
        ("a", "x"),
        ("n", "12345678901"),
        ("f", "1.5"),
        ("o_unencrypted/z", "7"),
        ("o_unencrypted/y", "1000"),
        ("l", r#"["q",null]"#),
    ];
    assert_eq!(told(&entries), pairs(&expected));
    let env = include_str!("sops/made/types.env");
    let entries = read(Format::Dotenv, env.as_bytes(), &identities).unwrap();
    let expected = [
        ("A", "1"),
        ("B", "two words"),
        ("C", "line\nbreak"),
        ("D", ""),
    ];
    assert_eq!(told(&entries), pairs(&expected));
    let regex = include_str!("sops/made/regex.yaml");
    let entries = read(Format::Yaml, regex.as_bytes(), &identities).unwrap();
    let expected = [
        ("plain", "one"),
        ("secret_key", "two"),
        ("under/secret_x", "three"),
        ("under/y", "4"),
    ];
    assert_eq!(told(&entries), pairs(&expected));
}

#[test]
fn a_file_of_sops_that_was_changed_is_refused() {
    let identities = [identity()];
    let read = |text: &str| read(Format::Yaml, text.as_bytes(), &identities);
    let yaml = include_str!("sops/made/types.yaml");
    // Values in the open are under the MAC, and so are order and presence.
    for (from, to) in [
        ("since: 2020", "since: 2021"),
        ("\"on\": false", "\"on\": true"),
        ("rate: 0.5\n", "rate: 0.6\n"),
        ("    rate: 0.5\n", ""),
        (
            "    since: 2020\n    rate: 0.5\n",
            "    rate: 0.5\n    since: 2020\n",
        ),
        ("lastmodified: \"2026", "lastmodified: \"2025"),
        ("empty: \"\"", "empty: \"\"\n    more_unencrypted: x"),
    ] {
        let changed = yaml.replacen(from, to, 1);
        assert_ne!(changed, yaml, "{from}");
        assert_eq!(read(&changed), Err(ExchangeError::Mac), "{from}");
    }
    let without = |word: &str| {
        let lines = yaml.lines().filter(|line| !line.contains(word));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(read(&without("password:")), Err(ExchangeError::Mac));
    // A value is bound to its name.
    let moved = yaml.replacen("    password: ", "    passwort: ", 1);
    let said = read(&moved).unwrap_err().to_string();
    assert!(said.contains("`db/passwort` does not open"), "{said}");
    let open = yaml.replacen("port: ENC[", "port: \"5432\" #", 1);
    let said = read(&open).unwrap_err().to_string();
    assert!(said.contains("`db/port` should be encrypted"), "{said}");
    let said = super::read(Format::Yaml, yaml.as_bytes(), &[]).unwrap_err();
    assert_eq!(said, ExchangeError::NoIdentity);
    let others = [Identity::generate().unwrap()];
    let said = super::read(Format::Yaml, yaml.as_bytes(), &others).unwrap_err();
    assert_eq!(said, ExchangeError::Age(CryptoError::WrongKey));
    for (line, told) in [
        ("key_groups: [1]", "Shamir"),
        ("unencrypted_comment_regex: x", "rule by comments"),
        ("encrypted_regex: x", "more than one rule"),
    ] {
        let changed = yaml.replacen(
            "    unencrypted_suffix:",
            &format!("    {line}\n    unencrypted_suffix:"),
            1,
        );
        let said = read(&changed).unwrap_err().to_string();
        assert!(said.contains(told), "{said}");
    }
    // Without a MAC it is not looked at as one of SOPS, and says so when it must be.
    let said = super::read(
        Format::Sops(Store::Yaml),
        without("mac:").as_bytes(),
        &identities,
    );
    assert!(said.is_err());
}

/// What the repository of SOPS has for its own tests (`functional-tests/res`), with the data keys that its PGP
/// test key opens.
#[test]
fn the_reference_files_of_sops_come_out() {
    let key = |hex: &str| -> [u8; 32] {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(byte)
    };
    for (store, text, hex, expected) in REFERENCES {
        let tree = sops::tree(store, text, true).unwrap().unwrap();
        let entries = sops::read_by_key(tree, key(hex)).unwrap();
        assert_eq!(told(&entries), pairs(expected));
    }
}

type Reference = (
    Store,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const REFERENCES: [Reference; 4] = [
    (
        Store::Yaml,
        r#"foo: ENC[AES256_GCM,data:8CvE,iv:tjchf/lmMpXDOA1tLE/N4oY9IqJIzfQ/7NlvQlDUtoA=,tag:1aFCHIRp3j/VPNcCEsE95A==,type:str]
sops:
    lastmodified: "2026-05-22T20:16:23Z"
    mac: ENC[AES256_GCM,data:t5sIFo7psXtfOiPdp9psT3nmgO/sH2GojpOIluWadfDJGPIsucbPrj906LwpVqva/4bq7q1aUKhm7X4RwfkvVsdgRbKr6azww5uvTUFTN58Vi0jxyhSaUh96+aVK02SkPbzx5oSEK0R9M/ZWSKnP8VY6AKTlP6I3I2P8HAEK6xs=,iv:mhrVlCOWU0MnIYxnccGGFDCPAXsNwl9sopIm7f74kT8=,tag:w+XIuL4lhKHlgGOlclR2PA==,type:str]
    unencrypted_suffix: _unencrypted
    version: 3.13.1
"#,
        "af5e68dd342b72c6a0475f81a50da4fde898f4b7742c92cbcf1668211411f4e4",
        &[("foo", "bar")],
    ),
    (
        Store::Json,
        r#"{
	"foo": "ENC[AES256_GCM,data:fvD/,iv:k3Mzfy+W8e3JGCaehDIOwoJDFGOWGoV+peBYbWdmb70=,tag:FeziVN+GUFROjEiQl+RsSw==,type:str]",
	"sops": {
		"lastmodified": "2026-05-22T20:16:18Z",
		"mac": "ENC[AES256_GCM,data:5ISldk/tHEMc4/m4e+O5jSCxLIcJnzMzkKOTHcu9HfB+xRtEBX34CsIHByyFkRXNHkQQtcZwCDgBrqaTvbqD47vSVoqhcoV5PMSvShFaWUPLy2d1NdH+43+JBTPGVuae6No6H0xj1Wf5gE+Rj/Ql/g6o8EIz+uoPlBSmfyqHvWA=,iv:NsFPBoAsI1Nog0781MtAlPWFs7kveSvE+JMGUdekMRA=,tag:NX+MlNcRnCGPAq58ewLfHQ==,type:str]",
		"unencrypted_suffix": "_unencrypted",
		"version": "3.13.1"
	}
}
"#,
        "9f6aeda6383502c38f7dae6fbbb8cb6890582adb0335effa8952fe590d7a9596",
        &[("foo", "bar")],
    ),
    (
        Store::Dotenv,
        r#"foo =ENC[AES256_GCM,data:XBV7lQ==,iv:d1FvB2AftTKfYFDO2XspPuv5IKcRhrljmRNCtbWoj7Q=,tag:pprVAdWf3q4Bb4oRPXZlBQ==,type:str]
sops_lastmodified=2026-05-22T20:15:29Z
sops_mac=ENC[AES256_GCM,data:evEAiDYeDG8/wtRoQbbpbjsGYvSct7SGOsFVKnph18e+6xQ9xqV6IwAtkxlfAizUpnkJSYvzebj5ZwI93DEl+lr8gA+JKTxw7YtEr9NejTz6lXaJtjKUZ9dmzqWkUoI/rexbaMncet9SLeKldrpGwA2DNdwjBYGj5FI8nRuN6DU=,iv:fQ864RUZhmoDzyLaYV1ET3faFHnlOszNAtddT1/nAoo=,tag:c98HSPfDpN7abMb66clDWw==,type:str]
sops_unencrypted_suffix=_unencrypted
sops_version=3.13.1
"#,
        "322d9a97997823fb2bf42f55a6c26100cbaf0520cf88bb7ebee1cf47dd6d318d",
        &[("foo ", " bar")],
    ),
    (
        Store::Yaml,
        r#"#ENC[AES256_GCM,data:IYA+b4ORDq8u9CBQolipWD4HRqoZyA==,iv:F8ldQqGng+WptHuBkFtjrGM+7sRZCsvd0FHq98lrpAE=,tag:ZHbLU9+CELinf5PhhuIzSQ==,type:comment]
lorem: ENC[AES256_GCM,data:PhmSdTs=,iv:J5ugEWq6RfyNx+5zDXvcTdoQ18YYZkqesDED7LNzou4=,tag:0Qrom6J6aUnZMZzGz5XCxw==,type:str]
#ENC[AES256_GCM,data:HiHCasVRzWUiFxKb3X/AcEeM,iv:bmNg+T91dqGk/CEtVH+FDC53osDCEPmWmJKpLyAU5OM=,tag:bTLDYxQSAfYDCBYccoUokQ==,type:comment]
dolor: ENC[AES256_GCM,data:IgvT,iv:wtPNYbDTARFE810PH6ldOLzCDcAjkB/dzPsZjpgHcko=,tag:zwE8P+AwO1hrHkgF6pTbZw==,type:str]
sops:
    lastmodified: '2020-10-07T15:49:13Z'
    mac: ENC[AES256_GCM,data:2dhyKdHYSynjXPwYrn9356wA7vRKw+T5qwBenI2vZrgthpQBOCQG4M6f7eeH3VLTxB4mN4CAchb25dsNRoGr6A38VruaSSAhPco3Rh4AlvKSvXuhgRnzZvNxE/bnHX1D4K5cdTb4FsJg/Ue1l7UcWrlrv1s3H3SwLHP/nf+suD0=,iv:6xBYURjjaQzlUOKOrs2NWOChiNFZVAGPJZQZ59MwX3o=,tag:uXD5VYme+c8eHcCc5TD2YA==,type:str]
    unencrypted_suffix: _unencrypted
    version: 3.6.1
"#,
        "61bec946f5783fd4cea3d1b1ce407fce2b6e81fc301cc539c422015e27f6d1be",
        &[("lorem", "ipsum"), ("dolor", "sit")],
    ),
];

#[test]
fn what_is_written_comes_in_again() {
    let one = Identity::generate().unwrap();
    let other = Identity::generate().unwrap();
    let to = [one.recipient().unwrap(), other.recipient().unwrap()];
    let entries = [
        Entry::new("A", "simple"),
        Entry::new("B_unencrypted", "a$b`c'd\"e\\f#g \u{85}\u{2028}\u{feff}🐝"),
        Entry::new("C", "one\ntwo\r\n\ttab "),
        Entry::new("no", "no"),
        Entry::new("PEM", "-----BEGIN X-----\nabc\n-----END X-----\n"),
        Entry::new("E", "ENC[AES256_GCM,data:x]"),
        Entry::new("N", "007"),
    ];
    for format in ALL {
        let text = write(format, &entries, &to, NOW).unwrap();
        assert!(!text.windows(6).any(|it| it == b"simple"), "{format:?}");
        for identity in [&one, &other] {
            let again = read(format, &text, std::slice::from_ref(identity)).unwrap();
            assert_eq!(told(&again), told(&entries), "{format:?}");
        }
        if let Format::Sops(_) = format {
            continue;
        }
        let open = write(format, &entries, &[], NOW).unwrap();
        assert_eq!(told(&read(format, &open, &[]).unwrap()), told(&entries));
    }
    // Names that are no variables' keep their form where that is possible.
    let entries = [
        Entry::new("a/b.c", "1"),
        Entry::new("a", "2"),
        Entry::new("1", "3"),
    ];
    for format in [Format::Json, Format::Yaml, Format::Sops(Store::Yaml)] {
        let text = write(format, &entries, &to, NOW).unwrap();
        let again = read(format, &text, std::slice::from_ref(&one)).unwrap();
        assert_eq!(told(&again), told(&entries));
    }
    let text = write(Format::Dotenv, &entries, &[], NOW).unwrap();
    assert_eq!(*text, b"a_b_c=1\na=2\n_1=3\n");
    for format in [Format::Json, Format::Yaml] {
        let none = write(format, &[], &[], NOW).unwrap();
        assert_eq!(read(format, &none, &[]).unwrap(), []);
    }
}

proptest! {
    #[test]
    fn any_value_comes_in_again(values in proptest::collection::vec("(?s).{1,40}", 1..6)) {
        let entries: Vec<Entry> = values
            .iter()
            .enumerate()
            .map(|(at, value)| Entry::new(format!("K{at}"), value.as_str()))
            .collect();
        for format in [Format::Dotenv, Format::Json, Format::Yaml] {
            let text = write(format, &entries, &[], NOW).unwrap();
            let again = read(format, &text, &[]).unwrap();
            prop_assert_eq!(told(&again), told(&entries), "{:?}", format);
        }
    }

    #[test]
    fn any_text_is_read_without_harm(text in "(?s).{0,200}") {
        for format in ALL {
            let _ = read(format, text.as_bytes(), &[]);
        }
    }

    #[test]
    fn any_words_are_read_without_harm(
        words in proptest::collection::vec("(A|=|\"|'|\\\\|\n|\\{|\\}|\\[|:|, |- |sops|mac|ENC|&a|\\*a|0x1|#| )", 0..40),
    ) {
        for format in ALL {
            let _ = read(format, words.concat().as_bytes(), &[]);
        }
    }
}
