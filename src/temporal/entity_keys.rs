//! The keys of a set of entities: types that hold the keys of several tables.
//! Keys are numbered by `keys`.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{cast, max},
    datatypes::{DataType, UInt64Type},
};

use super::{Facts, fact_input::PhysicalFactInput, keys::comparable};
use crate::error::{Error, Result};

/// A key column of a set of entities: its name, the type in which it is compared, and the type of the result.
pub(crate) struct EntityKey {
    pub(super) name: String,
    pub(super) compared: DataType,
    pub(super) declared: DataType,
}

impl EntityKey {
    /// Keys of different tables are compared in a type that holds all of them. The result has the type of the tables if it is
    /// the same in all. `columns` are the columns of all tables that have the key.
    ///
    /// # Errors
    /// [`Error::ColumnType`] for columns that cannot be compared, [`Error::UnknownColumn`] for one that is not there.
    pub(crate) fn new<'a>(name: &str, columns: impl Iterator<Item = (&'a Facts, &'a str)>) -> Result<Self> {
        let mut both: Option<(DataType, DataType)> = None;
        for (facts, column) in columns {
            let (schema, subject) = (facts.rows().schema().as_arrow(), facts.subject());
            let found = schema.field_with_name(column).map_err(|_| Error::unknown_column(subject, column, schema))?;
            let refused = |needed: String| Error::ColumnType {
                subject: subject.to_owned(),
                column: column.to_owned(),
                found: found.data_type().to_string(),
                needed: format!("it is the entity's key `{name}`: {needed}"),
            };
            let own = plain(found.data_type());
            both = Some(match both {
                None => (comparable(&own, &own).map_err(refused)?, own),
                Some((compared, declared)) => {
                    let compared = comparable(&compared, &own).map_err(refused)?;
                    let declared = if declared == own { declared } else { compared.clone() };
                    (compared, declared)
                }
            });
        }
        let (compared, declared) = both.unwrap_or((DataType::Null, DataType::Null));
        Ok(Self { name: name.to_owned(), compared, declared })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The type in which it is compared.
    pub(crate) fn compared(&self) -> &DataType {
        &self.compared
    }

    /// The type of the result.
    pub(crate) fn declared(&self) -> &DataType {
        &self.declared
    }
}

/// Refuses keys that do not fit into the type in which they are compared. No entity may be lost.
pub(super) fn check_keys(input: &PhysicalFactInput<()>, columns: &[ArrayRef], types: &[DataType]) -> Result<()> {
    for (i, (column, compared)) in columns.iter().zip(types).enumerate() {
        let own = plain(column.data_type());
        if own != DataType::UInt64 || *compared != DataType::Int64 {
            continue;
        }
        let values = cast(column, &DataType::UInt64)?;
        let largest = max(values.as_primitive::<UInt64Type>());
        if let Some(largest) = largest.filter(|largest| i64::try_from(*largest).is_err()) {
            let column = input.logical.on.get(i).map(|(_, column)| column.clone()).unwrap_or_default();
            return Err(Error::ColumnType {
                subject: input.logical.subject.clone(),
                column,
                found: format!("{own}, with a key of {largest}"),
                needed:
                    "other tables of the set have this key as a signed integer, so it is compared as Int64, which does not hold \
                         this value; write the key as UInt64, or as a text, in all of them"
                        .into(),
            });
        }
    }
    Ok(())
}

/// The type without its encoding.
pub(super) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}
