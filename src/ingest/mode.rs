//! What a load does with what the table holds already: add, replace months, replace changed files.
//! Settings only; which files go is decided in `replace`.

use crate::time::month::Month;

/// Whether a load adds to the table or replaces months of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LoadMode {
    /// Adds the rows. A source whose content was loaded before is not loaded again.
    #[default]
    Append,
    /// Replaces the months of the source files, in one commit; rows of all other months stay as they are.
    ///
    /// A file's month is the one that its name tells (`yellow_tripdata_2014-11.csv`) when at least half of its rows fall
    /// into it, else the month of most of its rows. A row in another month is a stray, for which [`OnOutsideMonth`] decides:
    /// it never wipes the month it fell into.
    ReplacePartitions,
    /// Replaces exactly these months, in one commit, also those that the load has no rows for: they are empty afterwards.
    /// A row in another month is a stray, as above.
    ReplaceMonths(Vec<Month>),
}

impl LoadMode {
    /// Does the load replace months?
    pub(crate) fn replaces_months(&self) -> bool {
        !matches!(self, Self::Append)
    }
}

/// What a load that replaces months does with rows of other months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOutsideMonth {
    /// Load nothing, and name the months, so that they can be named in [`LoadMode::ReplaceMonths`].
    #[default]
    Stop,
    /// Write them beside the table, with a reason, and load the rest.
    Quarantine,
    /// Add them to the months they fall into, whose rows stay. Replacing the same month once more adds them once more.
    Append,
}

/// What a load does with a source that has the name of one that was loaded before, and other content.
///
/// Names are relative to the folder or glob that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChangedSource {
    /// Load nothing, and name the source.
    #[default]
    Refuse,
    /// Take the rows of the older content out, in the same commit.
    ///
    /// A source with the same content is taken again too, if some of its rows could not be read and this load reads it in
    /// another way.
    ///
    /// Rows of all sources of a load lie mixed in its files, and compaction mixes loads, so they go together: every load
    /// that holds the older content is replaced whole, and the other sources of those loads must be among the sources of
    /// this one; a folder that is loaded again as a whole always fits. Else the load stops, and names those that it lacks.
    Replace,
    /// They are different files that share a name: add the rows.
    Append,
}

/// What a load does with a file whose columns seem to hold something else than their names say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAnomaly {
    /// Load nothing; the error names file, column, what was expected and what was found.
    #[default]
    Stop,
    /// Load it, and list the anomaly in the quality report. What the file holds counts as seen from now on.
    Accept,
}
