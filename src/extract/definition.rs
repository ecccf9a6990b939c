//! The definition of an extract: a name, a query, its parameters, an as-of, and a retention.
//! The query is checked when it runs.

use std::path::Path;

use chrono::TimeDelta;

use super::Retention;
use crate::{
    error::{Error, Result},
    name::check_identifier,
    time::AsOf,
    value::Value,
};

/// The longest name that leaves room for `ctas_` and the run in a table's name.
const LONGEST_NAME: usize = 96;

/// The definition of an extract.
///
/// ```
/// use asof::{AsOf, extract::Extract};
///
/// let extract = Extract::new("busy_zones", "SELECT * FROM nyc_taxi WHERE pickup_zone = $zone")?
///     .param("zone", 132)
///     .as_of("2014-11-01".parse()?)
///     .keep_for(30)
///     .keep_last(5);
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Extract {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<(String, Value)>,
    pub(crate) as_of: Option<AsOf>,
    pub(crate) retention: Retention,
}

impl Extract {
    /// The extract as errors name it.
    pub(crate) fn subject(&self) -> String {
        format!("the extract `{}`", self.name)
    }

    /// An extract of this query's rows. The name has at most 96 lower-case letters, digits and underscores.
    ///
    /// # Errors
    /// [`Error::InvalidName`] when it cannot be part of a table's name.
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Result<Self> {
        let name = name.into();
        check_identifier("extract", &name, &name)?;
        if name.len() > LONGEST_NAME {
            let reason = format!("it becomes part of a table's name; use at most {LONGEST_NAME} characters");
            return Err(Error::InvalidName { what: "extract", value: name, reason });
        }
        Ok(Self { name, sql: sql.into(), parameters: Vec::new(), as_of: None, retention: Retention::default() })
    }

    /// An extract whose query is the content of a local file in UTF-8.
    ///
    /// # Errors
    /// As [`Extract::new`], and [`Error::Io`] when the file cannot be read.
    pub fn from_file(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let sql = std::fs::read_to_string(path).map_err(|cause| Error::Io { path: path.into(), cause })?;
        Self::new(name, sql)
    }

    /// Sees nothing at or after this instant. Without it, or with [`AsOf::END_OF_TIME`], the query sees all facts of the tables'
    /// newest versions that have an event time, and no query as of an earlier instant than [`AsOf::END_OF_TIME`] can read the
    /// result.
    pub fn as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = (as_of != AsOf::END_OF_TIME).then_some(as_of);
        self
    }

    /// Gives the placeholder `$name` a value. It is passed as a typed value and never becomes part of the SQL text.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Lets [`FeatureStore::gc`](crate::FeatureStore::gc) remove a run this many days after it was made. More days than there are
    /// in 292,000 years are no limit.
    pub fn keep_for(mut self, days: u32) -> Self {
        self.retention.keep_for_us = TimeDelta::days(days.into()).num_microseconds();
        self
    }

    /// Lets [`FeatureStore::gc`](crate::FeatureStore::gc) remove a run once this many newer runs of the name exist. The object
    /// store's modification times decide which runs are newer. With [`Extract::keep_for`] too, either condition is enough. Zero
    /// counts as one.
    pub fn keep_last(mut self, runs: u32) -> Self {
        self.retention.keep_last = Some(runs.max(1));
        self
    }
}
