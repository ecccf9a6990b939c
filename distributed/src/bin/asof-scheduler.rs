//! The scheduler of a cluster.

use std::{path::PathBuf, process::ExitCode};

use asof_distributed::{SchedulerOptions, end_with_input, init_logs, limits, run_scheduler, version};
use clap::{Parser, builder::RangedU64ValueParser, value_parser};

/// Takes the plans of asof, and gives their tasks to executors.
#[derive(Parser)]
#[command(name = "asof-scheduler", version = version(), args_override_self = true)]
struct Flags {
    /// The address to listen at
    #[arg(long, env = "ASOF_BIND_HOST", default_value = "0.0.0.0")]
    bind_host: String,
    /// The port to listen at; 0 takes a free one
    #[arg(long, env = "ASOF_PORT", default_value_t = 50050)]
    port: u16,
    /// The host under which executors reach this scheduler
    #[arg(long, env = "ASOF_EXTERNAL_HOST", default_value = "localhost", value_parser = limits::host)]
    external_host: String,
    /// The largest message, in bytes: a plan with the rows that it carries
    #[arg(long, env = "ASOF_MAX_MESSAGE", default_value_t = 1 << 30, value_parser = RangedU64ValueParser::<u32>::new().range(limits::MESSAGE_BYTES))]
    max_message: u32,
    /// An executor that is not heard of for so many seconds is lost
    #[arg(long, env = "ASOF_EXECUTOR_TIMEOUT", default_value_t = 20, value_parser = value_parser!(u64).range(limits::SECONDS))]
    executor_timeout: u64,
    /// A stopping scheduler waits so many seconds for jobs to end
    #[arg(long, env = "ASOF_DRAIN", default_value_t = 60, value_parser = value_parser!(u64).range(limits::DRAIN_SECONDS))]
    drain: u64,
    /// How often a task may fail by input or output before its job does
    #[arg(long, env = "ASOF_ATTEMPTS", default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(limits::ATTEMPTS))]
    attempts: usize,
    /// A file to write the address to, once the scheduler listens
    #[arg(long, hide = true)]
    address_file: Option<PathBuf>,
    /// End with the process that started this one
    #[arg(long, hide = true)]
    end_with_input: bool,
    /// A folder to remove then
    #[arg(long, hide = true)]
    remove_with_input: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    init_logs();
    if flags.end_with_input {
        end_with_input(flags.remove_with_input.clone());
    }
    let options = SchedulerOptions {
        bind_host: flags.bind_host,
        port: flags.port,
        external_host: flags.external_host,
        max_message_bytes: flags.max_message,
        executor_timeout_s: flags.executor_timeout,
        drain_s: flags.drain,
        attempts: flags.attempts,
        ..SchedulerOptions::default()
    };
    let listening = |address: std::net::SocketAddr| {
        let Some(file) = flags.address_file else { return };
        let half = file.with_extension("half");
        if let Err(error) = std::fs::write(&half, address.to_string()).and_then(|()| std::fs::rename(&half, &file)) {
            log::error!("{}: {error}", file.display());
        }
    };
    match run_scheduler(options, listening).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
