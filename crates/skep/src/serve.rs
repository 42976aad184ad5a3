//! Where the binary meets the server crate: settings in, signals to a graceful end.

use skep_core::PublicError;
use skep_core::config::Settings;
use skep_server::{RunOptions, ServerError, Started};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure, Result};

/// Runs a server until SIGTERM or Ctrl-C. A second signal ends it at once.
pub(crate) fn serve(
    settings: Settings,
    on_ready: impl FnOnce(&Started) + Send + 'static,
) -> Result {
    let public = |error: ServerError| Failure::public(&error as &dyn PublicError);
    skep_server::telemetry::init(&settings).map_err(public)?;
    let shim = std::env::current_exe()?;
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
