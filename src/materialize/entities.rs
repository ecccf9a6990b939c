//! The rows of a set of entities at one instant or several: which entities there are, and their features.
//! Lookups and windows are computed by `temporal`; this file groups them by key and puts their columns together.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{Field, Schema, SchemaRef},
};

use super::{facts::SetFacts, incremental::TableFiles, row_buffer::RowBuffer};
use crate::{
    engine::Engine,
    error::{Error, Result},
    feature_set::{EntitySet, FactsOf, Source, event_time_column},
    name::SetName,
    scan::{AsOfTable, VisibleTable},
    temporal::{self, EntityGroup, EntityKey, EntitySource, Facts, UnfinishedTiles},
    time::{AsOf, Cutoff, TimeScale, instant_type, stored_integers},
    workspace::plain_type,
};

/// How many values, and how many rows, a batch of a materialization holds at most.
const BATCH_VALUES: usize = 1 << 20;
const BATCH_ROWS: usize = 65_536;

/// The sources of a set that find their facts by the same keys, with their results for every entity at each instant.
struct Group {
    /// Positions of the keys among those of the set.
    keys: Vec<usize>,
    sources: Vec<usize>,
    entities: temporal::Entities,
}

/// The features of a set's entities at an instant: a row for every entity with a visible fact, by all keys; and rows by some of the
/// keys, from which keys without a row are answered as training answers them.
pub(crate) struct EntityTables {
    pub(crate) whole: EntityTable,
    /// Rows by some of the keys.
    pub(crate) partial: Vec<EntityTable>,
}

/// Rows by key, in the order of the keys.
pub(crate) struct EntityTable {
    pub(crate) keys: Vec<String>,
    pub(crate) rows: EntityRows,
}

/// Where the rows are.
pub(crate) enum EntityRows {
    /// In memory, by slot.
    Found(FoundRows),
    /// On this machine's disk, in batches of [`EntityRows::batch_rows`].
    Buffered(RowBuffer),
}

impl EntityRows {
    /// How many rows a batch with these columns has. The bytes of a materialization depend on it.
    pub(super) fn batch_rows(schema: &Schema) -> usize {
        (BATCH_VALUES / schema.fields().len()).clamp(1, BATCH_ROWS)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        match self {
            EntityRows::Found(rows) => &rows.schema,
            EntityRows::Buffered(rows) => rows.schema(),
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        match self {
            EntityRows::Found(rows) => rows.rows.len() as u64,
            EntityRows::Buffered(rows) => rows.rows(),
        }
    }

    /// Hands all rows over, batch by batch.
    pub(crate) fn each_batch(&self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        match self {
            EntityRows::Found(rows) => rows.batches().try_for_each(|batch| take(batch?)),
            EntityRows::Buffered(rows) => rows.batches(None)?.try_for_each(|batch| take(batch?)),
        }
    }
}

/// Rows in memory: entities, and the columns of their results.
pub(crate) struct FoundRows {
    schema: SchemaRef,
    /// The numbers of the entities, in the order of the rows.
    rows: Vec<u32>,
    instant: usize,
    groups: Arc<Vec<Group>>,
    /// The group whose entities are the rows.
    of: usize,
    columns: Vec<Output>,
}

/// A column of a result: which result of which group it is, and how it is converted.
#[derive(Clone)]
struct Output {
    group: usize,
    answer: usize,
    field: Field,
    /// For a time that is converted to an instant.
    scale: Option<TimeScale>,
}

/// The features of a set's entities at some instants. `tables` are those of the set, as of the last of the instants, which are in order;
/// `name` names it in errors. Each table is opened and read once, however many sources have it and however many instants there are. There
/// is one instant if facts of a table are replaced by later versions. `files` says how each table is read; those that it does not
/// have, and all with several instants, are read as a whole.
pub(crate) async fn entities(
    engine: &Engine,
    name: &SetName,
    set: &EntitySet,
    tables: &[VisibleTable],
    files: Vec<TableFiles>,
    (instants, cutoff): (&[AsOf], Cutoff),
) -> Result<EntitiesAtInstants> {
    let (mut opened, mut tiled, mut files) = (Vec::with_capacity(tables.len()), BTreeMap::new(), files.into_iter());
    for (number, table) in tables.iter().enumerate() {
        let table = AsOfTable::open(table).await?.newest_first();
        tiled.extend(files.next().and_then(|files| files.of(table.clone())).map(|tiled| (number, tiled)));
        opened.push(Some(table));
    }
    let place = format!("feature set `{name}`");
    let found = SetFacts::of_opened(engine, &place, &set.views, &set.facts_of_source, &opened).await?;
    let facts = set.facts_of_source.iter().map(|&of| found.of(of).cloned()).collect::<Result<Vec<Facts>>>()?;
    let groups = sources_by_key(set);
    let mut asked = Vec::with_capacity(groups.len());
    for (keys, sources) in &groups {
        let of_source = |&i: &usize| entity_source(set, keys, (i, tables.len()), &facts[i]);
        asked.push(EntityGroup {
            keys: keys.iter().map(|&number| entity_key(set, &groups, &facts, number)).collect::<Result<_>>()?,
            sources: sources.iter().map(of_source).collect(),
        });
    }
    let scales = facts.iter().map(Facts::event_scale).collect::<Result<_>>()?;
    let (found, unfinished) = temporal::entities(asked, tiled, instants, cutoff).await?;
    let groups = groups.into_iter().zip(found).map(|((keys, sources), entities)| Group { keys, sources, entities });
    Ok(EntitiesAtInstants { set: set.clone(), groups: Arc::new(groups.collect()), scales, unfinished })
}

/// A key of a set. It has one type in all groups, whichever tables have it.
pub(super) fn entity_key(set: &EntitySet, groups: &[KeyGroup], facts: &[Facts], number: usize) -> Result<EntityKey> {
    let columns = groups.iter().flat_map(|(_, sources)| sources).filter_map(|&i| {
        let column = set.sources[i].on.iter().find(|(key, _)| *key == set.keys[number]);
        column.map(|(_, column)| (&facts[i], column.as_str()))
    });
    EntityKey::new(&set.keys[number], columns)
}

/// The entities of a set at some instants.
pub(crate) struct EntitiesAtInstants {
    set: EntitySet,
    groups: Arc<Vec<Group>>,
    /// By source, how the event times of its table are stored.
    scales: Vec<TimeScale>,
    /// Tiles that the rows do not wait for.
    unfinished: UnfinishedTiles,
}

impl EntitiesAtInstants {
    /// Takes the tiles that are still being made or stored.
    pub(crate) fn take_unfinished(&mut self) -> UnfinishedTiles {
        std::mem::take(&mut self.unfinished)
    }

    /// The rows at an instant: every entity that has a visible fact in a table with all of the set's keys, in the order of the keys.
    /// Instants are numbered from zero.
    pub(crate) fn at(&self, instant: usize) -> Result<EntityTables> {
        let Self { set, groups, scales, .. } = self;
        let all: Vec<usize> = (0..set.sources.len()).collect();
        let table = |of: usize, sources: &[usize]| {
            let keys = groups[of].keys.iter().map(|&key| set.keys[key].clone()).collect();
            let rows = EntityRows::Found(FoundRows::new(set, groups.clone(), of, sources, scales, instant)?);
            Ok::<_, Error>(EntityTable { keys, rows })
        };
        let whole = table(0, &all)?;
        let partial = (1..groups.len()).map(|of| table(of, &groups[of].sources)).collect::<Result<_>>()?;
        Ok(EntityTables { whole, partial })
    }
}

/// Positions of keys among those of a set, and the sources that have exactly these.
pub(super) type KeyGroup = (Vec<usize>, Vec<usize>);

/// The different combinations of keys by which sources find their facts, all keys first, and the sources of each.
pub(super) fn sources_by_key(set: &EntitySet) -> Vec<KeyGroup> {
    let with_sources = |keys: Vec<usize>| {
        let sources = (0..set.sources.len()).filter(|&i| keys_of(set, &set.sources[i]) == keys).collect();
        (keys, sources)
    };
    key_groups(set).into_iter().map(with_sources).collect()
}

/// The sources over a table, in the order in which its facts are handed to them.
pub(super) fn sources_of_table(set: &EntitySet, table: usize) -> Vec<&Source> {
    let sources = sources_by_key(set).into_iter().flat_map(|(_, sources)| sources);
    sources.filter(|&i| set.facts_of_source[i] == FactsOf::Table(table)).map(|i| &set.sources[i]).collect()
}

/// The different combinations of keys by which sources find their facts; all keys first.
fn key_groups(set: &EntitySet) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![(0..set.keys.len()).collect()];
    for source in &set.sources {
        let keys = keys_of(set, source);
        if !groups.contains(&keys) {
            groups.push(keys);
        }
    }
    groups
}

/// Positions of a source's keys among those of the set.
fn keys_of(set: &EntitySet, source: &Source) -> Vec<usize> {
    (0..set.keys.len()).filter(|&i| source.on.iter().any(|(key, _)| *key == set.keys[i])).collect()
}

/// The lookup and windows of the `i`th source over its facts, with its keys in the order of the set's. Views are numbered after
/// the tables of the set.
fn entity_source(set: &EntitySet, keys: &[usize], (i, tables): (usize, usize), facts: &Facts) -> EntitySource {
    let source = &set.sources[i];
    let table = match set.facts_of_source[i] {
        FactsOf::Table(table) => table,
        FactsOf::View(view) => tables + view,
    };
    let on: Vec<(String, String)> =
        keys.iter().flat_map(|&key| source.on.iter().filter(move |(name, _)| *name == set.keys[key]).cloned()).collect();
    let lookup = (!source.lookups.is_empty()).then(|| source.lookup_in(facts.clone(), &on, Some(i)));
    EntitySource { table, lookup, window: source.windows_over(facts.clone(), &on) }
}

impl FoundRows {
    fn new(
        set: &EntitySet,
        groups: Arc<Vec<Group>>,
        of: usize,
        sources: &[usize],
        scales: &[TimeScale],
        instant: usize,
    ) -> Result<Self> {
        let mut fields: Vec<Field> = Vec::new();
        for (&key, column) in groups[of].keys.iter().zip(groups[of].entities.keys(&[])?) {
            fields.push(Field::new(&set.keys[key], column.data_type().clone(), false));
        }
        let (mut columns, mut event_times) = (Vec::new(), Vec::new());
        for &i in sources {
            let source = &set.sources[i];
            let group = groups.iter().position(|group| group.sources.contains(&i)).unwrap_or_default();
            // The results of a group are ordered by source: lookups, the event time of the looked-up fact, then windows.
            let before = groups[group].sources.iter().take_while(|&&other| other != i);
            let mut answer: usize = before.map(|&other| answers_of(&set.sources[other])).sum();
            let types = groups[group].entities.results(&[], instant)?;
            let mut output = |name: &str, scale: Option<TimeScale>| {
                let data_type = match scale {
                    Some(_) => instant_type(),
                    None => plain_type(types[answer].data_type()),
                };
                answer += 1;
                Output { group, answer: answer - 1, field: Field::new(name, data_type, true), scale }
            };
            for (_, name) in &source.lookups {
                columns.push(output(name, None));
            }
            if has_event_time(source) {
                event_times.push(output(&event_time_column(i), Some(scales[i])));
            }
            for aggregate in source.windows.iter().flat_map(|(_, aggregates)| aggregates) {
                columns.push(output(aggregate.output(), None));
            }
        }
        columns.extend(event_times);
        fields.extend(columns.iter().map(|column| column.field.clone()));
        let rows = groups[of].entities.at(instant);
        Ok(Self { schema: Arc::new(Schema::new(fields)), rows, instant, groups, of, columns })
    }

    fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        self.rows.chunks(EntityRows::batch_rows(&self.schema)).map(|rows| self.batch(rows))
    }

    fn batch(&self, rows: &[u32]) -> Result<RecordBatch> {
        let own = &self.groups[self.of];
        let keys = own.entities.keys(rows)?;
        let mut answers: Vec<Option<Vec<ArrayRef>>> = vec![None; self.groups.len()];
        let mut columns = keys.clone();
        for output in &self.columns {
            let found = match &mut answers[output.group] {
                Some(found) => found,
                none => {
                    let group = &self.groups[output.group];
                    none.insert(if output.group == self.of {
                        group.entities.results(rows, self.instant)?
                    } else {
                        let position = |key: &usize| own.keys.iter().position(|own| own == key).unwrap_or_default();
                        let by: Vec<ArrayRef> = group.keys.iter().map(|key| keys[position(key)].clone()).collect();
                        group.entities.results_for(&by, self.instant)?
                    })
                }
            };
            columns.push(match output.scale {
                Some(scale) => instants(&found[output.answer], scale)?,
                None => cast(&found[output.answer], output.field.data_type())?,
            });
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

pub(super) fn has_event_time(source: &Source) -> bool {
    source.max_age_us.is_some() && !source.lookups.is_empty()
}

fn answers_of(source: &Source) -> usize {
    source.outputs().count() + usize::from(has_event_time(source))
}

/// Times as instants in microseconds, rounded down, so that comparing them with whole microseconds gives the same results.
pub(super) fn instants(times: &ArrayRef, scale: TimeScale) -> Result<ArrayRef> {
    let integers = stored_integers(times)?;
    let instants = integers.iter().map(|time| time.map(|time| scale.instant_us(time)));
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}
