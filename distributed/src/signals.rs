//! When a process is asked to stop.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a folder is removed that other processes still write to, and how long after each time is looked.
const REMOVALS: usize = 50;
const LOOK: Duration = Duration::from_millis(20);

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

/// Ends this process as soon as its standard input ends: with the process that started it, however that one ends. A folder that both
/// used is removed then, if it is given.
pub fn end_with_input(folder: Option<PathBuf>) {
    std::thread::spawn(move || {
        let (mut input, mut byte) = (std::io::stdin(), [0]);
        while matches!(input.read(&mut byte), Ok(1)) {}
        log::warn!("the process that started this one has ended, so this one ends");
        if let Some(folder) = folder {
            remove(&folder);
        }
        std::process::exit(0);
    });
}

/// Others that end at this moment do the same, and tasks make folders until their process ends, so it is tried until nothing is there.
fn remove(folder: &Path) {
    for _ in 0..REMOVALS {
        let removed = std::fs::remove_dir_all(folder);
        std::thread::sleep(LOOK);
        match (folder.exists(), removed) {
            (false, _) => return,
            (true, Err(error)) => log::debug!("{}: {error}", folder.display()),
            (true, Ok(())) => {}
        }
    }
}
