//! Runs as tasks: what a task has come to, read from what its runs said.

use skep_api::RunStatus;
use skep_core::{Code, Workspace};
use skep_protocols::Shown;
use skep_protocols::a2a::{Message, Part, Role, Task, TaskState, TaskStatus, TaskView};
use skep_runs::Run;

use super::Followed;
use crate::problem::ApiError;
use crate::runs::{Started, Watch};
use crate::state::State;

/// How runs stand whose tasks may stand so.
pub(super) fn statuses(state: TaskState) -> Vec<RunStatus> {
    match state {
        TaskState::Submitted | TaskState::Working => vec![RunStatus::Running],
        TaskState::Completed => vec![RunStatus::Finished],
        TaskState::Failed | TaskState::Rejected => vec![RunStatus::Failed],
        TaskState::Canceled => vec![RunStatus::Cancelled],
        TaskState::InputRequired | TaskState::AuthRequired => vec![RunStatus::Interrupted],
    }
}

fn micros(run: &Run) -> i64 {
    run.ended.unwrap_or(run.created).as_micros()
}

fn take(of: &mut Followed, shown: &[Shown]) {
    let at = micros(&of.run);
    for one in shown {
        let says = u32::try_from(of.view.push(one, at).len()).unwrap_or(u32::MAX);
        let Some(id) = one.id.filter(|_| !of.view.is_over()) else {
            continue;
        };
        of.last = match of.last {
            Some((last, before)) if last == id => Some((id, before + says)),
            _ => Some((id, says)),
        };
    }
}

fn cut(why: String) -> ApiError {
    ApiError::new(Code::ShuttingDown, why)
}

/// Reads what there is, without waiting for more.
pub(super) async fn catch_up(of: &mut Followed) -> Result<(), ApiError> {
    let shown = of.watch.begin();
    take(of, &shown);
    while let Some(shown) = of.watch.now().await {
        take(of, &shown.map_err(cut)?);
    }
    Ok(())
}

/// Reads until the task has ended, or waits.
pub(super) async fn to_end(of: &mut Followed) -> Result<(), ApiError> {
    let shown = of.watch.begin();
    take(of, &shown);
    while !of.view.is_over() {
        match of.watch.next().await {
            None => break,
            Some(shown) => {
                let now = of.clock.now().as_micros();
                for one in shown.map_err(cut)? {
                    let _ = of.view.push(&one, now);
                }
            }
        }
    }
    Ok(())
}

/// Follows the last run of a task, behind all that came before it. None of a task without runs.
pub(super) async fn follow(
    state: &State,
    workspace: &Workspace,
    chain: &[Run],
) -> Result<Option<Followed>, ApiError> {
    let mut task: Option<Task> = None;
    for (at, run) in chain.iter().enumerate() {
        let (input, _) = state.runs().asked(workspace, run.id).await?;
        // A run that was asked for without a word.
        let none = || Message::new(run.id.to_string(), Role::User, vec![Part::text("")]);
        let asked = Message::of_input(&input).unwrap_or_else(none);
        let began = run.created.as_micros();
        let so_far = match task.take() {
            None => Task::submitted(run.id.to_string(), &input.thread_id, asked, began),
            Some(mut task) => {
                task.goes_on(asked, began);
                task
            }
        };
        let started = Started {
            run: run.id,
            call: run.call,
            input,
        };
        let mut of = Followed {
            view: TaskView::new(so_far, &started.input),
            watch: Watch::of(state, workspace, &started, None).await?,
            run: run.clone(),
            clock: state.db.clock().clone(),
            last: None,
        };
        if at + 1 == chain.len() {
            return Ok(Some(of));
        }
        catch_up(&mut of).await?;
        task = Some(of.view.task().clone());
    }
    Ok(None)
}

/// A task as it is now.
pub(super) async fn now(
    state: &State,
    workspace: &Workspace,
    chain: &[Run],
) -> Result<Task, ApiError> {
    let of = follow(state, workspace, chain).await?;
    let mut of = of.ok_or_else(|| ApiError::new(Code::RunNotFound, "the task is gone"))?;
    catch_up(&mut of).await?;
    let mut task = of.view.task().clone();
    // What it waited for was given up.
    if of.run.status == RunStatus::Cancelled && task.status.state.is_interrupted() {
        task.history.extend(task.status.message.take());
        task.status = TaskStatus {
            state: TaskState::Canceled,
            message: None,
            timestamp: Some(micros(&of.run)),
        };
    }
    Ok(task)
}
