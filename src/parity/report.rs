//! What a comparison of serving with training has found. It prints as text.

use std::fmt;

use crate::{
    name::{ContentId, SetName},
    text_table::on_one_line,
    time::AsOf,
};

/// What was compared, what differs, and what was not compared and why. It prints as text.
///
/// ```no_run
/// # async fn check(store: asof::FeatureStore) -> asof::Result<()> {
/// use asof::parity::ParitySample;
/// let report = store.verify_parity("taxi_v1", "2014-11-01".parse()?, ParitySample::rows(10_000)).await?;
/// println!("{report}");
/// if let Some(first) = &report.first {
///     println!("{} is made by {}", first.feature, first.made_by);
/// }
/// assert!(report.is_equal());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ParityReport {
    /// The feature set.
    pub set: SetName,
    /// The instant of the comparison; `None` for a log, whose rows have instants of their own.
    pub as_of: Option<AsOf>,
    /// The materializations that were served, each once: that of the set, then those that it draws on. Of a log, those that were
    /// compared with.
    pub ids: Vec<ContentId>,
    /// Rows that were compared: requests, or keys at an instant. A key that is asked at two instants counts twice.
    pub rows: u64,
    /// Values that were compared.
    pub values: u64,
    /// Rows of which a value differs.
    pub differing_rows: u64,
    /// Values that differ in a bit.
    pub differing_values: u64,
    /// The first difference in the order of the rows, and of the features within a row.
    pub first: Option<Difference>,
    /// How some values were compared, where that is not as for the others.
    pub notes: Vec<String>,
    /// What was not compared, and why.
    pub not_compared: Vec<String>,
}

/// A value that is served differently from how training has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The key of the entity, or the columns of the request, with their values.
    pub row: Vec<(String, String)>,
    /// The instant at which an entity was asked for; `None` for a request, whose instant is one of its columns.
    pub at: Option<AsOf>,
    /// The feature.
    pub feature: String,
    /// What makes it: the name of the encoder, or the lookup or aggregate of a set of entities.
    pub made_by: String,
    /// The columns that it is made of, with their values. An encoder that reads other encoders has the columns that these read.
    pub inputs: Vec<(String, String)>,
    /// What training has.
    pub training: ComparedValue,
    /// What was served.
    pub served: ComparedValue,
}

/// One of two values that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComparedValue {
    /// The value as people read it; two values may read alike and differ.
    pub value: String,
    /// Its bits in hexadecimal digits, the most significant first; texts and bytes in their order. `NULL` for NULL.
    pub bits: String,
}

impl ParityReport {
    pub(super) fn new(set: &SetName, as_of: Option<AsOf>) -> Self {
        Self {
            set: set.clone(),
            as_of,
            ids: Vec::new(),
            rows: 0,
            values: 0,
            differing_rows: 0,
            differing_values: 0,
            first: None,
            notes: Vec::new(),
            not_compared: Vec::new(),
        }
    }

    /// Whether values were compared and all of them are equal, bit for bit. It is false when nothing was compared, which proves
    /// nothing. What was not compared does not count: see [`ParityReport::not_compared`].
    pub fn is_equal(&self) -> bool {
        self.values > 0 && self.differing_values == 0
    }

    pub(super) fn add_id(&mut self, id: ContentId) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }
}

/// Columns with their values on one line.
fn listed(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, value)| format!("{name} = {}", on_one_line(value))).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for ParityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.values, self.differing_values) {
            (0, _) => "nothing was compared",
            (_, 0) => "equal in all bits",
            _ => "NOT equal",
        };
        write!(f, "{}", self.set)?;
        if let Some(as_of) = self.as_of {
            write!(f, " as of {as_of}")?;
        }
        writeln!(f, ": {verdict}")?;
        for id in &self.ids {
            writeln!(f, "  id            {id}")?;
        }
        writeln!(f, "  compared      {} rows, {} values", self.rows, self.values)?;
        writeln!(f, "  differing     {} rows, {} values", self.differing_rows, self.differing_values)?;
        if let Some(first) = &self.first {
            writeln!(f, "  first         {first}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note          {note}")?;
        }
        for what in &self.not_compared {
            writeln!(f, "  not compared  {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, made by {} of {}", self.feature, self.made_by, listed(&self.inputs))?;
        write!(f, ": training {}, served {}; the row: {}", self.training, self.served, listed(&self.row))?;
        match self.at {
            Some(at) => write!(f, ", asked at {at}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ComparedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value == self.bits { f.write_str(&self.value) } else { write!(f, "{} ({})", on_one_line(&self.value), self.bits) }
    }
}
