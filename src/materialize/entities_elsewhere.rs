//! The rows of a set of entities, computed where the plans of the engine run.
//!
//! Here, entities are found while facts are read, in one pass. On a cluster no process sees all facts, so it is a query: the different keys of
//! the facts are a spine, whose rows all have the as-of as their instant, and lookups and windows are those of a training set. The rows,
//! their order and their batches are the same.
//!
//! The keys are found first, and held by this process if they are not too many: then facts that no entity needs are neither read nor sent.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::{BatchCoalescer, cast},
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::{
    dataframe::DataFrame,
    datasource::{MemTable, provider_as_source},
    logical_expr::{LogicalPlanBuilder, cast as cast_to},
    prelude::{Expr, ident, lit},
};
use futures::TryStreamExt;

use super::{
    drawn::instant,
    entities::{EntityRows, entity_key, has_event_time, instants, sources_by_key},
    facts::SetFacts,
    row_buffer::RowBuffer,
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, event_time_column},
    name::SetName,
    scan::VisibleTable,
    temporal::{Aggregate, EntityKey, Facts, Lookup, Spine, Window},
    time::{AsOf, Cutoff, TimeScale, instant_type},
    workspace::plain_type,
};

/// The column of the instants.
const AT: &str = "__at";
/// The most entities whose keys this process holds, and the most bytes of them.
const MOST_HELD: usize = 1 << 22;
const MOST_BYTES: usize = 128 << 20;

/// The rows of a set at an instant, by all keys and by some of them, in the order of the groups of keys. `tables` are those of the set as of
/// this instant.
pub(super) async fn entities_elsewhere(
    engine: &Engine,
    name: &SetName,
    set: &EntitySet,
    tables: &[VisibleTable],
    (as_of, cutoff): (AsOf, Cutoff),
) -> Result<Vec<(Vec<String>, EntityRows)>> {
    let place = format!("feature set `{name}`");
    let found = SetFacts::open(engine, &place, &set.views, &set.facts_of_source, tables).await?;
    let facts = set.facts_of_source.iter().map(|&of| found.of(of).cloned()).collect::<Result<Vec<Facts>>>()?;
    let groups = sources_by_key(set);
    let mut made = Vec::with_capacity(groups.len());
    for (number, (keys, own)) in groups.iter().enumerate() {
        let all: Vec<usize> = (0..set.sources.len()).collect();
        let query = EntityQuery {
            set,
            facts: &facts,
            keys: keys.iter().map(|&key| entity_key(set, &groups, &facts, key)).collect::<Result<_>>()?,
            own,
            sources: if number == 0 { &all } else { own },
            as_of,
            cutoff,
        };
        let names = keys.iter().map(|&key| set.keys[key].clone()).collect();
        made.push((names, query.rows().await?));
    }
    Ok(made)
}

/// The rows by some keys.
struct EntityQuery<'a> {
    set: &'a EntitySet,
    /// By source.
    facts: &'a [Facts],
    keys: Vec<EntityKey>,
    /// The sources that have exactly these keys: their facts say which entities there are.
    own: &'a [usize],
    /// The sources whose features the rows have.
    sources: &'a [usize],
    as_of: AsOf,
    cutoff: Cutoff,
}

/// A column of the result: its field, and how its times are stored if it is converted to instants.
type Output = (Field, Option<TimeScale>);

impl EntityQuery<'_> {
    async fn rows(&self) -> Result<EntityRows> {
        let mut spine = Spine::new(held(self.keys()?).await?.with_column(AT, instant(self.as_of))?, AT);
        let lookups = self
            .sources
            .iter()
            .filter(|&&i| !self.set.sources[i].lookups.is_empty())
            .map(|&i| self.set.sources[i].lookup_in(self.facts[i].clone(), &self.on(i), Some(i)).cutoff(self.cutoff));
        let lookups: Vec<_> = lookups.chain(self.seen_timeless()).collect();
        if !lookups.is_empty() {
            spine = spine.lookup(lookups)?;
        }
        let has_aggregates = |i: usize| self.set.sources[i].windows.iter().any(|(_, aggregates)| !aggregates.is_empty());
        let windows = self.sources.iter().filter(|&&i| has_aggregates(i));
        let windows = windows.map(|&i| self.set.sources[i].windows_over(self.facts[i].clone(), &self.on(i)).cutoff(self.cutoff));
        let windows: Vec<_> = windows.chain(self.seen()).collect();
        if !windows.is_empty() {
            spine = spine.window(windows)?;
        }
        let mut rows = spine.into_rows();
        let is_seen = |(source, column): (usize, String)| match self.facts[source].is_timeless() {
            true => ident(column).is_not_null(),
            false => ident(column).gt(lit(0_i64)),
        };
        let seen = self.seen_columns().map(is_seen);
        if let Some(seen) = seen.reduce(Expr::or) {
            rows = rows.filter(seen)?;
        }
        let outputs = self.outputs(rows.schema().as_arrow())?;
        let order = self.keys.iter().map(|key| ident(key.name()).sort(true, true)).collect();
        let columns = outputs.iter().map(|(field, _)| ident(field.name())).collect::<Vec<_>>();
        buffered(rows.sort(order)?.select(columns)?, outputs).await
    }

    /// The different keys of the facts.
    fn keys(&self) -> Result<DataFrame> {
        let mut all: Option<DataFrame> = None;
        for &i in self.own {
            let on = self.on(i);
            let mut keys = self.facts[i].rows().clone();
            for (_, column) in &on {
                keys = keys.filter(ident(column).is_not_null())?;
            }
            let columns = self
                .keys
                .iter()
                .zip(&on)
                .map(|(key, (_, column))| cast_to(ident(column), key.compared().clone()).alias(key.name()));
            let keys = keys.select(columns.collect::<Vec<_>>())?;
            all = Some(match all {
                Some(before) => before.union(keys)?,
                None => keys,
            });
        }
        let all =
            all.ok_or_else(|| Error::Internal { subject: "a set of entities".into(), reason: "no source has its keys".into() })?;
        Ok(all.distinct()?)
    }

    /// The keys of a source and their columns, in the order of the keys that it shares with the rows.
    fn on(&self, source: usize) -> Vec<(String, String)> {
        let columns = &self.set.sources[source].on;
        self.keys.iter().flat_map(|key| columns.iter().filter(|(name, _)| name == key.name()).cloned()).collect()
    }

    /// Where facts are replaced, an entity may have facts and see none of them. So the facts that it sees are counted, in the sources that
    /// say which entities there are.
    fn seen(&self) -> impl Iterator<Item = Window> {
        self.seen_columns().filter(|(source, _)| !self.facts[*source].is_timeless()).map(|(source, column)| {
            let window = Window::of(self.facts[source].clone()).cutoff(self.cutoff);
            let window = self.on(source).into_iter().fold(window, |window, (key, column)| window.on_columns(key, column));
            window.all_before([Aggregate::count().named(column)])
        })
    }

    /// The same for timeless tables, all of whose rows are seen: a key of the row that is found.
    fn seen_timeless(&self) -> impl Iterator<Item = Lookup> {
        self.seen_columns().filter(|(source, _)| self.facts[*source].is_timeless()).map(|(source, column)| {
            let (on, lookup) = (self.on(source), Lookup::of(self.facts[source].clone()));
            let lookup = on.iter().fold(lookup, |lookup, (key, column)| lookup.on_columns(key, column));
            on.into_iter().take(1).fold(lookup, |lookup, (_, key)| lookup.column_as(key, column.clone()))
        })
    }

    fn seen_columns(&self) -> impl Iterator<Item = (usize, String)> {
        let may_be_replaced = self.own.iter().any(|&i| !self.facts[i].declared().identity.is_empty());
        let counted = if may_be_replaced { self.own } else { &[] };
        counted.iter().map(|&i| (i, format!("__seen_{i}")))
    }

    /// The columns of the rows: keys, features by source, and last the event times of facts that may be too old.
    fn outputs(&self, rows: &Schema) -> Result<Vec<Output>> {
        let (mut outputs, mut event_times): (Vec<Output>, Vec<Output>) = (Vec::new(), Vec::new());
        for key in &self.keys {
            outputs.push((Field::new(key.name(), key.declared().clone(), false), None));
        }
        for &i in self.sources {
            let source = &self.set.sources[i];
            let aggregates = source.windows.iter().flat_map(|(_, aggregates)| aggregates).map(Aggregate::output);
            for name in source.lookups.iter().map(|(_, name)| name.as_str()).chain(aggregates) {
                outputs.push((Field::new(name, plain_type(rows.field_with_name(name)?.data_type()), true), None));
            }
            if has_event_time(source) {
                event_times.push((Field::new(event_time_column(i), instant_type(), true), Some(self.facts[i].event_scale()?)));
            }
        }
        outputs.extend(event_times);
        Ok(outputs)
    }
}

/// The same rows in memory; if they are too many, the query as it is.
async fn held(query: DataFrame) -> Result<DataFrame> {
    let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
    let mut stream = query.clone().execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if rows > MOST_HELD || bytes > MOST_BYTES {
            return Ok(query);
        }
        batches.push(batch);
    }
    let table = provider_as_source(Arc::new(MemTable::try_new(stream.schema(), vec![batches])?));
    let (state, _) = query.into_parts();
    Ok(DataFrame::new(state, LogicalPlanBuilder::scan("keys", table, None)?.build()?))
}

/// The rows on this machine's disk, with their types, in the batches of a set of entities.
async fn buffered(rows: DataFrame, outputs: Vec<Output>) -> Result<EntityRows> {
    let schema: SchemaRef = Arc::new(Schema::new(outputs.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()));
    let mut batches = BatchCoalescer::new(schema.clone(), EntityRows::batch_rows(&schema));
    let mut written = RowBuffer::create(schema.clone())?;
    let mut rows = rows.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        let column = |((field, scale), values): (&Output, &ArrayRef)| match scale {
            Some(scale) => instants(values, *scale),
            None => Ok(cast(values, field.data_type())?),
        };
        let columns = outputs.iter().zip(batch.columns()).map(column).collect::<Result<Vec<_>>>()?;
        batches.push_batch(RecordBatch::try_new(schema.clone(), columns)?)?;
        while let Some(full) = batches.next_completed_batch() {
            written.write(&full)?;
        }
    }
    batches.finish_buffered_batch()?;
    while let Some(last) = batches.next_completed_batch() {
        written.write(&last)?;
    }
    Ok(EntityRows::Buffered(written.finish()?))
}
