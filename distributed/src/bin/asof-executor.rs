//! An executor of a cluster.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use asof_distributed::{ExecutorOptions, end_with_input, init_logs, limits, run_executor, version};
use clap::{Parser, builder::RangedU64ValueParser, value_parser};

/// Runs tasks that a scheduler gives. Credentials of object stores come from its environment (`AWS_ACCESS_KEY_ID`, ...).
#[derive(Parser)]
#[command(name = "asof-executor", version = version(), args_override_self = true)]
struct Flags {
    /// The scheduler
    #[arg(long, env = "ASOF_SCHEDULER", default_value = "df://localhost:50050")]
    scheduler: String,
    /// The name of this executor in errors and logs; by default a new one
    #[arg(long, env = "ASOF_NAME", value_parser = limits::name)]
    name: Option<String>,
    /// The address to listen at
    #[arg(long, env = "ASOF_BIND_HOST", default_value = "0.0.0.0", value_parser = limits::ip)]
    bind_host: IpAddr,
    /// The host under which others reach this executor; by default the address that the scheduler sees
    #[arg(long, env = "ASOF_EXTERNAL_HOST", value_parser = limits::host)]
    external_host: Option<String>,
    /// The port that serves rows; 0 takes a free one
    #[arg(long, env = "ASOF_PORT", default_value_t = 50051)]
    port: u16,
    /// The port that takes tasks; 0 takes a free one
    #[arg(long, env = "ASOF_TASK_PORT", default_value_t = 50052)]
    task_port: u16,
    /// The port for /health and /ready
    #[arg(long, env = "ASOF_HEALTH_PORT", value_parser = value_parser!(u16).range(1..))]
    health_port: Option<u16>,
    /// How many partitions it works on at a time; 0 is one for each processor
    #[arg(long, env = "ASOF_VCORES", default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(limits::VCORES))]
    vcores: usize,
    /// The memory of all tasks together, as 8GiB or 512MiB or in bytes; by default 70% of the machine's or container's
    #[arg(long, env = "ASOF_MEMORY", value_parser = bytes)]
    memory: Option<u64>,
    /// The folder for shuffle files and spilled rows
    #[arg(long, env = "ASOF_SCRATCH")]
    scratch: Option<PathBuf>,
    /// Every so many seconds it tells the scheduler that it is alive
    #[arg(long, env = "ASOF_HEARTBEAT", default_value_t = 3, value_parser = value_parser!(u64).range(limits::SECONDS))]
    heartbeat: u64,
    /// It waits so many seconds for the scheduler to be there
    #[arg(long, env = "ASOF_CONNECT_TIMEOUT", default_value_t = 60, value_parser = value_parser!(u64).range(limits::SECONDS))]
    connect_timeout: u64,
    /// The largest message, in bytes
    #[arg(long, env = "ASOF_MAX_MESSAGE", default_value_t = 1 << 30, value_parser = RangedU64ValueParser::<u32>::new().range(limits::MESSAGE_BYTES))]
    max_message: u32,
    /// End with the process that started this one
    #[arg(long, hide = true)]
    end_with_input: bool,
    /// A folder to remove then
    #[arg(long, hide = true)]
    remove_with_input: Option<PathBuf>,
}

/// Reads `8GiB`, `512MiB`, `64KiB` or a number of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, *size)));
    let (number, size): (&str, u64) = unit.unwrap_or((text, 1));
    let number: Option<u64> = number.trim().parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(size)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| format!("{text:?} is no amount of memory: write 8GiB, 512MiB or a number of bytes"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    init_logs();
    if flags.end_with_input {
        end_with_input(flags.remove_with_input.clone());
    }
    let options = ExecutorOptions {
        scheduler: flags.scheduler,
        name: flags.name,
        bind_host: flags.bind_host.to_string(),
        external_host: flags.external_host,
        port: flags.port,
        task_port: flags.task_port,
        health_port: flags.health_port,
        vcores: flags.vcores,
        memory_bytes: flags.memory,
        scratch: flags.scratch,
        heartbeat_s: flags.heartbeat,
        connect_timeout_s: flags.connect_timeout,
        max_message_bytes: flags.max_message,
        ..ExecutorOptions::default()
    };
    match run_executor(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
