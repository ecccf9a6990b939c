//! Rows of entities by key, of one materialization. They are read, not recomputed.

use std::{cell::RefCell, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, Int64Array, TimestampMicrosecondArray, new_null_array},
    datatypes::SchemaRef,
};

use super::feature_row::{FeatureRow, Shape};
use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, SetBody, Source, event_time_column},
    materialize::{BuildThreads, Materialization, ServedRows},
    served::{Row, RowLayout, Rows},
    time::AsOf,
    value::Value,
};

/// The rows of a materialization of entities.
pub(super) struct ServedEntities {
    rows: ServedRows,
    partial: Vec<Partial>,
    /// The answer for a key without facts.
    nothing: Row,
    max_ages: Vec<MaxAge>,
    /// The features of an answer. Event times are only used to compute ages.
    shape: Arc<Shape>,
    /// The first feature that is not a number.
    not_a_number: Option<usize>,
}

/// Rows by some of the keys, for keys that have no row of their own.
struct Partial {
    /// Their group in the file.
    group: usize,
    /// Their positions in the key.
    keys: Vec<usize>,
    /// The positions of its columns among those of the whole row.
    columns: Vec<usize>,
}

/// Looked-up features that become NULL when their fact is too old.
struct MaxAge {
    /// The column that holds the event time of the fact.
    event_time: usize,
    max_age_us: i64,
    features: Vec<usize>,
}

/// The key of a request.
#[derive(Clone, Copy)]
enum Keys<'a> {
    Values(&'a [Value]),
    /// A row of columns of the key's types.
    Columns(&'a [ArrayRef], usize),
}

thread_local! {
    /// Buffers of a read, so that it needs no memory of its own.
    static BUFFERS: RefCell<(Vec<u8>, Row)> = const { RefCell::new((Vec::new(), Row::EMPTY)) };
}

impl ServedEntities {
    /// Opens the rows of a materialization of entities.
    pub(super) async fn new(made: Materialization, threads: BuildThreads) -> Result<Self> {
        let rows = ServedRows::open(&made, threads).await?;
        let layout = rows.layout(0);
        let all = layout.value_schema().clone();
        let mut partial = Vec::with_capacity(made.manifest().partial.len());
        for (i, part) in made.manifest().partial.iter().enumerate() {
            let position_of = |name: &String| made.manifest().keys.iter().position(|key| key == name);
            let keys = part.keys.iter().filter_map(position_of).collect();
            let columns = rows.layout(i + 1).value_schema().fields().iter().map(|field| Ok(all.index_of(field.name())?));
            partial.push(Partial { group: i + 1, keys, columns: columns.collect::<Result<_>>()? });
        }
        let SetBody::Entities(set) = &made.set()?.body else {
            return Err(Error::Internal {
                subject: format!("serving feature set `{}`", made.manifest().set),
                reason: "it has neither rows nor entities".into(),
            });
        };
        let nothing = all.fields().iter().map(|field| -> ArrayRef {
            let is_count = set.sources.iter().any(|source| source.counts().any(|name| name == field.name()));
            if is_count { Arc::new(Int64Array::from(vec![0])) } else { new_null_array(field.data_type(), 1) }
        });
        let nothing = layout.row_of(&nothing.collect::<Vec<_>>())?;
        let max_ages = max_ages(made.set()?, &all)?;
        let columns = (0..all.fields().len()).filter(|i| max_ages.iter().all(|age| age.event_time != *i)).collect();
        let shape = Arc::new(Shape::new(rows.layouts().clone(), columns)?);
        let not_a_number = shape.columns.iter().position(|&column| !layout.is_number(column));
        Ok(Self { rows, partial, nothing, max_ages, shape, not_a_number })
    }

    pub(super) fn materialization(&self) -> &Materialization {
        self.rows.made()
    }

    /// Bytes of the served file.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    /// The key's columns.
    pub(super) fn key_schema(&self) -> &SchemaRef {
        self.layout().key_schema()
    }

    /// The columns of an answer.
    pub(super) fn features(&self) -> &SchemaRef {
        &self.shape.features
    }

    pub(super) fn has_max_age(&self) -> bool {
        !self.max_ages.is_empty()
    }

    fn layout(&self) -> &RowLayout {
        self.rows.layout(0)
    }

    /// Refuses requests without an instant if values age.
    pub(super) fn check_needs_no_instant(&self) -> Result<()> {
        match self.has_max_age() {
            true => Err(self.refused("has a max age, which depends on the instant of the request: use `get_at`")),
            false => Ok(()),
        }
    }

    /// The features of an entity, and whether it has a row of its own. Without an instant, values that a max age applies to are as
    /// old as they are.
    pub(super) fn get(&self, key: &[Value], at: Option<AsOf>) -> Result<(FeatureRow, bool)> {
        self.check_key(key)?;
        self.check_instant(at)?;
        let mut row = Row::default();
        let is_there = self.read(Keys::Values(key), at, true, &mut row)?;
        Ok((FeatureRow::served(self.shape.clone(), row), is_there))
    }

    /// Reads features as numbers, and says whether the entity has a row of its own.
    pub(super) fn get_into(&self, key: &[Value], at: Option<AsOf>, out: &mut [f64]) -> Result<bool> {
        self.check_key(key)?;
        self.check_instant(at)?;
        if let Some(feature) = self.not_a_number {
            let field = self.features().field(feature);
            return Err(Error::ColumnType {
                subject: format!("feature set `{}`", self.name()),
                column: field.name().clone(),
                found: field.data_type().to_string(),
                needed: "`get_into` reads only numbers and truth values: use `get`".into(),
            });
        }
        if out.len() != self.shape.columns.len() {
            return Err(self.refused(&format!("has {} features, and there is room for {}", self.shape.columns.len(), out.len())));
        }
        let mut read = |row: &mut Row| {
            let is_there = self.read(Keys::Values(key), at, false, row)?;
            self.layout().numbers(row, &self.shape.columns, out)?;
            Ok(is_there)
        };
        let row = BUFFERS.with(|buffers| buffers.try_borrow_mut().map(|mut buffers| std::mem::take(&mut buffers.1)));
        let mut row = row.unwrap_or_default();
        let outcome = read(&mut row);
        BUFFERS.with(|buffers| buffers.try_borrow_mut().map(|mut buffers| buffers.1 = row)).ok();
        outcome
    }

    /// The rows of several entities, and how many have a row of their own.
    pub(super) fn get_many<K: AsRef<[Value]>>(&self, keys: &[K], at: Option<AsOf>) -> Result<(Rows, u64)> {
        self.check_instant(at)?;
        self.read_all(keys.len(), |number| {
            let key = keys[number].as_ref();
            self.check_key(key)?;
            Ok((Keys::Values(key), at))
        })
    }

    /// As [`ServedEntities::get_many`], for keys in columns of the key's types, each at its instant if there are instants.
    pub(super) fn get_columns(
        &self,
        keys: &[ArrayRef],
        count: usize,
        at: Option<&TimestampMicrosecondArray>,
    ) -> Result<(Rows, u64)> {
        self.read_all(count, |number| {
            let at = at.filter(|at| at.is_valid(number)).map(|at| AsOf::from_micros(at.value(number)));
            self.check_instant(at)?;
            Ok((Keys::Columns(keys, number), at))
        })
    }

    fn read_all<'a>(&self, count: usize, request: impl Fn(usize) -> Result<(Keys<'a>, Option<AsOf>)>) -> Result<(Rows, u64)> {
        let (mut rows, mut row, mut there) = (Rows::with_capacity(self.layout(), count), Row::default(), 0);
        for number in 0..count {
            let (key, at) = request(number)?;
            there += u64::from(self.read(key, at, true, &mut row)?);
            rows.push(&row);
        }
        Ok((rows, there))
    }

    /// The layout and the columns of answers.
    pub(super) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Whether there is a visible fact about this entity.
    pub(super) fn contains(&self, key: &[Value]) -> Result<bool> {
        self.check_key(key)?;
        self.find(0, Keys::Values(key), None, false, &mut Row::default())
    }

    fn check_key(&self, key: &[Value]) -> Result<()> {
        let fields = self.key_schema().fields();
        if key.len() == fields.len() {
            return Ok(());
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        Err(self.refused(&format!("has the key ({}), and {} values were given", names.join(", "), key.len())))
    }

    fn check_instant(&self, at: Option<AsOf>) -> Result<()> {
        let made = self.materialization().as_of();
        match at.filter(|at| *at < made) {
            None => Ok(()),
            Some(at) => Err(self.refused(&format!(
                "is served as of {made}, and a request at {at} is earlier: it could not have known these values"
            ))),
        }
    }

    /// Reads the row of a key, and says whether it has one of its own. Without `heap`, texts and lists may be left out.
    fn read(&self, key: Keys<'_>, at: Option<AsOf>, heap: bool, row: &mut Row) -> Result<bool> {
        let is_there = self.find(0, key, None, heap, row)?;
        if !is_there {
            self.read_without_own_row(key, row)?;
        }
        if let Some(at) = at {
            self.age(at, row)?;
        }
        Ok(is_there)
    }

    /// The row of a key that has none of its own, from rows by some of its columns.
    fn read_without_own_row(&self, key: Keys<'_>, row: &mut Row) -> Result<()> {
        let layout = self.layout();
        let mut found: Vec<(&Partial, Row)> = Vec::new();
        for part in &self.partial {
            let mut own = Row::default();
            if self.find(part.group, key, Some(&part.keys), true, &mut own)? {
                found.push((part, own));
            }
        }
        if found.is_empty() {
            row.copy_from(&self.nothing);
            return Ok(());
        }
        let mut values: Vec<(&RowLayout, &Row, usize)> =
            (0..layout.value_schema().fields().len()).map(|column| (layout, &self.nothing, column)).collect();
        for (part, own) in &found {
            for (number, &column) in part.columns.iter().enumerate() {
                values[column] = (self.rows.layout(part.group), own, number);
            }
        }
        *row = layout.assemble(&values)?;
        Ok(())
    }

    /// Reads the row of a group with this key, or with these positions of it.
    fn find(&self, group: usize, key: Keys<'_>, positions: Option<&[usize]>, heap: bool, row: &mut Row) -> Result<bool> {
        let layout = self.rows.layout(group);
        let mut with_buffer = |buffer: &mut Vec<u8>| {
            buffer.clear();
            let is_whole = match (key, positions) {
                (Keys::Values(values), None) => layout.put_key(values, buffer)?,
                (Keys::Values(values), Some(positions)) => layout.put_key(positions.iter().map(|&i| &values[i]), buffer)?,
                (Keys::Columns(columns, number), None) => layout.put_key_of(columns.iter(), number, buffer)?,
                (Keys::Columns(columns, number), Some(positions)) => {
                    layout.put_key_of(positions.iter().map(|&i| &columns[i]), number, buffer)?
                }
            };
            // A key with a NULL matches nothing.
            if is_whole { self.rows.find(group, buffer, heap, row) } else { Ok(false) }
        };
        BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
            Ok(mut buffers) => with_buffer(&mut buffers.0),
            Err(_) => with_buffer(&mut Vec::new()),
        })
    }

    /// Makes values NULL whose fact is too old at this instant.
    fn age(&self, at: AsOf, row: &mut Row) -> Result<()> {
        for MaxAge { event_time, max_age_us, features } in &self.max_ages {
            let event = self.layout().micros(row, *event_time)?;
            if event.is_none_or(|event| event < at.micros().saturating_sub(*max_age_us)) {
                features.iter().for_each(|&feature| self.layout().set_null(row, feature));
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.materialization().manifest().set.as_str()
    }

    fn refused(&self, what: &str) -> Error {
        Error::Definition { subject: format!("feature set `{}`", self.name()), reason: format!("it {what}") }
    }
}

fn max_ages(set: &FeatureSet, columns: &SchemaRef) -> Result<Vec<MaxAge>> {
    let SetBody::Entities(set) = &set.body else { return Ok(Vec::new()) };
    let mut max_ages = Vec::new();
    for (i, source) in set.sources.iter().enumerate() {
        let Source { max_age_us: Some(max_age_us), lookups, .. } = source else { continue };
        let features = lookups.iter().map(|(_, output)| Ok(columns.index_of(output)?)).collect::<Result<_>>()?;
        max_ages.push(MaxAge { event_time: columns.index_of(&event_time_column(i))?, max_age_us: *max_age_us, features });
    }
    Ok(max_ages)
}
