//! DataFusion sessions as this library runs them: bounded memory with spilling, Parquet filters pushed down, UTC.
//! A session knows only the object stores, tables and functions that it is given.

mod filter_pushdown;

use std::{fmt, sync::Arc};

use datafusion::{
    execution::{
        SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::{SessionConfig, SessionContext},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    name::DEFAULT_DATABASE,
    storage::{Location, scratch_dir},
};

/// DataFusion's catalog that holds our databases.
pub(crate) const CATALOG: &str = "datafusion";
const REPRODUCIBLE_BATCH_ROWS: usize = 8_192;

/// How much memory and how many tasks a store may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Bytes that sorts and aggregations may hold before they spill to the disk.
    pub memory_bytes: usize,
    /// Bytes that all other operators may hold. They cannot spill: joins, and lookups and windows, which hold their spine. A sort that
    /// spills takes a fifth of `memory_bytes` from here, at most 10 MiB, to merge what it has spilled.
    /// A query that needs more fails with [`Error::Memory`](crate::Error::Memory) or with the engine's own error.
    pub held_bytes: usize,
    /// Tasks that a query runs in parallel, 1 to 4,096.
    pub partitions: usize,
    /// Rows in a batch, 1 to 1,048,576. Each batch costs some microseconds in each operator, so small ones are slow.
    pub batch_rows: usize,
}

impl Resources {
    /// # Errors
    /// [`Error::Definition`] for a number out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, number, most) in [("partitions", self.partitions, 4_096), ("batch_rows", self.batch_rows, 1 << 20)] {
            if !(1..=most).contains(&number) {
                let reason = format!("`{name}` is {number}; it is between 1 and {most}");
                return Err(Error::Definition { subject: "the resources of the store".into(), reason });
            }
        }
        Ok(())
    }
}

impl Default for Resources {
    /// 64 MiB before spilling, 4 GiB held, a partition per core, DataFusion's 8,192 rows.
    fn default() -> Self {
        let partitions = std::thread::available_parallelism().map_or(2, usize::from);
        Self { memory_bytes: 64 << 20, held_bytes: 4 << 30, partitions, batch_rows: 8_192 }
    }
}

/// Two budgets: a small one for operators that can spill, and a large one for those that cannot.
#[derive(Debug)]
struct SplitPool {
    spilling: FairSpillPool,
    holding: GreedyMemoryPool,
}

impl SplitPool {
    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() { &self.spilling } else { &self.holding }
    }
}

impl fmt::Display for SplitPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.spilling, self.holding)
    }
}

impl MemoryPool for SplitPool {
    fn name(&self) -> &str {
        "asof"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation.consumer()).grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        self.of(reservation.consumer()).try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.spilling.reserved() + self.holding.reserved()
    }
}

/// Makes sessions that share one memory budget.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    resources: Resources,
    pool: Arc<dyn MemoryPool>,
}

/// In how many tasks a query may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parallelism {
    /// As many as the resources allow.
    Full,
    /// One task.
    One,
    /// One task, fixed batches, and no spilling (which depends on what else runs): for plans whose float results depend on
    /// how rows are split and combined. Memory grows with the plan's own state.
    Reproducible,
}

impl Engine {
    pub(crate) fn new(resources: Resources) -> Self {
        let pool = SplitPool {
            spilling: FairSpillPool::new(resources.memory_bytes),
            holding: GreedyMemoryPool::new(resources.held_bytes),
        };
        Self { resources, pool: Arc::new(pool) }
    }

    /// Tasks that a query runs in parallel.
    pub(crate) fn partitions(&self) -> usize {
        self.resources.partitions.max(1)
    }

    /// Rows in a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        self.resources.batch_rows.max(1)
    }

    /// Memory for an operator of this library that spills what it is not granted.
    pub(crate) fn spilling(&self, name: &str) -> MemoryReservation {
        MemoryConsumer::new(name).with_can_spill(true).register(&self.pool)
    }

    /// A session that can read these locations.
    pub(crate) fn session<'a>(
        &self,
        parallelism: Parallelism,
        places: impl IntoIterator<Item = &'a Location>,
    ) -> Result<SessionContext> {
        let Resources { partitions, batch_rows, .. } = self.resources;
        let (partitions, batch_rows, pool) = match parallelism {
            Parallelism::Full => (partitions.max(1), batch_rows.max(1), self.pool.clone()),
            Parallelism::One => (1, batch_rows.max(1), self.pool.clone()),
            Parallelism::Reproducible => (1, REPRODUCIBLE_BATCH_ROWS, Arc::new(UnboundedMemoryPool::default()) as _),
        };
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(batch_rows)
            .with_default_catalog_and_schema(CATALOG, DEFAULT_DATABASE);
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        // The time rule comes first in every filter and stays there: a fact that is not visible must not make a query fail, for
        // example by a division by zero in a filter of the user's.
        options.execution.parquet.reorder_filters = false;
        // Texts as plain `Utf8`, so that queries yield the types that tables declare.
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        // One sort with the whole budget, behind scans that run in parallel: several sorts divide it and starve each other. Two sorts of
        // ten million narrow rows, with 32 MiB each, fail. Runs in memory are sorted in place, since merging them takes as much memory
        // again; a part of the budget is reserved for merging spilled runs.
        options.optimizer.repartition_sorts = false;
        options.execution.sort_in_place_threshold_bytes = self.resources.memory_bytes;
        options.execution.sort_spill_reservation_bytes = (self.resources.memory_bytes / 5).min(10 << 20);
        let runtime = |mode| {
            let disk = DiskManagerBuilder::default().with_mode(mode);
            RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).with_disk_manager_builder(disk).build()
        };
        // Without a folder for temporary files, queries that do not spill still run.
        let own = scratch_dir().ok().and_then(|dir| runtime(DiskManagerMode::Directories(vec![dir])).ok());
        let runtime: RuntimeEnv = own.map_or_else(|| runtime(DiskManagerMode::OsTmpDirectory), Ok)?;
        for place in places {
            runtime.register_object_store(place.base(), place.store().clone());
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .with_default_features()
            .with_physical_optimizer_rules(filter_pushdown::rules())
            .build();
        Ok(SessionContext::new_with_state(state))
    }
}
