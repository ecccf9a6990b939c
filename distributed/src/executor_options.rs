//! How an executor runs: its options, and what they may be.

use std::{net::IpAddr, path::PathBuf, thread::available_parallelism};

use asof::storage::Locations;

use crate::{
    ClusterError, Status,
    address::Address,
    limits::{self, invalid, reads, within},
};

/// How an executor runs.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// The scheduler: `df://host:port`.
    pub scheduler: String,
    /// The name of this executor, which errors tell; a new one if it is `None`.
    pub name: Option<String>,
    /// The address to listen at.
    pub bind_host: String,
    /// The host under which others reach this executor; by default the address that the scheduler sees.
    pub external_host: Option<String>,
    /// The port that serves rows; 0 takes a free one.
    pub port: u16,
    /// The port that takes tasks; 0 takes a free one.
    pub task_port: u16,
    /// The port for `/health` and `/ready`, if any.
    pub health_port: Option<u16>,
    /// How many partitions it works on at a time; 0 is one for each processor.
    pub vcores: usize,
    /// The memory of all tasks together, in bytes; by default 70% of what this machine or container has.
    pub memory_bytes: Option<u64>,
    /// The folder for shuffle files and spilled rows; by default one for temporary files. The executor makes a folder of its own in it and
    /// removes that one when it stops.
    pub scratch: Option<PathBuf>,
    /// Every so many seconds it tells the scheduler that it is alive.
    pub heartbeat_s: u64,
    /// How long it waits for the scheduler to be there, in seconds.
    pub connect_timeout_s: u64,
    /// The largest message, in bytes.
    pub max_message_bytes: u32,
    /// How it opens object stores.
    pub locations: Locations,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self {
            scheduler: "df://localhost:50050".into(),
            name: None,
            bind_host: "127.0.0.1".into(),
            external_host: None,
            port: 50051,
            task_port: 50052,
            health_port: None,
            vcores: 0,
            memory_bytes: None,
            scratch: None,
            heartbeat_s: 3,
            connect_timeout_s: 60,
            max_message_bytes: 1 << 30,
            locations: Locations::default(),
        }
    }
}

impl ExecutorOptions {
    /// Whether an executor can run so: its scheduler, and the address that it listens at.
    pub(crate) fn check(&self) -> Result<(Address, IpAddr), ClusterError> {
        let scheduler = Address::parse(&self.scheduler)?;
        let ip = reads("--bind-host", &self.bind_host, limits::ip)?;
        if let Some(name) = &self.name {
            reads("--name", name, limits::name)?;
        }
        if let Some(host) = &self.external_host {
            reads("--external-host", host, limits::host)?;
        }
        self.check_ports()?;
        within("--vcores", self.vcores as u64, &limits::VCORES)?;
        within("--heartbeat", self.heartbeat_s, &limits::SECONDS)?;
        within("--connect-timeout", self.connect_timeout_s, &limits::SECONDS)?;
        within("--max-message", self.max_message_bytes.into(), &limits::MESSAGE_BYTES)?;
        let vcores = if self.vcores == 0 { available_parallelism().map_or(1, usize::from) } else { self.vcores };
        let least = limits::MEMORY_OF_VCORE * vcores as u64;
        match self.memory_bytes {
            Some(bytes) if bytes < least => {
                let reason = format!("{bytes} bytes are too little for {vcores} partitions at a time: use {least} or more");
                Err(invalid("--memory", reason))
            }
            _ => Ok((scheduler, ip)),
        }
    }

    fn check_ports(&self) -> Result<(), ClusterError> {
        let ports = [("--port", Some(self.port)), ("--task-port", Some(self.task_port)), ("--health-port", self.health_port)];
        if self.health_port == Some(0) {
            return Err(invalid("--health-port", "0 is not possible: choose the port that probes ask".into()));
        }
        for (at, (flag, port)) in ports.iter().enumerate() {
            let same = ports.iter().take(at).find(|(_, other)| port.is_some_and(|port| port > 0) && other == port);
            if let Some((other, _)) = same {
                let port = port.unwrap_or_default();
                return Err(invalid(flag, format!("{port} is also the `{other}`: give each a port of its own")));
            }
        }
        Ok(())
    }

    /// Whether they go with those of the scheduler.
    pub(crate) fn goes_with(&self, scheduler: &Address, status: &Status) -> Result<(), ClusterError> {
        let (ours, theirs) = (self.max_message_bytes as usize, status.max_message_bytes);
        if ours < theirs {
            let reason = format!(
                "this executor takes messages of {ours} bytes, and the scheduler at {scheduler} sends up to {theirs} bytes: \
                 give the executor `--max-message {theirs}`, or the scheduler `--max-message {ours}`"
            );
            return Err(invalid("--max-message", reason));
        }
        let (ours, theirs) = (self.heartbeat_s, status.executor_timeout_s);
        if ours >= theirs {
            let reason = format!(
                "this executor gives a sign of life every {ours} s, and the scheduler at {scheduler} takes it for lost after \
                 {theirs} s: use a shorter one, or a longer `--executor-timeout` of the scheduler"
            );
            return Err(invalid("--heartbeat", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_an_executor_cannot_run_with_are_told_by_flag() {
        let said = |change: fn(&mut ExecutorOptions)| {
            let mut options = ExecutorOptions::default();
            change(&mut options);
            options.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(|_| ()), "");
        assert_eq!(said(|options| (options.port, options.task_port, options.bind_host) = (0, 0, "::1".into())), "");
        assert!(said(|options| options.scheduler = "df://h:0".into()).contains("not the URL of a scheduler"));
        assert!(said(|options| options.bind_host = "localhost".into()).starts_with("--bind-host: "));
        assert!(said(|options| options.external_host = Some(String::new())).starts_with("--external-host: "));
        assert!(said(|options| options.name = Some(String::new())).starts_with("--name: "));
        assert!(said(|options| options.name = Some("a (b)".into())).starts_with("--name: "));
        assert_eq!(
            said(|options| options.task_port = options.port),
            "--task-port: 50051 is also the `--port`: give each a port of its own"
        );
        assert!(said(|options| options.health_port = Some(50052)).starts_with("--health-port: 50052 is also the `--task-port`"));
        assert!(said(|options| options.health_port = Some(0)).starts_with("--health-port: "));
        assert!(said(|options| options.vcores = usize::MAX).starts_with("--vcores: "));
        assert!(said(|options| options.heartbeat_s = 0).starts_with("--heartbeat: "));
        assert!(said(|options| options.connect_timeout_s = 0).starts_with("--connect-timeout: "));
        assert!(said(|options| options.max_message_bytes = 0).starts_with("--max-message: "));
        assert!(said(|options| (options.vcores, options.memory_bytes) = (2, Some(0))).starts_with("--memory: "));
        assert!(said(|options| (options.vcores, options.memory_bytes) = (2, Some(1 << 20))).ends_with("use 2097152 or more"));
    }

    #[test]
    fn options_that_do_not_go_with_those_of_the_scheduler_are_told_with_both() {
        let Ok(scheduler) = Address::parse("df://h:50050") else { unreachable!() };
        let said = |options: ExecutorOptions| {
            let status = Status::new(1 << 20, 3);
            options.goes_with(&scheduler, &status).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(ExecutorOptions { heartbeat_s: 2, ..ExecutorOptions::default() }), "");
        let error = said(ExecutorOptions { max_message_bytes: 1 << 19, ..ExecutorOptions::default() });
        assert!(error.contains("524288") && error.contains("1048576") && error.contains("h:50050"), "{error}");
        let error = said(ExecutorOptions { heartbeat_s: 3, ..ExecutorOptions::default() });
        assert!(error.starts_with("--heartbeat: ") && error.contains("every 3 s") && error.contains("after 3 s"), "{error}");
    }
}
