//! DataFusion sessions as this library runs them: bounded memory with spilling, Parquet filters pushed down, UTC.
//! A session knows only the object stores, tables and functions that it is given.

mod explained;
mod filter_pushdown;
mod float_extremes;
mod gather;
mod own_rows;
mod remote;
mod runner;
mod sql_depth;

pub(crate) use explained::with_final_plan;
pub(crate) use gather::Gather;
pub(crate) use remote::{Departure, hand_over, run_elsewhere, run_on, runner_of, travels};
pub use runner::Runner;

pub(crate) use filter_pushdown::restricted as restricted_filter_pushdown;
pub(crate) use sql_depth::{DEEPEST_NESTING, TOO_NESTED, too_deep};

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

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
    /// Bytes that sorts and aggregations may hold before they spill to the disk. A sort takes up to a fifth more, at most 10 MiB, while it
    /// spills.
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
///
/// A sort sets memory aside for merging what it will spill. It gives it back right before it joins the batches that it holds, since these
/// can be a little larger together: a column that has NULLs in one of them gets a bit for every row. What was given back lies in the large
/// budget, so the small one grants as much beyond its own. Without this, such a sort fails as soon as it spills.
#[derive(Debug)]
struct SplitPool {
    spilling: FairSpillPool,
    holding: GreedyMemoryPool,
    /// Bytes that sorts have given back and not set aside again.
    given_back: AtomicUsize,
    given_back_at_most: usize,
}

/// How DataFusion calls the memory that a sort sets aside.
const SET_ASIDE: &str = "ExternalSorterMerge";

impl SplitPool {
    fn new(Resources { memory_bytes, held_bytes, .. }: &Resources) -> Self {
        Self {
            spilling: FairSpillPool::new(*memory_bytes),
            holding: GreedyMemoryPool::new(*held_bytes),
            given_back: AtomicUsize::new(0),
            given_back_at_most: set_aside_bytes(*memory_bytes),
        }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() { &self.spilling } else { &self.holding }
    }

    /// Notes that memory was set aside.
    fn set_aside(&self, reservation: &MemoryReservation, bytes: usize) {
        if reservation.consumer().name().starts_with(SET_ASIDE) {
            let less = |given_back: usize| Some(given_back.saturating_sub(bytes));
            let _ = self.given_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Notes that memory was given back.
    fn give_back(&self, reservation: &MemoryReservation, bytes: usize) {
        if reservation.consumer().name().starts_with(SET_ASIDE) {
            let more = |given_back: usize| Some(given_back.saturating_add(bytes).min(self.given_back_at_most));
            let _ = self.given_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    /// Takes bytes of what was given back, if there are so many.
    fn take(&self, bytes: usize) -> bool {
        let less = |given_back: usize| given_back.checked_sub(bytes);
        self.given_back.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// What a sort sets aside for merging.
fn set_aside_bytes(memory_bytes: usize) -> usize {
    (memory_bytes / 5).min(10 << 20)
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
        self.set_aside(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
        self.give_back(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        let granted = self.of(reservation.consumer()).try_grow(reservation, additional);
        if granted.is_err() && reservation.consumer().can_spill() && self.take(additional) {
            self.spilling.grow(reservation, additional);
            return Ok(());
        }
        if granted.is_ok() {
            self.set_aside(reservation, additional);
        }
        granted
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
    /// Where plans run that can leave this process.
    runner: Option<Arc<dyn Runner>>,
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
        let pool = Arc::new(SplitPool::new(&resources));
        Self { resources, pool, runner: None }
    }

    /// The same engine, whose plans run there if they can leave this process.
    pub(crate) fn on(&self, runner: Arc<dyn Runner>) -> Self {
        Self { runner: Some(runner), ..self.clone() }
    }

    /// The same engine, whose plans run in this process.
    pub(crate) fn here(&self) -> Self {
        Self { runner: None, ..self.clone() }
    }

    /// Do plans run in other processes, if they can?
    pub(crate) fn runs_elsewhere(&self) -> bool {
        self.runner.is_some()
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
        options.execution.sort_spill_reservation_bytes = set_aside_bytes(self.resources.memory_bytes);
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
        // Plans whose results depend on how rows are divided, and those of few rows, run here.
        if let (Some(runner), Parallelism::Full) = (&self.runner, parallelism) {
            run_on(&mut config, runner.clone());
        }
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            .with_query_planner(Arc::new(remote::RemotePlanner))
            .with_default_features()
            .with_optimizer_rule(Arc::new(float_extremes::FloatExtremes))
            .with_physical_optimizer_rules(filter_pushdown::rules())
            .build();
        Ok(SessionContext::new_with_state(state))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, AsArray, Int64Array, RecordBatch},
        datatypes::Int64Type,
    };
    use datafusion::prelude::ident;

    use super::*;

    /// Rows of eight columns, which are NULL in the first of many small batches only. What a sort holds of them grows by more than a batch
    /// when it joins them.
    #[test]
    fn a_sort_that_spills_may_hold_nulls_in_some_of_its_batches() {
        const ROWS: i64 = 64;
        for (partitions, batches) in [(1, 40), (1, 400), (4, 400)] {
            let rows = |batch: i64| {
                let key: ArrayRef = Arc::new((0..ROWS).map(|row| (row * 7_919 + batch) % 1_000).collect::<Int64Array>());
                let value = |column: i64| {
                    (0..ROWS).map(|row| (batch > 0 || row % 2 == 0).then_some(row * column)).collect::<Int64Array>()
                };
                let values = (1..9).map(|column| (format!("v{column}"), Arc::new(value(column)) as ArrayRef, true));
                RecordBatch::try_from_iter_with_nullable(std::iter::once(("key".into(), key, true)).chain(values)).unwrap()
            };
            let engine = Engine::new(Resources { memory_bytes: 1 << 20, partitions, batch_rows: 64, ..Resources::default() });
            let found: Vec<RecordBatch> = tokio::runtime::Runtime::new().unwrap().block_on(async {
                let session = engine.session(Parallelism::Full, []).unwrap();
                let all = session.read_batches((0..batches).map(rows).collect::<Vec<_>>()).unwrap();
                all.sort(vec![ident("key").sort(true, true)]).unwrap().collect().await.unwrap()
            });
            let keys: Vec<i64> =
                found.iter().flat_map(|batch| batch["key"].as_primitive::<Int64Type>().values().to_vec()).collect();
            assert_eq!(keys.len() as i64, batches * ROWS);
            assert!(keys.is_sorted());
            let nulls: usize = found.iter().map(|batch| batch["v1"].null_count()).sum();
            assert_eq!(nulls as i64, ROWS / 2);
        }
    }
}
