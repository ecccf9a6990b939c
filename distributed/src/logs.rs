//! Logs of the processes, on stderr.

use tracing_subscriber::EnvFilter;

/// What is logged if `ASOF_LOG` is not set. The plans of jobs are left out: they are long.
const DEFAULT_FILTER: &str = "info,ballista_scheduler::state::task_manager=warn,ballista_executor::metrics=warn";

/// Logs to stderr, filtered as `ASOF_LOG` says (`info`, `debug`, `ballista_scheduler=debug,warn`).
///
/// For the first line of a program; a second call does nothing.
pub fn init_logs() {
    let filter = std::env::var("ASOF_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_env_filter(filter);
    let _ = logs.try_init();
}
