//! Where the binary meets the server crate: settings in, signals to a graceful end.

use skep_core::PublicError;
use skep_core::config::Settings;
use skep_server::{RunOptions, ServerError, Started};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure, Result};

/// Lets as many threads as there are cores have a heap of their own: the C library gives eight to each core, and what
/// one thread of many has freed in its own is of no use to the next.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a setting of the C library")]
fn share_heaps() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let heaps = i32::try_from(cores).unwrap_or(i32::MAX);
    // SAFETY: it takes two numbers, and locks what it changes.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
}

#[cfg(not(target_env = "gnu"))]
fn share_heaps() {}

/// Runs a server until SIGTERM or Ctrl-C. A second signal ends it at once.
pub(crate) fn serve(
    settings: Settings,
    on_ready: impl FnOnce(&Started) + Send + 'static,
) -> Result {
    let public = |error: ServerError| Failure::public(&error as &dyn PublicError);
    skep_server::telemetry::init(&settings).map_err(public)?;
    let shim = std::env::current_exe()?;
    share_heaps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let options = RunOptions {
            shim,
            on_ready: Box::new(on_ready),
            stop: stop.clone(),
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = skep_server::run(settings, options);
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => return ended.map_err(public),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                return Err(Failure::quiet(Exit::Interrupted));
            }
            stop.cancel();
        }
    })
}
