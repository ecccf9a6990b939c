//! Features that a request draws from sets of entities: found by key in the materializations that are pinned.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType},
};
use std::{collections::BTreeMap, sync::Arc};

use super::{entities::ServedEntities, read_counts::ReadCounts};
use crate::{
    error::{Error, Result},
    feature_set::{Drawn, RowSet, field_of, select_inputs},
    materialize::{BuildThreads, Materialization, common_type},
    time::instant_type,
};

/// The materializations that a set of rows draws on, and the columns that a request needs for them.
pub(super) struct ServedDraws {
    draws: Vec<ServedDraw>,
    /// The column of the request's instants, if values age until then.
    at: Option<String>,
}

struct ServedDraw {
    drawn: Drawn,
    entities: ServedEntities,
    /// Positions among the features of the set of entities, and the fields of the request that they become.
    features: Vec<(usize, Field)>,
}

impl ServedDraws {
    /// Serves these materializations, one for each set that is drawn on, in their order.
    pub(super) async fn new(set: &RowSet, made: Vec<Materialization>, threads: BuildThreads) -> Result<Self> {
        let mut draws = Vec::with_capacity(made.len());
        for (drawn, made) in set.drawn.iter().zip(made) {
            let entities = ServedEntities::new(made, threads).await?;
            let schema = entities.features().clone();
            let mut features = Vec::new();
            for (feature, name) in drawn.outputs() {
                let position = schema.index_of(&feature)?;
                features.push((position, Field::new(name, schema.field(position).data_type().clone(), true)));
            }
            draws.push(ServedDraw { drawn: drawn.clone(), entities, features });
        }
        let at = set.drawn.iter().any(Drawn::has_max_age).then(|| set.at().to_owned());
        Ok(Self { draws, at })
    }

    /// The materializations.
    pub(super) fn materializations(&self) -> impl Iterator<Item = &Materialization> {
        self.draws.iter().map(|draw| draw.entities.materialization())
    }

    /// Bytes of the files from which features are drawn.
    pub(super) fn bytes(&self) -> u64 {
        // A set that is drawn on twice has one file.
        let files = self.draws.iter().map(|draw| (draw.entities.materialization().id(), draw.entities.bytes()));
        files.collect::<BTreeMap<_, _>>().values().sum()
    }

    /// The columns that a request must have, if the encoders need `encoded`.
    pub(super) fn request_schema(&self, encoded: &Schema) -> SchemaRef {
        let is_drawn = |name: &str| self.draws.iter().flat_map(|draw| &draw.features).any(|(_, field)| field.name() == name);
        let mut fields: Vec<Field> =
            encoded.fields().iter().filter(|field| !is_drawn(field.name())).map(|field| field.as_ref().clone()).collect();
        let mut add = |field: Field| match fields.iter_mut().find(|known| *known.name() == *field.name()) {
            None => fields.push(field),
            Some(known) => *known = common_type(known, &field),
        };
        for draw in &self.draws {
            for (column, key) in draw.drawn.by.iter().zip(draw.entities.key_schema().fields()) {
                add(Field::new(column, key.data_type().clone(), true));
            }
        }
        if let Some(at) = &self.at {
            add(Field::new(at, instant_type(), true));
        }
        Arc::new(Schema::new(fields))
    }

    /// The request with the drawn features. A column of the request that is called like one of them is replaced. The keys by which
    /// features are drawn are counted in `reads`.
    pub(super) fn add_to(&self, rows: &RecordBatch, reads: &ReadCounts) -> Result<RecordBatch> {
        if self.draws.is_empty() {
            return Ok(rows.clone());
        }
        let at = match &self.at {
            None => None,
            Some(at) => {
                let wanted = Arc::new(Schema::new(vec![Field::new(at, instant_type(), true)]));
                let found =
                    select_inputs("the request", rows, &wanted)?.column(0).as_primitive::<TimestampMicrosecondType>().clone();
                if found.null_count() > 0 {
                    return Err(Error::ColumnType {
                        subject: "the request".into(),
                        column: at.clone(),
                        found: "NULL".into(),
                        needed: "a set that is drawn on has a max age, which depends on the instant of the request".into(),
                    });
                }
                Some(found)
            }
        };
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for draw in &self.draws {
            let keys = draw.drawn.by.iter().zip(draw.entities.key_schema().fields());
            let keys: Vec<ArrayRef> = keys.map(|(name, key)| key_column(rows, name, key.data_type())).collect::<Result<_>>()?;
            let at = at.as_ref().filter(|_| draw.drawn.has_max_age());
            let (found, there) = draw.entities.get_columns(&keys, rows.num_rows(), at)?;
            reads.add(there, found.len() as u64 - there);
            let shape = draw.entities.shape();
            for (position, field) in &draw.features {
                fields.push(Arc::new(field.clone()));
                columns.push(shape.layout().column(shape.columns[*position], &found)?);
            }
        }
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            if !fields.iter().any(|drawn: &Arc<Field>| drawn.name() == field.name()) {
                fields.push(field.clone());
                columns.push(column.clone());
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// A column of the request in the type of a key. An integer that the type cannot hold becomes NULL, which matches nothing.
fn key_column(rows: &RecordBatch, name: &str, key: &DataType) -> Result<ArrayRef> {
    let schema = rows.schema_ref();
    let position = schema.index_of(name).map_err(|_| Error::unknown_column("the request", name, schema))?;
    let field = schema.field(position);
    let is_bytes = |data_type: &DataType| data_type.is_binary() || matches!(data_type, DataType::FixedSizeBinary(_));
    let given = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let is_same_kind = (given.is_integer() && key.is_integer()) || (is_bytes(given) && is_bytes(key)) || given == key;
    if !is_same_kind {
        field_of("the request", schema, &Field::new(name, key.clone(), true))?;
    }
    Ok(cast_with_options(rows.column(position), key, &CastOptions { safe: true, ..Default::default() })?)
}
