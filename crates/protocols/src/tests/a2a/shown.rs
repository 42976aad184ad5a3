//! What a client holds that takes over all that it is told is the task, whenever it came and whatever became of attempts.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::a2a::{
    Artifact, Content, Message, Part, REJECTED, Role, StreamResponse, Task, TaskState, TaskView,
    Version,
};
use crate::adapt::Protocol;
use crate::agui::{Body, End, Event, Interrupt, Outcome, RunAgentInput, Said};
use crate::stream::frame;
use crate::tests::random;
use crate::{EventId, Recorder, Shown, View};

/// What is recorded of an attempt whose agent speaks AG-UI and says these; the piece that each of them becomes.
fn recorded(input: &RunAgentInput, attempt: u32, said: &[Event]) -> Vec<Vec<u8>> {
    let head = (attempt, 200, "text/event-stream");
    let mut recorder = Recorder::new(Protocol::Agui, input, head);
    let mut all: Vec<Vec<u8>> = said
        .iter()
        .map(|event| recorder.push(&frame(event, None)))
        .collect();
    all.push(recorder.finish());
    all
}

fn ids(bytes: &[u8]) -> Vec<EventId> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("id: "));
    lines.map(|it| it.parse().unwrap()).collect()
}

fn new(input: &RunAgentInput) -> TaskView {
    let asked = Message::new("q", Role::User, vec![Part::text("Hi")]);
    let task = Task::submitted("task", "thread", asked, 0);
    TaskView::new(task, input)
}

/// A client that takes over what it is told, as the official ones do.
#[derive(Default)]
struct Client {
    task: Option<Task>,
    /// Artifacts of which nothing more is to come.
    whole: Vec<String>,
}

impl Client {
    fn take(&mut self, told: &[StreamResponse]) {
        for one in told {
            for version in [Version::V1_0, Version::V0_3] {
                let written = one.wire(version);
                assert!(!written.to_string().contains("null,"), "{written}");
            }
            match one {
                StreamResponse::Task(task) => {
                    assert!(self.task.is_none(), "a task is told once");
                    self.task = Some(task.clone());
                }
                StreamResponse::Message(_) => panic!("a task was begun"),
                StreamResponse::StatusUpdate(update) => {
                    let task = self.task.as_mut().unwrap();
                    assert_eq!(
                        (&update.task_id, &update.context_id),
                        (&task.id, &task.context_id)
                    );
                    assert!(
                        follows(task.status.state, update.status.state),
                        "{update:?}"
                    );
                    task.status = update.status.clone();
                }
                StreamResponse::ArtifactUpdate(update) => {
                    let task = self.task.as_mut().unwrap();
                    assert_eq!(task.status.state, TaskState::Working);
                    let Artifact { id, parts, .. } = &update.artifact;
                    assert!(!parts.is_empty());
                    let there = task.artifacts.iter().position(|it| it.id == *id);
                    let is_gone = update.metadata.is_some();
                    match there {
                        Some(at) if is_gone => drop(task.artifacts.remove(at)),
                        Some(at) if update.append => {
                            assert!(!self.whole.contains(id), "{id} was whole");
                            task.artifacts[at].parts.extend(parts.clone());
                        }
                        Some(at) => task.artifacts[at] = update.artifact.clone(),
                        None => {
                            assert!(!update.append && !is_gone, "{id} is not known");
                            task.artifacts.push(update.artifact.clone());
                        }
                    }
                    self.whole.retain(|it| it != id);
                    if update.last_chunk && !is_gone {
                        self.whole.push(id.clone());
                    }
                }
            }
        }
    }

    fn task(self) -> Task {
        let mut task = self.task.unwrap();
        for artifact in &mut task.artifacts {
            let mut parts: Vec<Part> = Vec::new();
            for part in artifact.parts.drain(..) {
                match (parts.last_mut().map(|it| &mut it.content), &part.content) {
                    (Some(Content::Text(text)), Content::Text(more)) => text.push_str(more),
                    _ => parts.push(part),
                }
            }
            artifact.parts = parts;
        }
        task
    }
}

/// Whether a task may stand so, behind that.
fn follows(before: TaskState, after: TaskState) -> bool {
    match before {
        TaskState::Submitted => after != TaskState::Submitted,
        TaskState::Working => after != TaskState::Submitted,
        _ => false,
    }
}

/// What of a task is the same whenever somebody came.
fn lasting(task: &Task) -> (TaskState, Vec<Artifact>, Vec<Message>) {
    let mut artifacts = task.artifacts.clone();
    artifacts.sort_by(|one, other| one.id.cmp(&other.id));
    (task.status.state, artifacts, task.history.clone())
}

/// What of a task is texts of the agent, and what the conversation says of them.
fn texts(view: &TaskView, shown: &View, input: &RunAgentInput) -> [Vec<(String, String)>; 2] {
    let of = |it: &Artifact| {
        let text = it
            .parts
            .iter()
            .filter_map(Part::as_text)
            .collect::<String>();
        (it.id.clone(), text)
    };
    let artifacts = view.task().artifacts.iter();
    let mut told: Vec<_> = artifacts.filter(|it| it.name.is_none()).map(of).collect();
    let is_new = |id: &str| input.messages.iter().all(|it| it.id != id);
    let said = shown.fold().messages().iter();
    let said = said.filter(|it| matches!(it.said, Said::Assistant { .. }) && is_new(&it.id));
    let said = said.map(|it| (it.id.clone(), it.text()));
    let mut said: Vec<_> = said.filter(|(_, text)| !text.is_empty()).collect();
    told.sort();
    said.sort();
    [told, said]
}

/// Takes over what is shown, and gives what is told.
fn fed(view: &mut TaskView, shown: &[Shown]) -> Vec<StreamResponse> {
    shown.iter().flat_map(|it| view.push(it, 1)).collect()
}

proptest! {
    #[test]
    fn a_client_comes_to_the_task(said in random::events(), at in any::<prop::sample::Index>()) {
        let input = random::input();
        let bytes = recorded(&input, 1, &said).concat();
        let mut shown = View::new(input.clone(), None);
        let mut all = shown.begin();
        all.extend(shown.attempt());
        all.extend(shown.push(&bytes).unwrap());
        all.extend(shown.end(End::Finished).unwrap());
        let mut view = new(&input);
        let mut client = Client::default();
        // Some come when it has begun long ago.
        let (before, after) = all.split_at(at.index(all.len()));
        prop_assert_eq!(fed(&mut view, before), []);
        client.take(&[view.begin()]);
        client.take(&fed(&mut view, after));
        prop_assert!(view.is_over());
        prop_assert_eq!(&client.task(), view.task());
        let [told, said] = texts(&view, &shown, &input);
        prop_assert_eq!(told, said);
        prop_assert_eq!(fed(&mut view, &all), []);
    }

    #[test]
    fn who_comes_back_comes_to_the_same_task(said in random::events(), at in any::<prop::sample::Index>()) {
        let input = random::input();
        let bytes = recorded(&input, 2, &said).concat();
        let mut whole = new(&input);
        let mut shown = View::new(input.clone(), None);
        fed(&mut whole, &shown.begin());
        fed(&mut whole, &shown.push(&bytes).unwrap());
        fed(&mut whole, &shown.end(End::Finished).unwrap());
        let mut late = View::new(input.clone(), Some(*at.get(&ids(&bytes))));
        let mut all = late.attempt();
        all.extend(late.push(&bytes).unwrap());
        all.extend(late.end(End::Finished).unwrap());
        let mut view = new(&input);
        let mut client = Client::default();
        client.take(&[view.begin()]);
        client.take(&fed(&mut view, &all));
        prop_assert_eq!(&client.task(), view.task());
        prop_assert_eq!(lasting(view.task()), lasting(whole.task()));
    }

    #[test]
    fn what_a_cut_attempt_said_is_taken_back(
        first in random::events(), second in random::events(), cut in any::<prop::sample::Index>(),
    ) {
        let input = random::input();
        let before = recorded(&input, 1, &first);
        let kept = cut.index(before.len());
        let mut shown = View::new(input.clone(), None);
        let mut all = shown.begin();
        all.extend(shown.attempt());
        all.extend(shown.push(&before[..kept].concat()).unwrap());
        prop_assume!(!all.last().is_some_and(|it| it.event.is_end()));
        let mut view = new(&input);
        let mut client = Client::default();
        client.take(&[view.begin()]);
        client.take(&fed(&mut view, &all));
        client.take(&fed(&mut view, &shown.attempt()));
        prop_assert_eq!(&view.task().artifacts, &[]);
        client.take(&fed(&mut view, &shown.push(&recorded(&input, 2, &second).concat()).unwrap()));
        client.take(&fed(&mut view, &shown.end(End::Finished).unwrap()));
        prop_assert_eq!(&client.task(), view.task());
        let [told, said] = texts(&view, &shown, &input);
        prop_assert_eq!(told, said);
    }

    #[test]
    fn what_is_kept_of_a_run_is_the_same_task(said in random::events()) {
        let input = random::input();
        let bytes = recorded(&input, 1, &said).concat();
        let mut whole = new(&input);
        let mut shown = View::new(input.clone(), None);
        fed(&mut whole, &shown.begin());
        fed(&mut whole, &shown.push(&bytes).unwrap());
        fed(&mut whole, &shown.end(End::Finished).unwrap());
        let fold = shown.fold();
        let mut view = new(&input);
        view.settle(fold.messages().to_vec(), fold.end().unwrap().body.clone(), 1);
        prop_assert_eq!(lasting(view.task()), lasting(whole.task()));
    }
}

fn text(delta: &str) -> Event {
    Body::TextMessageChunk {
        message_id: Some("m".to_owned()),
        role: None,
        delta: Some(delta.to_owned()),
        name: None,
    }
    .into()
}

fn ended(outcome: Option<Outcome>) -> Event {
    Body::RunFinished {
        thread_id: String::new(),
        run_id: String::new(),
        result: None,
        outcome,
        usage: Vec::new(),
    }
    .into()
}

/// All that is told of a run whose agent says these.
fn told(said: &[Event]) -> (Vec<StreamResponse>, Task) {
    let input = RunAgentInput::new("thread", "run");
    let mut shown = View::new(input.clone(), None);
    let mut view = new(&input);
    let mut told = vec![view.begin()];
    told.extend(fed(&mut view, &shown.begin()));
    let bytes = recorded(&input, 1, said).concat();
    told.extend(fed(&mut view, &shown.push(&bytes).unwrap()));
    told.extend(fed(&mut view, &shown.end(End::Finished).unwrap()));
    let mut client = Client::default();
    client.take(&told);
    assert_eq!(&client.task(), view.task());
    (told, view.task().clone())
}

#[test]
fn a_run_is_told_in_the_words_of_each_version() {
    let step = Event::from(Body::StepStarted {
        step_name: "search".to_owned(),
    });
    let (told, _) = told(&[step, text("Hel"), text("lo"), ended(None)]);
    let newer: Vec<Value> = told.iter().map(|it| it.wire(Version::V1_0)).collect();
    let time = "1970-01-01T00:00:00.000Z";
    let at = |mut of: Value| {
        of["taskId"] = "task".into();
        of["contextId"] = "thread".into();
        of
    };
    let note = at(
        json!({ "messageId": "run.1.2", "role": "ROLE_AGENT", "parts": [{ "text": "search" }] }),
    );
    let chunk = |text: &str, append: bool, last: bool| {
        let artifact = json!({ "artifactId": "m", "parts": [{ "text": text }] });
        json!({ "artifactUpdate": at(json!({ "artifact": artifact, "append": append, "lastChunk": last })) })
    };
    let asked = at(json!({ "messageId": "q", "role": "ROLE_USER", "parts": [{ "text": "Hi" }] }));
    let wanted = [
        json!({ "task": { "id": "task", "contextId": "thread", "history": [asked],
            "status": { "state": "TASK_STATE_SUBMITTED", "timestamp": time } } }),
        json!({ "statusUpdate": at(json!({ "status": { "state": "TASK_STATE_WORKING", "message": note, "timestamp": time } })) }),
        chunk("Hel", false, false),
        chunk("lo", true, false),
        chunk("", true, true),
        json!({ "statusUpdate": at(json!({ "status": { "state": "TASK_STATE_COMPLETED", "timestamp": time } })) }),
    ];
    assert_eq!(newer, wanted);
    let older: Vec<Value> = told.iter().map(|it| it.wire(Version::V0_3)).collect();
    let kinds: Vec<&Value> = older.iter().map(|it| &it["kind"]).collect();
    let update = "artifact-update";
    assert_eq!(
        kinds,
        [
            "task",
            "status-update",
            update,
            update,
            update,
            "status-update"
        ]
    );
    assert_eq!(older[0]["status"]["state"], "submitted");
    let asked = at(json!({ "kind": "message", "messageId": "q", "role": "user",
        "parts": [{ "kind": "text", "text": "Hi" }] }));
    assert_eq!(older[0]["history"], json!([asked]));
    assert_eq!(older[1]["final"], false);
    assert_eq!(older[5]["final"], true);
    assert_eq!(
        older[2]["artifact"]["parts"],
        json!([{ "kind": "text", "text": "Hel" }])
    );
}

fn interrupt(id: &str, reason: &str, message: Option<&str>) -> Interrupt {
    Interrupt {
        id: id.to_owned(),
        reason: reason.to_owned(),
        message: message.map(str::to_owned),
        tool_call_id: None,
        response_schema: Some(json!({ "type": "boolean" }).as_object().unwrap().clone()),
        expires_at: None,
        subagent_run_id: None,
        metadata: None,
    }
}

#[test]
fn ends_are_states() {
    let failed = |code: &str| {
        Event::from(Body::RunError {
            message: "It broke.".to_owned(),
            code: Some(code.to_owned()),
            usage: Vec::new(),
        })
    };
    for (end, state, message) in [
        (ended(None), TaskState::Completed, None),
        (ended(Some(Outcome::Cancelled)), TaskState::Canceled, None),
        (failed("agent_failed"), TaskState::Failed, Some("It broke.")),
        (failed(REJECTED), TaskState::Rejected, Some("It broke.")),
    ] {
        let (_, task) = told(&[end]);
        assert_eq!(task.status.state, state);
        let text = task.status.message.map(|it| it.text());
        assert_eq!(text.as_deref(), message);
    }
    for (reasons, state) in [
        (["approval", "approval"], TaskState::InputRequired),
        (["auth_required", "oauth:github"], TaskState::AuthRequired),
        (
            ["Authentication", "authorization_needed"],
            TaskState::AuthRequired,
        ),
        (["auth_required", "approval"], TaskState::InputRequired),
        (["author", "login_name"], TaskState::InputRequired),
    ] {
        let interrupts = vec![
            interrupt("i1", reasons[0], Some("May I?")),
            interrupt("i2", reasons[1], None),
        ];
        let (told, task) = told(&[ended(Some(Outcome::Interrupt { interrupts }))]);
        assert_eq!(task.status.state, state, "{reasons:?}");
        assert!(told.last().unwrap().is_last());
        let message = task.status.message.unwrap();
        assert_eq!(
            (message.id.as_str(), message.text().as_str()),
            ("run.end", "May I?")
        );
        let schema = json!({ "type": "boolean" });
        let data = |id: &str, reason: &str| json!({ "interruptId": id, "reason": reason, "responseSchema": schema });
        let mut first = data("i1", reasons[0]);
        first["message"] = "May I?".into();
        let wanted = [first, data("i2", reasons[1])].map(Content::Data);
        let parts = message.parts.into_iter().skip(1).map(|it| it.content);
        assert_eq!(parts.collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn a_task_goes_on_with_what_it_has() {
    let interrupts = vec![interrupt("i1", "approval", Some("May I?"))];
    let end = ended(Some(Outcome::Interrupt { interrupts }));
    let (_, mut task) = told(&[text("First."), end]);
    let yes = Message::new("q2", Role::User, vec![Part::text("Yes")]);
    task.goes_on(yes, 5);
    assert_eq!(task.status.state, TaskState::Submitted);
    let texts = |task: &Task| task.history.iter().map(Message::text).collect::<Vec<_>>();
    assert_eq!(texts(&task), ["Hi", "May I?", "Yes"]);
    assert_eq!(texts(&task.clone().shown(Some(2), true)), ["May I?", "Yes"]);
    assert_eq!(texts(&task.clone().shown(Some(9), true)).len(), 3);
    assert_eq!(texts(&task.clone().shown(Some(0), false)).len(), 0);
    assert_eq!(task.clone().shown(None, false).artifacts, []);
    // The next run of it has artifacts of its own beside.
    let mut input = RunAgentInput::new("thread", "run2");
    let said = json!({ "id": "m", "role": "assistant", "content": "First." });
    input.messages.push(serde_json::from_value(said).unwrap());
    let mut view = TaskView::new(task, &input);
    let mut shown = View::new(input.clone(), None);
    let mut second = text("Second.");
    if let Body::TextMessageChunk { message_id, .. } = &mut second.body {
        *message_id = Some("m2".to_owned());
    }
    let bytes = recorded(&input, 1, &[second, ended(None)]).concat();
    fed(&mut view, &shown.push(&bytes).unwrap());
    fed(&mut view, &shown.end(End::Finished).unwrap());
    let artifacts = view.task().artifacts.iter();
    let told: Vec<_> = artifacts
        .map(|it| (it.id.as_str(), it.parts.clone()))
        .collect();
    let wanted = [("m", "First."), ("m2", "Second.")];
    assert_eq!(told, wanted.map(|(id, text)| (id, vec![Part::text(text)])));
}

#[test]
fn files_are_artifacts_and_hints_are_told() {
    let custom = |name: &str, value: Value| {
        Event::from(Body::Custom {
            name: name.to_owned(),
            value,
        })
    };
    let file = json!({ "url": "https://x/f", "filename": "f", "mediaType": "text/csv" });
    let hint = json!({ "component": "table" });
    let (told, task) = told(&[
        custom("a2a.file", file.clone()),
        custom("UI_RENDER_HINT", hint.clone()),
        custom("a2a.file", json!({ "no": "part" })),
        ended(None),
    ]);
    let artifacts: Vec<Value> = task
        .artifacts
        .iter()
        .map(|it| it.wire(Version::V1_0))
        .collect();
    let wanted = json!({ "artifactId": "run.1.2", "name": "f", "parts": [file] });
    assert_eq!(artifacts, [wanted]);
    let notes: Vec<Value> = told
        .iter()
        .filter_map(|it| match it {
            StreamResponse::StatusUpdate(it) => it.status.message.as_ref(),
            _ => None,
        })
        .map(|it| it.wire(Version::V1_0)["parts"][0]["data"].clone())
        .collect();
    let wanted = [
        json!({ "name": "UI_RENDER_HINT", "value": hint }),
        json!({ "name": "a2a.file", "value": { "no": "part" } }),
    ];
    assert_eq!(notes, wanted);
}

#[test]
fn what_is_too_long_to_be_kept_is_told() {
    let input = RunAgentInput::new("thread", "run");
    let mut view = new(&input);
    let mut client = Client::default();
    client.take(&[view.begin()]);
    let id = |index| Some(EventId { attempt: 1, index });
    let start = Body::TextMessageStart {
        message_id: "m".to_owned(),
        role: None,
        name: None,
    };
    let delta = "x".repeat(1 << 20);
    let content = Body::TextMessageContent {
        message_id: "m".to_owned(),
        delta: delta.clone(),
    };
    let mut said = vec![start];
    said.resize(11, content);
    said.push(ended(None).body);
    for (index, body) in (1..).zip(said) {
        let shown = Shown {
            id: id(index),
            event: body.into(),
        };
        client.take(&view.push(&shown, 1));
    }
    let told = client.task();
    let whole = |task: &Task| task.artifacts[0].parts[0].as_text().unwrap().len();
    assert_eq!(whole(&told), 10 << 20);
    assert_eq!(whole(view.task()), 8 << 20);
    assert_eq!(view.task().status.state, TaskState::Completed);
    let metadata = view.task().metadata.clone().map(Value::Object);
    assert_eq!(metadata, Some(json!({ "truncated": true })));
}
