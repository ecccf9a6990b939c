//! When a process is asked to stop.

use std::io::Read;

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn asked_to_stop() -> &'static str {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = tokio::signal::ctrl_c() => "SIGINT",
            };
        }
    }
    let _ = tokio::signal::ctrl_c().await;
    "SIGINT"
}

/// Ends this process as soon as its standard input ends: with the process that started it, however that one ends.
pub fn end_with_input() {
    std::thread::spawn(|| {
        let (mut input, mut byte) = (std::io::stdin(), [0]);
        while matches!(input.read(&mut byte), Ok(1)) {}
        log::warn!("the process that started this one has ended, so this one ends");
        std::process::exit(0);
    });
}
