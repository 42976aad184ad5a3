//! Runs in the units of their calls.

use serde_json::{Value, json};
use skep_api::RunStatus;
use skep_core::{CallId, RunId, Timestamp, Workspace};
use skep_protocols::agui::RunAgentInput;
use skep_store::{By, Db, Options, StoreError, Unit};

use crate::{Ended, Filter, Fork, MIGRATIONS, New, Runs, RunsError, Tasks};

struct House {
    _folder: tempfile::TempDir,
    db: Db,
    runs: Runs,
    workspace: Workspace,
}

fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap();
    House {
        _folder: folder,
        runs: Runs::new(db.clone()),
        db,
        workspace: Workspace::default(),
    }
}

fn new(agent: &str, thread: &str, run: &str) -> New {
    New {
        id: RunId::new(),
        agent: agent.to_owned(),
        whose: "ApiKey:one".to_owned(),
        parent: None,
        task: None,
        protocol: "agui",
        input: RunAgentInput::new(thread, run),
        push: None,
    }
}

impl House {
    async fn begin(&self, new: &New) -> CallId {
        let (call, of, new) = (CallId::new(), self.workspace.clone(), new.clone());
        let begun: Result<(), StoreError> = self
            .db
            .write(move |unit: &mut Unit<'_>| {
                let now = unit.now();
                Runs::begin(&mut unit.scope(&of), &new, (call, now))
            })
            .await;
        begun.unwrap();
        call
    }

    async fn turn(&self, id: RunId, ended: Ended<'static>) {
        let of = self.workspace.clone();
        let turned: Result<(), StoreError> = self
            .db
            .write(move |unit: &mut Unit<'_>| {
                let now = unit.now();
                Runs::turned(&mut unit.scope(&of), id, &ended, now)
            })
            .await;
        turned.unwrap();
    }

    async fn messages(&self, id: RunId) -> Option<Value> {
        let run = self.runs.show(&self.workspace, id).await.unwrap();
        let thread = self.runs.thread(&self.workspace, run.thread).await.unwrap();
        let messages = thread.1.messages;
        messages.map(|it| serde_json::from_slice(&it).unwrap())
    }
}

const SAID: &[u8] =
    br#"{"messages":[{"id":"m","role":"assistant","content":"Hi"}],"state":{"a":1},"result":7}"#;
const ASKS: &[u8] =
    br#"{"messages":[],"interrupts":[{"id":"i","reason":"approval"}],"usage":[{"inputTokens":3}]}"#;
const FAILED: &[u8] =
    br#"{"messages":[{"id":"x","role":"user","content":"half"}],"error":["agent_failed","No."]}"#;

#[tokio::test]
async fn runs_of_one_name_belong_to_one_thread_with_one_agent() {
    let house = house();
    let all = [
        new("a", "t", "1"),
        new("a", "t", "2"),
        new("b", "t", "1"),
        new("a", "u", "1"),
    ];
    let mut threads = Vec::new();
    for one in &all {
        let call = house.begin(one).await;
        let run = house.runs.show(&house.workspace, one.id).await.unwrap();
        assert_eq!((run.status, run.call), (RunStatus::Running, call));
        assert_eq!(run.name, one.input.run_id);
        let same = house.runs.of_call(&house.workspace, call).await.unwrap();
        assert_eq!(same, run);
        threads.push(run.thread);
    }
    assert_eq!(threads[0], threads[1]);
    assert_ne!(threads[0], threads[2]);
    assert_ne!(threads[0], threads[3]);
    let filter = |agent: Option<&str>, thread, status| Filter {
        agent: agent.map(str::to_owned),
        thread,
        status,
        parent: None,
    };
    for (filter, wanted) in [
        (filter(None, None, None), vec![3, 2, 1, 0]),
        (filter(Some("a"), None, None), vec![3, 1, 0]),
        (filter(None, Some(threads[0]), None), vec![1, 0]),
        (filter(None, None, Some(RunStatus::Failed)), vec![]),
    ] {
        let found = house.runs.list(&house.workspace, filter, (None, 10)).await;
        let found: Vec<RunId> = found.unwrap().iter().map(|it| it.id).collect();
        let wanted: Vec<RunId> = wanted.into_iter().map(|at: usize| all[at].id).collect();
        assert_eq!(found, wanted);
    }
    let page = house
        .runs
        .list(&house.workspace, Filter::default(), (Some(all[2].id), 1));
    assert_eq!(page.await.unwrap()[0].id, all[1].id);
    let threads = house.runs.threads(&house.workspace, None, (None, 10)).await;
    assert_eq!(threads.unwrap().len(), 3);
}

#[tokio::test]
async fn what_a_run_comes_to_outlives_its_call() {
    let house = house();
    let (first, second) = (new("a", "t", "1"), new("a", "t", "2"));
    house.begin(&first).await;
    assert_eq!(house.messages(first.id).await, None);
    house.turn(first.id, Ended::Said(SAID)).await;
    let run = house.runs.show(&house.workspace, first.id).await.unwrap();
    assert_eq!(run.status, RunStatus::Finished);
    assert!(run.ended.is_some());
    let said = json!([{ "id": "m", "role": "assistant", "content": "Hi" }]);
    assert_eq!(house.messages(first.id).await, Some(said.clone()));
    // What fails is told, and is no part of the conversation.
    house.begin(&second).await;
    house.turn(second.id, Ended::Said(FAILED)).await;
    let run = house.runs.show(&house.workspace, second.id).await.unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    let error = ("agent_failed".to_owned(), "No.".to_owned());
    assert_eq!(run.error, Some(error));
    assert_eq!(house.messages(second.id).await, Some(said));
    let thread = &house
        .runs
        .threads(&house.workspace, None, (None, 1))
        .await
        .unwrap()[0];
    assert_eq!(thread.run, Some(first.id));
}

#[tokio::test]
async fn ends_that_no_agent_said_are_told_and_may_be_taken_back() {
    let house = house();
    let one = new("a", "t", "1");
    house.begin(&one).await;
    let dead = Ended::Without {
        code: "call-dead",
        message: "It was tried three times.",
    };
    for (ended, status, is_over) in [
        (dead, RunStatus::Failed, true),
        (Ended::Anew, RunStatus::Running, false),
        (Ended::Cancelled, RunStatus::Cancelled, true),
        (Ended::Anew, RunStatus::Running, false),
        (Ended::Said(ASKS), RunStatus::Interrupted, true),
    ] {
        house.turn(one.id, ended).await;
        let run = house.runs.show(&house.workspace, one.id).await.unwrap();
        assert_eq!((run.status, run.ended.is_some()), (status, is_over));
        assert_eq!(run.error.is_some(), status == RunStatus::Failed);
    }
    let run = house.runs.show(&house.workspace, one.id).await.unwrap();
    assert_eq!(run.interrupts[0].reason, "approval");
    assert_eq!(run.usage[0].input_tokens, Some(3));
}

#[tokio::test]
async fn another_workspace_has_none_of_them() {
    let house = house();
    let one = new("a", "t", "1");
    let call = house.begin(&one).await;
    let thread = house
        .runs
        .show(&house.workspace, one.id)
        .await
        .unwrap()
        .thread;
    let other = Workspace::new("other").unwrap();
    let missing = |found: bool| assert!(found, "another workspace's is told");
    missing(matches!(
        house.runs.show(&other, one.id).await,
        Err(RunsError::NotFound(_))
    ));
    missing(matches!(
        house.runs.of_call(&other, call).await,
        Err(RunsError::NotFound(_))
    ));
    missing(matches!(
        house.runs.asked(&other, one.id).await,
        Err(RunsError::NotFound(_))
    ));
    missing(matches!(
        house.runs.thread(&other, thread).await,
        Err(RunsError::NotFound(_))
    ));
    let all = house.runs.list(&other, Filter::default(), (None, 10)).await;
    assert_eq!(all.unwrap(), []);
    assert_eq!(
        house.runs.threads(&other, None, (None, 10)).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_thread_is_its_owners_alone() {
    let house = house();
    let (mine, mut theirs) = (new("a", "t", "1"), new("a", "t", "1"));
    theirs.whose = "ApiKey:two".to_owned();
    house.begin(&mine).await;
    house.begin(&theirs).await;
    let threads = house.runs.threads(&house.workspace, None, (None, 10)).await;
    assert_eq!(threads.unwrap().len(), 2);
    let of = |whose: &'static str| ("a", whose, "t");
    for (whose, run) in [("ApiKey:one", &mine), ("ApiKey:two", &theirs)] {
        let named = house.runs.named(&house.workspace, of(whose)).await.unwrap();
        let run = house.runs.show(&house.workspace, run.id).await.unwrap();
        assert_eq!(named.unwrap().0.id, run.thread);
    }
    let nobody = house.runs.named(&house.workspace, of("User:x")).await;
    assert_eq!(nobody.unwrap(), None);
}

#[tokio::test]
async fn a_fork_goes_on_from_where_another_stood() {
    let house = house();
    let one = new("a", "t", "1");
    house.begin(&one).await;
    house.turn(one.id, Ended::Said(SAID)).await;
    let kept = house.runs.kept(&house.workspace, one.id).await.unwrap();
    let fork = |name: Option<&str>| Fork {
        agent: "a".to_owned(),
        whose: "ApiKey:one".to_owned(),
        name: name.map(str::to_owned),
        kept: kept.clone(),
    };
    let by = By::nobody();
    let taken = house
        .runs
        .fork(&by, &house.workspace, fork(Some("t")))
        .await;
    assert!(matches!(taken, Err(RunsError::Taken(name)) if name == "t"));
    let made = house
        .runs
        .fork(&by, &house.workspace, fork(Some("u")))
        .await;
    let made = made.unwrap();
    let (_, has) = house.runs.thread(&house.workspace, made.id).await.unwrap();
    // The result is the run's.
    assert_eq!(kept.result.as_deref(), Some(&b"7"[..]));
    assert_eq!(
        (has.messages, has.state),
        (kept.messages.clone(), kept.state.clone())
    );
    // What is said there changes nothing here.
    let two = new("a", "u", "2");
    house.begin(&two).await;
    house.turn(two.id, Ended::Said(ASKS)).await;
    assert_eq!(house.messages(two.id).await, Some(json!([])));
    assert_eq!(house.messages(one.id).await.unwrap()[0]["id"], "m");
    let unnamed = house.runs.fork(&by, &house.workspace, fork(None)).await;
    let unnamed = unnamed.unwrap();
    assert_eq!(unnamed.name, unnamed.id.to_string());
}

#[tokio::test]
async fn what_is_under_way_is_not_forgotten() {
    let house = house();
    let (one, two) = (new("a", "t", "1"), new("a", "t", "2"));
    house.begin(&one).await;
    let run = house.runs.show(&house.workspace, one.id).await.unwrap();
    let by = By::nobody();
    let busy = house
        .runs
        .forget(&by, &house.workspace, run.thread)
        .await
        .unwrap_err();
    assert!(matches!(busy, RunsError::Busy));
    let later = house
        .db
        .clock()
        .now()
        .plus(std::time::Duration::from_secs(9));
    assert_eq!(house.runs.sweep(&house.workspace, later).await.unwrap(), 0);
    house.turn(one.id, Ended::Said(SAID)).await;
    house.begin(&two).await;
    // What the thread has come to stays as long as it lives.
    assert_eq!(house.runs.sweep(&house.workspace, later).await.unwrap(), 0);
    house.turn(two.id, Ended::Said(ASKS)).await;
    assert_eq!(house.runs.sweep(&house.workspace, later).await.unwrap(), 3);
    let gone = house.runs.thread(&house.workspace, run.thread).await;
    assert!(matches!(gone, Err(RunsError::NotFound("thread"))));
}

#[tokio::test]
async fn an_agent_that_asks_another_is_known_by_its_run() {
    let house = house();
    let one = new("a", "t", "1");
    let mut two = new("b", "u", "1");
    two.parent = Some(one.id);
    let mut three = new("c", "v", "1");
    three.parent = Some(two.id);
    for run in [&one, &two, &three] {
        house.begin(run).await;
    }
    let chain = house.runs.chain(&house.workspace, three.id, 10).await;
    let agents: Vec<String> = chain.unwrap().into_iter().map(|it| it.agent).collect();
    assert_eq!(agents, ["c", "b", "a"]);
    let chain = house.runs.chain(&house.workspace, three.id, 2).await;
    assert_eq!(chain.unwrap().len(), 2);
    let children = Filter {
        parent: Some(one.id),
        ..Filter::default()
    };
    let found = house
        .runs
        .list(&house.workspace, children, (None, 10))
        .await;
    assert_eq!(found.unwrap()[0].id, two.id);
}

fn tasks(thread: Option<&str>, statuses: &[RunStatus], most: u32) -> Tasks {
    Tasks {
        agent: "a".to_owned(),
        whose: "ApiKey:one".to_owned(),
        thread: thread.map(str::to_owned),
        statuses: statuses.to_vec(),
        since: Timestamp::from_micros(0),
        before: None,
        most,
    }
}

#[tokio::test]
async fn a_task_is_told_by_its_last_run() {
    let house = house();
    let one = new("a", "t", "1");
    house.begin(&one).await;
    house.turn(one.id, Ended::Said(ASKS)).await;
    let mut two = new("a", "t", "2");
    two.task = Some(one.id);
    house.begin(&two).await;
    let other = new("a", "u", "3");
    house.begin(&other).await;
    house.turn(other.id, Ended::Said(SAID)).await;
    let mut theirs = new("a", "t", "4");
    theirs.whose = "ApiKey:two".to_owned();
    house.begin(&theirs).await;
    let ids = |runs: &[crate::Run]| runs.iter().map(|it| it.id).collect::<Vec<_>>();
    let chain = house.runs.task(&house.workspace, one.id).await.unwrap();
    assert_eq!(ids(&chain), [one.id, two.id]);
    // A task is named by its first run alone.
    assert_eq!(house.runs.task(&house.workspace, two.id).await.unwrap(), []);
    for (of, wanted, count) in [
        (tasks(None, &[], 10), vec![other.id, two.id], 2),
        (tasks(None, &[], 1), vec![other.id], 2),
        (tasks(Some("t"), &[], 10), vec![two.id], 1),
        (tasks(None, &[RunStatus::Interrupted], 10), vec![], 0),
        (tasks(None, &[RunStatus::Running], 10), vec![two.id], 1),
    ] {
        let (found, all) = house.runs.tasks(&house.workspace, of).await.unwrap();
        assert_eq!((ids(&found), all), (wanted, count));
    }
    let mut next = tasks(None, &[], 10);
    let (first, _) = house
        .runs
        .tasks(&house.workspace, next.clone())
        .await
        .unwrap();
    next.before = first[0].ended.map(|at| (at, first[0].id));
    let (rest, _) = house.runs.tasks(&house.workspace, next).await.unwrap();
    assert_eq!(ids(&rest), [two.id]);
    let named = ("a", "ApiKey:one", "2");
    let named = house.runs.run_named(&house.workspace, named).await.unwrap();
    assert_eq!(named.map(|it| it.id), Some(two.id));
    // What waits can be given up, once.
    house.turn(two.id, Ended::Said(ASKS)).await;
    let by = By::nobody();
    for wanted in [true, false] {
        let given = house.runs.give_up(&by, &house.workspace, two.id).await;
        assert_eq!(given.unwrap(), wanted);
    }
    let run = house.runs.show(&house.workspace, two.id).await.unwrap();
    assert_eq!(run.status, RunStatus::Cancelled);
}
