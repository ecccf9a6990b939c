//! The features of entities: at one instant for a materialization, at each row's own instant for a training set.
//! Both ask the same of the same facts; a materialization finds its entities on the way.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use chrono::TimeDelta;
use datafusion::{
    logical_expr::Expr,
    prelude::{DataFrame, ident},
};

use super::{rows::plain_type, run::Pinned};
use crate::{
    engine::{Engine, Parallelism},
    error::{Error, Result},
    feature_set::{EntitySet, Source},
    name::TableName,
    scan::{self, AsOfTable},
    temporal::{self, EntityKey, EntityQuestion, Facts, Lookup, Spine, Window},
    time::{AsOf, Cutoff, TimeScale},
};

/// The name of the column that holds the event time of what a source with a max age looked up: whoever serves the row
/// judges its age at the instant of the request.
pub(crate) fn event_time_of(source: usize) -> String {
    format!("_event_time_{source}")
}

/// Values in a batch of a materialization, and its rows at most.
const BATCH_VALUES: usize = 1 << 20;
const BATCH_ROWS: usize = 65_536;

/// The sources of a set that find their facts by the same keys, and what they know of every entity at one instant.
struct Group {
    /// Places of the keys among those of the set.
    keys: Vec<usize>,
    sources: Vec<usize>,
    entities: temporal::Entities,
}

/// All features of the entities of a set at an instant: rows for those that a visible fact is about, by all of their keys; and
/// rows by fewer keys for what is known by those alone, so that any key can be answered as training answers it.
pub(crate) struct EntityTables {
    pub(crate) whole: EntityTable,
    /// By fewer keys than all.
    pub(crate) partial: Vec<EntityTable>,
}

/// Rows by key, in the order of the keys.
pub(crate) struct EntityTable {
    pub(crate) keys: Vec<String>,
    pub(crate) schema: SchemaRef,
    pub(crate) rows: usize,
    groups: Arc<Vec<Group>>,
    /// Which group says who there is.
    of: usize,
    columns: Vec<Output>,
}

/// A column of a result: of which group's answers, and how it is given out.
#[derive(Clone)]
struct Output {
    group: usize,
    answer: usize,
    field: Field,
    /// A time to be given out as an instant.
    scale: Option<TimeScale>,
}

/// Keys and features of every entity that has a visible fact in a table that knows all of its keys, in the order of the keys.
pub(crate) async fn entities(
    engine: &Engine,
    set: &EntitySet,
    tables: &[Pinned],
    as_of: AsOf,
    cutoff: Cutoff,
) -> Result<EntityTables> {
    let mut asked = Vec::new();
    for keys in key_groups(set) {
        let sources: Vec<usize> = (0..set.sources.len()).filter(|&i| keys_of(set, &set.sources[i]) == keys).collect();
        let mut questions = Vec::with_capacity(sources.len());
        for &i in &sources {
            let source = &set.sources[i];
            let pinned = pinned(tables, &source.table.parse()?)?;
            let facts = facts(engine, pinned, opened(pinned, as_of, cutoff).await?.newest_first()).await?;
            questions.push(question(set, &keys, i, facts, cutoff));
        }
        asked.push((keys, sources, questions));
    }
    // A key has one type in all groups, whichever tables hold it.
    let key = |number: usize| {
        let columns = asked.iter().flat_map(|(keys, _, questions)| {
            let place = keys.iter().position(|key| *key == number);
            questions.iter().filter_map(move |question| Some((&question.facts, question.on.get(place?)?.as_str())))
        });
        EntityKey::new(&set.keys[number], columns)
    };
    let keys_of_groups = asked.iter().map(|(keys, ..)| keys.iter().map(|&number| key(number)).collect::<Result<Vec<_>>>());
    let keys_of_groups = keys_of_groups.collect::<Result<Vec<_>>>()?;
    let mut groups: Vec<Group> = Vec::new();
    for ((keys, sources, questions), of_group) in asked.into_iter().zip(keys_of_groups) {
        groups.push(Group { keys, sources, entities: temporal::entities(&of_group, questions, as_of).await? });
    }
    let mut scales = Vec::with_capacity(set.sources.len());
    for source in &set.sources {
        let version = &pinned(tables, &source.table.parse()?)?.version;
        let (declared, schema) = (version.declared(), version.file_schema()?);
        scales.push(declared.scale(&format!("table `{}`", source.table), &declared.event_time, &schema)?);
    }
    let groups = Arc::new(groups);
    let all: Vec<usize> = (0..set.sources.len()).collect();
    let whole = EntityTable::new(set, groups.clone(), 0, &all, &scales)?;
    let partial = (1..groups.len()).map(|of| EntityTable::new(set, groups.clone(), of, &groups[of].sources, &scales));
    Ok(EntityTables { whole, partial: partial.collect::<Result<_>>()? })
}

/// The different keys by which sources find their facts; all keys first.
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

/// Places of a source's keys among those of the set.
fn keys_of(set: &EntitySet, source: &Source) -> Vec<usize> {
    (0..set.keys.len()).filter(|&i| source.on.iter().any(|(key, _)| *key == set.keys[i])).collect()
}

/// What a set asks of one source.
fn question(set: &EntitySet, keys: &[usize], source: usize, facts: Facts, cutoff: Cutoff) -> EntityQuestion {
    let (i, source) = (source, &set.sources[source]);
    let on: Vec<(String, String)> =
        keys.iter().flat_map(|&key| source.on.iter().filter(move |(name, _)| *name == set.keys[key]).cloned()).collect();
    let lookup = (!source.lookups.is_empty()).then(|| lookup(source, &on, facts.clone(), cutoff, Some(i)));
    let window = window(source, &on, facts.clone(), cutoff);
    EntityQuestion { facts, on: on.into_iter().map(|(_, column)| column).collect(), lookup, window }
}

impl EntityTable {
    fn new(set: &EntitySet, groups: Arc<Vec<Group>>, of: usize, sources: &[usize], scales: &[TimeScale]) -> Result<Self> {
        let keys: Vec<String> = groups[of].keys.iter().map(|&key| set.keys[key].clone()).collect();
        let mut fields: Vec<Field> = Vec::new();
        for (key, column) in keys.iter().zip(groups[of].entities.keys(0..0)?) {
            fields.push(Field::new(key, column.data_type().clone(), false));
        }
        let (mut columns, mut event_times) = (Vec::new(), Vec::new());
        for &i in sources {
            let source = &set.sources[i];
            let group = groups.iter().position(|group| group.sources.contains(&i)).unwrap_or_default();
            // The answers of a group lie source by source: what was looked up, the event time of that, then windows.
            let before = groups[group].sources.iter().take_while(|&&other| other != i);
            let mut answer: usize = before.map(|&other| answers_of(&set.sources[other])).sum();
            let types = groups[group].entities.answers(0..0)?;
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
                event_times.push(output(&event_time_of(i), Some(scales[i])));
            }
            for aggregate in source.windows.iter().flat_map(|(_, aggregates)| aggregates) {
                columns.push(output(aggregate.output(), None));
            }
        }
        columns.extend(event_times);
        fields.extend(columns.iter().map(|column| column.field.clone()));
        let rows = groups[of].entities.len();
        Ok(Self { keys, schema: Arc::new(Schema::new(fields)), rows, groups, of, columns })
    }

    /// All rows, batch by batch.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let rows = (BATCH_VALUES / self.schema.fields().len()).clamp(1, BATCH_ROWS);
        (0..self.rows).step_by(rows).map(move |first| self.batch(first..(first + rows).min(self.rows)))
    }

    fn batch(&self, rows: Range<usize>) -> Result<RecordBatch> {
        let own = &self.groups[self.of];
        let keys = own.entities.keys(rows.clone())?;
        let mut answers: Vec<Option<Vec<ArrayRef>>> = vec![None; self.groups.len()];
        let mut columns = keys.clone();
        for output in &self.columns {
            let found = match &mut answers[output.group] {
                Some(found) => found,
                none => {
                    let group = &self.groups[output.group];
                    none.insert(if output.group == self.of {
                        group.entities.answers(rows.clone())?
                    } else {
                        let place = |key: &usize| own.keys.iter().position(|own| own == key).unwrap_or_default();
                        let by: Vec<ArrayRef> = group.keys.iter().map(|key| keys[place(key)].clone()).collect();
                        group.entities.answers_for(&by)?
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

fn has_event_time(source: &Source) -> bool {
    source.max_age_us.is_some() && !source.lookups.is_empty()
}

fn answers_of(source: &Source) -> usize {
    source.outputs().count() + usize::from(has_event_time(source))
}

fn instant_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

/// Times as instants in microseconds, rounded towards the past; whether they are before a microsecond stays the same.
fn instants(times: &ArrayRef, scale: TimeScale) -> Result<ArrayRef> {
    let integers = match times.data_type() {
        DataType::Date32 => cast(&cast(times, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(times, &DataType::Int64)?,
    };
    let instants = integers.as_primitive::<Int64Type>().iter().map(|time| time.map(|time| scale.instant_us(time)));
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}

/// The spine with the features of the set as they were at each row's own instant.
pub(crate) async fn training_rows(
    engine: &Engine,
    set: &EntitySet,
    tables: &[Pinned],
    cutoff: Cutoff,
    spine: Spine,
) -> Result<DataFrame> {
    let mut facts = Vec::with_capacity(set.sources.len());
    for source in &set.sources {
        // The operators cut the facts at each row's instant; none is cut off before.
        facts.push(facts_of(engine, pinned(tables, &source.table.parse()?)?, AsOf::END_OF_TIME, cutoff).await?);
    }
    let before: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
    let features = set.outputs().map(ident).collect::<Vec<_>>();
    let rows = ask(spine, set, facts, cutoff)?.into_rows();
    // Features in the order of the definition, whatever operator made them.
    Ok(rows.select(before.into_iter().chain(features).collect::<Vec<_>>())?)
}

/// The facts of a registered table as of an instant.
pub(crate) async fn facts_of(engine: &Engine, pinned: &Pinned, as_of: AsOf, cutoff: Cutoff) -> Result<Facts> {
    facts(engine, pinned, opened(pinned, as_of, cutoff).await?).await
}

async fn opened(pinned: &Pinned, as_of: AsOf, cutoff: Cutoff) -> Result<AsOfTable> {
    AsOfTable::open(pinned.version.clone(), pinned.place.clone(), as_of, cutoff).await
}

async fn facts(engine: &Engine, pinned: &Pinned, table: AsOfTable) -> Result<Facts> {
    let name = pinned.version.table();
    let rows = scan::table(engine, Parallelism::Full, name, table).await?;
    Ok(Facts::new(&name.to_string(), rows, pinned.version.declared().clone()))
}

fn pinned<'a>(tables: &'a [Pinned], name: &TableName) -> Result<&'a Pinned> {
    let found = tables.iter().find(|pinned| pinned.version.table() == name);
    found.ok_or_else(|| Error::UnknownTable { table: name.to_string(), known: Vec::new() })
}

/// Puts the questions of a set to a spine: all lookups in one pass, all windows in another.
fn ask(spine: Spine, set: &EntitySet, facts: Vec<Facts>, cutoff: Cutoff) -> Result<Spine> {
    let (mut lookups, mut windows) = (Vec::new(), Vec::new());
    for (source, facts) in set.sources.iter().zip(facts) {
        if !source.lookups.is_empty() {
            lookups.push(lookup(source, &source.on, facts.clone(), cutoff, None));
        }
        if !source.windows.is_empty() {
            windows.push(window(source, &source.on, facts, cutoff));
        }
    }
    let spine = if lookups.is_empty() { spine } else { spine.lookup(lookups)? };
    if windows.is_empty() { Ok(spine) } else { spine.window(windows) }
}

/// `event_time` names the source whose facts' event times are wanted too, where there is a max age.
fn lookup(source: &Source, on: &[(String, String)], facts: Facts, cutoff: Cutoff, event_time: Option<usize>) -> Lookup {
    let event_column = facts.declared().event_column().to_owned();
    let mut lookup = Lookup::of(facts).cutoff(cutoff);
    for (key, column) in on {
        lookup = lookup.on_columns(key, column);
    }
    for (column, output) in &source.lookups {
        lookup = lookup.column_as(column, output);
    }
    let Some(age) = source.max_age_us else { return lookup };
    if let Some(i) = event_time {
        lookup = lookup.column_as(event_column, event_time_of(i));
    }
    lookup.max_age(TimeDelta::microseconds(age))
}

fn window(source: &Source, on: &[(String, String)], facts: Facts, cutoff: Cutoff) -> Window {
    let mut window = Window::of(facts).cutoff(cutoff);
    for (key, column) in on {
        window = window.on_columns(key, column);
    }
    for (length, aggregates) in &source.windows {
        window = match length {
            Some(length) => window.trailing(TimeDelta::microseconds(*length), aggregates.clone()),
            None => window.all_before(aggregates.clone()),
        };
    }
    window
}
