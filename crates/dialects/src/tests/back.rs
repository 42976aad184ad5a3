//! What a dialect can say comes back as it was said: requests and answers of no dialect, written and read.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Number;

use crate::json::{Json, Object};
use crate::neutral::{
    Answer, Call, Choice, Effort, Format, Kind, Media, Mode, Outcome, Part, Place, Reasoning,
    Request, Role, Signature, Source, Stop, Thought, Tool, Turn,
};
use crate::translate::{read_answer, read_request, write_answer, write_request};
use crate::*;

const ALL: [Dialect; 4] = [
    Dialect::Chat,
    Dialect::Messages,
    Dialect::Gemini,
    Dialect::Responses,
];

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z \"\\\\é\n{}]{1,12}"
}

fn text() -> impl Strategy<Value = Part> {
    word().prop_map(Part::Text)
}

fn object() -> impl Strategy<Value = Json> {
    prop::collection::btree_map("[a-z]{1,5}", word(), 0..4).prop_map(|fields| {
        // Not in the order of the alphabet, which must be kept.
        let fields = fields.into_iter().rev();
        Json::Object(fields.map(|(name, text)| (name, text.into())).collect())
    })
}

fn data(kind: Kind, mime: &'static str, name: Option<&'static str>) -> Media {
    Media {
        kind,
        source: Source::Data {
            mime: mime.to_owned(),
            data: "AAAA".to_owned(),
        },
        name: name.map(str::to_owned),
        detail: None,
        at: Place::default(),
    }
}

fn at_url(kind: Kind, url: &str, detail: Option<&str>) -> Media {
    let mut media = Media::of_url(kind, url.to_owned(), String::new()).unwrap();
    media.detail = detail.map(str::to_owned);
    media
}

fn media(dialect: Dialect) -> impl Strategy<Value = Part> {
    let image = data(Kind::Image, "image/png", None);
    let url = "https://x.test/a.png";
    let known = match dialect {
        Dialect::Chat => vec![
            image,
            at_url(Kind::Image, url, Some("high")),
            data(Kind::File, "application/pdf", Some("a.pdf")),
            data(Kind::Audio, "audio/wav", None),
        ],
        Dialect::Messages => vec![
            image,
            at_url(Kind::Image, url, None),
            data(Kind::File, "application/pdf", Some("a.pdf")),
            at_url(Kind::File, "https://x.test/a.pdf", None),
        ],
        Dialect::Gemini => vec![
            image,
            at_url(Kind::Image, url, None),
            data(Kind::File, "application/pdf", None),
            data(Kind::Audio, "audio/mp3", None),
        ],
        _ => vec![
            image,
            at_url(Kind::Image, url, Some("low")),
            data(Kind::File, "application/pdf", Some("a.pdf")),
            at_url(Kind::File, "https://x.test/a.pdf", None),
        ],
    };
    select(known).prop_map(Part::Media)
}

fn signature(dialect: Dialect) -> Option<Signature> {
    let text = match dialect {
        Dialect::Chat => return None,
        Dialect::Responses => "rs_1.abc=",
        _ => "abc=",
    };
    Some(Signature {
        of: dialect,
        text: text.to_owned(),
    })
}

fn thought(dialect: Dialect) -> impl Strategy<Value = Part> {
    word().prop_map(move |text| {
        Part::Thought(Thought {
            text,
            signature: signature(dialect),
            is_hidden: false,
        })
    })
}

/// What a model says before it calls, its calls, and what comes of them.
fn exchange(dialect: Dialect) -> impl Strategy<Value = Vec<(Role, Vec<Part>)>> {
    let user = prop_oneof![3 => text().boxed(), 1 => media(dialect).boxed()];
    let users = prop::collection::vec(user, 1..3);
    let thought = option::of(thought(dialect));
    let said = option::of(text());
    let has_errors = matches!(dialect, Dialect::Messages | Dialect::Gemini);
    let calls = prop::collection::vec(("[a-z]{1,5}", object(), word(), any::<bool>()), 0..3);
    (users, thought, said, calls, any::<u32>()).prop_map(
        move |(users, thought, said, calls, number)| {
            let mut model: Vec<Part> = Vec::new();
            let has_thoughts = matches!(dialect, Dialect::Messages | Dialect::Responses);
            model.extend(thought.filter(|_| has_thoughts));
            model.extend(said);
            let mut results = Vec::new();
            for (at, (name, arguments, result, is_error)) in calls.into_iter().enumerate() {
                let id = format!("call_{number}_{at}");
                let is_signed = matches!(dialect, Dialect::Gemini | Dialect::Chat);
                model.push(Part::Call(Call {
                    id: id.clone(),
                    name,
                    arguments: arguments.to_string(),
                    signature: signature(Dialect::Gemini).filter(|_| is_signed && at == 0),
                    at: Place::default(),
                }));
                results.push(Part::Result(Outcome {
                    id,
                    parts: vec![Part::Text(result)],
                    is_error: is_error && has_errors,
                    at: Place::default(),
                }));
            }
            if model.is_empty() {
                model.push(Part::Text("so".to_owned()));
            }
            vec![
                (Role::User, users),
                (Role::Assistant, model),
                (Role::User, results),
            ]
        },
    )
}

fn number(numbers: &'static [f64]) -> impl Strategy<Value = Option<Number>> {
    option::of(select(numbers).prop_map(|number| Number::from_f64(number).unwrap()))
}

fn schema() -> impl Strategy<Value = Json> {
    object().prop_map(|properties| {
        Object::typed("object")
            .with("properties", properties)
            .into()
    })
}

fn tools(dialect: Dialect) -> impl Strategy<Value = Vec<Tool>> {
    let strict = match dialect {
        Dialect::Gemini => Just(None).boxed(),
        Dialect::Responses => any::<bool>().prop_map(Some).boxed(),
        _ => any::<Option<bool>>().boxed(),
    };
    let tool = ("[a-z]{1,9}", option::of(word()), schema(), strict);
    let tool = tool.prop_map(|(name, description, schema, strict)| Tool {
        name,
        description,
        schema: Some(schema),
        strict,
    });
    prop::collection::vec(tool, 0..3)
}

fn reasoning(dialect: Dialect) -> impl Strategy<Value = Reasoning> {
    let make = |mode, effort, show| Reasoning { mode, effort, show };
    let (low, high) = (Some(Effort::Low), Some(Effort::High));
    let adaptive = Some(Mode::Adaptive);
    let known = match dialect {
        Dialect::Chat => vec![
            make(Some(Mode::Off), None, None),
            make(adaptive, Some(Effort::Minimal), None),
            make(adaptive, Some(Effort::XHigh), None),
        ],
        Dialect::Messages => vec![
            make(Some(Mode::Off), None, None),
            make(Some(Mode::Budget(2000)), None, Some(true)),
            make(adaptive, Some(Effort::Max), Some(false)),
            make(adaptive, None, Some(true)),
            make(None, low, None),
        ],
        Dialect::Gemini => vec![
            make(Some(Mode::Off), None, None),
            make(Some(Mode::Budget(2000)), None, Some(true)),
            make(adaptive, None, Some(false)),
            make(adaptive, high, None),
        ],
        _ => vec![
            make(Some(Mode::Off), None, None),
            make(adaptive, high, Some(true)),
        ],
    };
    prop_oneof![Just(Reasoning::default()), select(known)]
}

fn format(dialect: Dialect) -> impl Strategy<Value = Option<Format>> {
    let is_named = matches!(dialect, Dialect::Chat | Dialect::Responses);
    let schema = (schema(), any::<Option<bool>>()).prop_map(move |(schema, strict)| {
        Some(Format::Schema {
            name: is_named.then(|| "form".to_owned()),
            schema,
            strict: if is_named { strict } else { Some(true) },
        })
    });
    let json = Some(Format::Json).filter(|_| dialect != Dialect::Messages);
    prop_oneof![Just(None), Just(json), schema]
}

fn request(dialect: Dialect) -> impl Strategy<Value = Request> {
    let turns = (
        option::of(text()),
        prop::collection::vec(exchange(dialect), 1..3),
    );
    let choice = option::of(select(vec![
        Choice::Auto,
        Choice::Any,
        Choice::Never,
        Choice::Tool("a".to_owned()),
    ]));
    let called = (tools(dialect), choice, any::<Option<bool>>());
    let sampling = (
        number(&[0.0, 0.5, 1.0]),
        number(&[0.25, 0.9]),
        number(&[0.5]),
        prop::collection::vec(word(), 0..3),
        option::of(1..9000_u64),
    );
    let form = (format(dialect), reasoning(dialect), any::<bool>());
    let plain = any::<bool>();
    (turns, called, sampling, form, plain).prop_map(
        move |((system, exchanges), (tools, choice, parallel), sampling, form, plain)| {
            use Dialect::{Chat, Gemini, Messages, Responses};
            let mut made = Request::new(dialect);
            let (temperature, top_p, penalty, stops, most) = sampling;
            let can = |those: &[Dialect]| those.contains(&dialect);
            if let Some(system) = system {
                made.say(Role::System, vec![system], "");
            }
            for (role, parts) in exchanges.into_iter().flatten() {
                made.say(role, parts, "");
            }
            let has_tools = !tools.is_empty();
            made.tools = tools;
            made.choice = choice.filter(|_| has_tools);
            let has_choice = !matches!(made.choice, None | Some(Choice::Never));
            let can_parallel = has_tools && !can(&[Gemini]) && (has_choice || !can(&[Messages]));
            made.parallel = parallel.filter(|_| can_parallel);
            made.temperature = temperature;
            made.top_p = top_p;
            made.top_k = can(&[Messages, Gemini]).then(|| 40.into());
            made.seed = can(&[Chat, Gemini]).then(|| 7.into());
            made.frequency_penalty = penalty.clone().filter(|_| can(&[Chat, Gemini]));
            made.presence_penalty = penalty.filter(|_| can(&[Chat, Gemini]));
            made.stops = if can(&[Responses]) { Vec::new() } else { stops };
            made.most_output = most.or(can(&[Messages]).then_some(5));
            made.verbosity = can(&[Chat, Responses]).then(|| "low".to_owned());
            (made.format, made.reasoning, made.stream) = form;
            made.stream &= !can(&[Gemini]);
            made.usage_asked = made.stream || !can(&[Chat]);
            if plain {
                // What every dialect can say.
                made.top_k = None;
                made.seed = None;
                made.frequency_penalty = None;
                made.presence_penalty = None;
                made.stops = Vec::new();
                made.verbosity = None;
                made.parallel = None;
                made.format = made.format.filter(|format| *format != Format::Json);
            }
            made
        },
    )
}

/// The turns of one side that follow each other as one.
fn joined(mut request: Request) -> Request {
    let mut turns: Vec<Turn> = Vec::new();
    for turn in request.turns {
        match turns.last_mut().filter(|last| last.role == turn.role) {
            Some(last) => last.parts.extend(turn.parts),
            None => turns.push(turn),
        }
    }
    turns.retain(|turn| !turn.parts.is_empty());
    request.turns = turns;
    request
}

fn answer(dialect: Dialect) -> impl Strategy<Value = Answer> {
    let calls = prop::collection::vec(("[a-z]{1,5}", object()), 0..3);
    let tokens = (1..50_u64, 0..50_u64, 0..50_u64, 0..50_u64, 0..50_u64);
    let stop = select(vec![Stop::End, Stop::Length, Stop::Filter]);
    let said = (option::of(thought(dialect)), option::of(text()), calls);
    (said, stop, tokens).prop_map(move |((thought, said, calls), stop, tokens)| {
        let mut parts: Vec<Part> = thought.into_iter().chain(said).collect();
        let has_calls = !calls.is_empty();
        for (at, (name, arguments)) in calls.into_iter().enumerate() {
            let is_signed = matches!(dialect, Dialect::Gemini | Dialect::Chat);
            parts.push(Part::Call(Call {
                id: format!("call_{at}"),
                name,
                arguments: arguments.to_string(),
                signature: signature(Dialect::Gemini).filter(|_| is_signed && at == 0),
                at: Place::default(),
            }));
        }
        let stop = match (has_calls, stop) {
            (true, Stop::End) => Stop::Calls,
            (false, Stop::Length) if dialect == Dialect::Messages => Stop::Text("X".to_owned()),
            (_, stop) => stop,
        };
        let (plain, read, write, output, reasoning) = tokens;
        let write = if dialect == Dialect::Gemini { 0 } else { write };
        Answer {
            id: "id1".to_owned(),
            model: "m".to_owned(),
            created: matches!(dialect, Dialect::Chat | Dialect::Responses).then_some(77),
            parts,
            stop,
            usage: Usage {
                input: plain + read + write,
                cache_read: read,
                cache_write: write,
                output: output + reasoning,
                reasoning,
            },
        }
    })
}

fn dialects<T: std::fmt::Debug + 'static, S: Strategy<Value = T> + 'static>(
    of: fn(Dialect) -> S,
) -> impl Strategy<Value = (Dialect, T)> {
    select(ALL.to_vec()).prop_flat_map(move |dialect| (Just(dialect), of(dialect)))
}

proptest! {
    #[test]
    fn requests_come_back((dialect, request) in dialects(request)) {
        let made = write_request(dialect, dialect, &request, "m").unwrap();
        let body = made.to_string();
        let again = Json::read(body.as_bytes()).unwrap();
        prop_assert_eq!(&again, &made);
        let read = read_request(dialect, dialect, again);
        let mut read = read.map_err(|error| TestCaseError::fail(format!("{error} in {body}")))?;
        read.stream |= dialect == Dialect::Gemini && request.stream;
        prop_assert_eq!(joined(read), joined(request), "{}", body);
        // A broker reads the same of it.
        let seen = glance(dialect, body.as_bytes()).unwrap();
        prop_assert_eq!(seen.answers, 1);
    }

    #[test]
    fn answers_come_back((dialect, answer) in dialects(answer)) {
        let made = write_answer(dialect, dialect, &answer, &Memory::default()).unwrap();
        let body = made.to_string();
        let read = read_answer(dialect, dialect, body.as_bytes());
        let read = read.map_err(|error| TestCaseError::fail(format!("{error} in {body}")))?;
        prop_assert_eq!(read, answer, "{}", body);
    }

    #[test]
    fn what_another_says_is_said_or_refused((from, request) in dialects(request), to in select(ALL.to_vec())) {
        let body = write_request(from, from, &request, "m").unwrap().to_string();
        match translate_request(from, to, body.as_bytes(), "other", request.stream) {
            Ok((made, memory)) => {
                prop_assert_eq!(memory.stream, request.stream);
                let seen = glance(to, &made).unwrap();
                let there = glance(from, body.as_bytes()).unwrap();
                prop_assert_eq!(seen.media, there.media);
                let again = read_request(to, to, Json::read(&made).unwrap()).unwrap();
                prop_assert_eq!(said(&again), said(&request));
            }
            Err(Untranslatable::Field { field, .. }) => prop_assert!(!field.is_empty()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn a_request_with_any_damage_is_survived(
        (from, request) in dialects(request), to in select(ALL.to_vec()), at in any::<usize>(),
        with in select(vec!["", "\"", "{", "]", "null", "\\", "7", "[]", "{}"]), length in 0..12_usize,
    ) {
        let mut body = write_request(from, from, &request, "m").unwrap().to_string().into_bytes();
        let at = at % body.len();
        let end = (at + length).min(body.len());
        body.splice(at..end, with.bytes());
        let seen = glance(from, &body);
        if let Ok((made, _)) = translate_request(from, to, &body, "m", false) {
            prop_assert!(glance(to, &made).is_ok());
            prop_assert!(seen.is_ok(), "what a broker cannot read is not translated");
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), from in select(ALL.to_vec()), to in select(ALL.to_vec())) {
        let _ = translate_request(from, to, &bytes, "m", true);
        let _ = translate_answer(from, to, &bytes, &Memory::default());
        let _ = translate_error(from, to, 500, &bytes);
        let mut stream = StreamTranslation::new(from, to, &Memory::default()).unwrap();
        let _ = (stream.push(&bytes), stream.finish());
    }
}

/// How long the worst takes that a body of a size can hold: run by hand, with optimisation.
#[test]
#[ignore = "a measurement"]
fn the_worst_is_bearable() {
    let call = r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}"#;
    let calls = format!(
        r#"{{"role":"assistant","tool_calls":[{}]}}"#,
        vec![call; 100_000].join(",")
    );
    let result = r#"{"role":"tool","tool_call_id":"d","content":"x"}"#;
    let results = vec![result; 100_000].join(",");
    let many = format!(r#"{{"model":"m","messages":[{calls},{results}]}}"#);
    let keys: Vec<String> = (0..900_000).map(|at| format!("\"k{at}\":1")).collect();
    let wide = format!(r#"{{"model":"m","messages":[],{}}}"#, keys.join(","));
    let small = format!(
        r#"{{"model":"m","messages":[{}0]}}"#,
        "0,".repeat(1_000_000)
    );
    for (name, body) in [("calls", many), ("fields", wide), ("values", small)] {
        for to in ALL {
            let start = std::time::Instant::now();
            let made = translate_request(Dialect::Chat, to, body.as_bytes(), "m", false);
            let (bytes, took) = (body.len(), start.elapsed());
            println!(
                "{name} to {to:?}: {bytes} bytes, {took:?}, {}",
                made.is_ok()
            );
        }
    }
}

/// The texts and calls of a request, in order by sort, whatever else can be said of them.
fn said(request: &Request) -> Vec<String> {
    let mut all = Vec::new();
    for part in request.turns.iter().flat_map(|turn| &turn.parts) {
        match part {
            Part::Text(text) => all.push(text.clone()),
            Part::Call(call) => all.push(format!("{} {} {}", call.id, call.name, call.arguments)),
            Part::Result(outcome) => {
                let text = outcome.text().unwrap();
                let text = text.strip_prefix("Error: ").unwrap_or(&text).to_owned();
                all.push(format!("{} {text}", outcome.id));
            }
            _ => {}
        }
    }
    // Results go before what a user says with them.
    all.sort();
    all
}
