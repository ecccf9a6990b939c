//! Refuses rows whose instant lies after they were known: the facts that such a row sees could include the row itself, and with it
//! the label.

use arrow::{
    array::{Array, RecordBatch},
    datatypes::Schema,
};

use crate::{
    catalog::{FactTable, KnownAt},
    error::{Error, Result},
    name::SetName,
    sql::KNOWN_COLUMN,
    time::{AsOf, TimeScale, Zone, stored_integers},
};

/// Compares the instants of rows with the times at which the rows were known.
#[derive(Debug, Clone)]
pub(crate) struct InstantCheck {
    pub(super) set: SetName,
    /// The column of the instants.
    pub(super) at: String,
    /// The declaration of the rows' table, with [`KNOWN_COLUMN`].
    pub(super) known: FactTable,
    /// Whether a fact known at exactly the instant is drawn on.
    pub(super) inclusive: bool,
}

impl InstantCheck {
    /// Refuses a batch of rows if an instant lies after its row was known.
    ///
    /// # Errors
    /// [`Error::Definition`] with the first such row.
    pub(crate) fn apply(&self, rows: &RecordBatch) -> Result<()> {
        let schema = rows.schema();
        let at = instants(rows, &schema, &self.at, None)?;
        let times = self.known.fact_times("the set's query")?;
        let (column, delay_us) = match &times.known_at {
            KnownAt::Column(column) => (column, 0),
            KnownAt::DelayMicros(delay) => (&times.event, *delay),
        };
        let scale = self.known.scale("the set's query", column, &schema)?;
        let known = instants(rows, &schema, KNOWN_COLUMN, Some(scale))?;
        for (at, known) in at.iter().zip(&known) {
            let (Some(at), Some(known)) = (at, known) else { continue };
            let known = known + i128::from(delay_us) * 1_000;
            if *at < known || (*at == known && !self.inclusive) {
                continue;
            }
            let shown = |ns: i128| AsOf::from_micros(i64::try_from(ns.div_euclid(1_000)).unwrap_or(i64::MAX));
            return Err(Error::Definition {
                subject: format!("feature set `{}`", self.set),
                reason: format!(
                    "a row whose instant `{}` is {} was known at {}, {}: its own label could be among the facts that it draws on; \
                     leave such rows out in the set's query, or name a column of earlier instants with `at`",
                    self.at,
                    shown(*at),
                    shown(known),
                    if *at == known { "and a set that it draws on is inclusive" } else { "which is earlier" },
                ),
            });
        }
        Ok(())
    }
}

/// The instants of a column in nanoseconds since 1970, as its type says or by this scale.
fn instants(rows: &RecordBatch, schema: &Schema, column: &str, scale: Option<TimeScale>) -> Result<Vec<Option<i128>>> {
    let array = rows.column(schema.index_of(column)?);
    let scale = scale.or_else(|| TimeScale::of_type(array.data_type(), Zone::UTC)).ok_or_else(|| Error::ColumnType {
        subject: "the set's query".into(),
        column: column.into(),
        found: array.data_type().to_string(),
        needed: "instants are timestamps with a zone".into(),
    })?;
    let integers = stored_integers(array)?;
    Ok((0..integers.len()).map(|row| integers.is_valid(row).then(|| scale.instant_ns(integers.value(row)))).collect())
}
