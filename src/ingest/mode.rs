//! How a load treats what the table holds already: add, replace months, or replace changed sources. And what it does with rows
//! outside the replaced months and with anomalies.

use crate::time::month::Month;

/// Whether a load adds to the table or replaces months of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LoadMode {
    /// Adds the rows. A source whose content the table holds already is not loaded again.
    #[default]
    Append,
    /// Replaces the months of the source files in one commit. Rows of all other months stay.
    ///
    /// A file's month is the month in its name (`yellow_tripdata_2014-11.csv`) if at least half of its rows fall into it, else
    /// the month of most of its rows. [`OnOutsideMonth`] says what happens to rows outside these months. They never replace the
    /// rows of the month they fall into.
    ReplacePartitions,
    /// Replaces exactly these months in one commit. A month for which the load has no rows is empty afterwards.
    /// [`OnOutsideMonth`] says what happens to rows outside these months.
    ReplaceMonths(Vec<Month>),
}

impl LoadMode {
    /// Does the load replace months?
    pub(crate) fn replaces_months(&self) -> bool {
        !matches!(self, Self::Append)
    }
}

/// What a load that replaces months does with rows outside these months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnOutsideMonth {
    /// Load nothing. The error names the months, so that they can be added to [`LoadMode::ReplaceMonths`].
    #[default]
    Stop,
    /// Write them below `quarantine/` with the reason, and load the rest.
    Quarantine,
    /// Add them to the months they fall into, whose other rows stay. Replacing the same months again adds these rows again.
    Append,
}

/// What a load does with a source that has the name of a loaded source and different content.
///
/// Names are relative to the folder or glob that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnChangedSource {
    /// Load nothing. The error names the source.
    #[default]
    Refuse,
    /// Remove the rows of the older content in the same commit.
    ///
    /// A source with the same content is also loaded again if some of its rows were rejects and this load reads it in another
    /// way.
    ///
    /// The rows of a load's sources are mixed in its files, and compaction mixes loads. Therefore every load that holds the older
    /// content is replaced as a whole, and this load must have all sources of those loads. Loading the same folder again always
    /// has them. Otherwise the load stops, and the error names the missing sources.
    Replace,
    /// Take them for different files with the same name: add the rows.
    Append,
}

/// What a load does with a file whose columns seem to hold something other than their names say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnAnomaly {
    /// Load nothing. The error names the file, the column, what was expected and what was found.
    #[default]
    Stop,
    /// Load it, and list the anomalies in the quality report. From then on the file's values count as seen.
    Accept,
}
