//! Parity on demand: what is served is compared with what training has.

use super::FeatureStore;
use crate::{
    error::Result,
    parity::{self, ParityReport, ParitySample},
    time::AsOf,
};

/// Parity of training and serving.
impl FeatureStore {
    /// Compares what a service answers of a feature set as of an instant with what training has, bit for bit, over the facts that are
    /// in the catalog now.
    ///
    /// The set, and for a set of rows each set that it draws on, is materialized as of the instant, unless that is published already.
    ///
    /// For a set of **entities** the sampled published keys are asked for by key, and also keys made from them that may have no row,
    /// and keys with NULL. Training computes the same keys as a spine. If the set has a max age, the keys are asked for at the as-of
    /// and at later instants.
    ///
    /// For a set of **rows** the sampled rows of its query are encoded as requests that have the columns of
    /// [`Online::request_schema`](crate::online::Online::request_schema) and no others: all of them in batches, and some one by one.
    /// They are compared with the published rows. What training encodes by design unlike requests, and rows that selections drop,
    /// are compared with the encoding that scoring uses. A set that draws on others is asked at instants after the as-of; the page
    /// `docs/parity.md` has the rule.
    ///
    /// Rows are read and compared batch by batch. Spines are held by the operators, within their budget.
    ///
    /// ```no_run
    /// # async fn check(store: asof::FeatureStore) -> asof::Result<()> {
    /// use asof::parity::ParitySample;
    ///
    /// let report = store.verify_parity("taxi_v1", "2014-11-01".parse()?, ParitySample::rows(10_000).seed(7)).await?;
    /// println!("{report}");
    /// assert!(report.is_equal());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`FeatureStore::materialize`] and [`FeatureStore::online_for`]; [`Error::Corrupt`](crate::Error::Corrupt) when the
    /// published rows are not those that the query yields. A difference is no error: see [`ParityReport::is_equal`].
    pub async fn verify_parity(&self, set: &str, as_of: AsOf, sample: ParitySample) -> Result<ParityReport> {
        parity::verify(&self.workspace, &self.catalog_set(set)?, as_of, sample).await
    }

    /// Compares a log that a [`ServedLog`](parity::ServedLog) has written: a folder of its files or one file, on this machine or at a
    /// URL.
    ///
    /// For each row its materialization is found by the id in the log, and those that it draws on. Rows of entities are compared with
    /// training as of the materialization, aged until the instant of the request, if the facts in the catalog are still those that the
    /// materialization was made of; else with its published rows. Requests are encoded again with the published states. Rows whose
    /// materialization is gone are not compared, and the report says how many.
    ///
    /// ```no_run
    /// # async fn check(store: asof::FeatureStore) -> asof::Result<()> {
    /// let report = store.verify_served_log("served/taxi_v1").await?;
    /// println!("{report}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoFiles`](crate::Error::NoFiles) when there is no log, [`Error::UnreadableFile`](crate::Error::UnreadableFile) for a
    /// file that is cut off, damaged or no log, [`Error::Format`](crate::Error::Format) for one of another format;
    /// [`Error::UnknownFeatureSet`](crate::Error::UnknownFeatureSet) when its set is not registered,
    /// [`Error::Definition`](crate::Error::Definition) for a folder with the logs of several sets,
    /// [`Error::UnknownColumn`](crate::Error::UnknownColumn) and [`Error::ColumnType`](crate::Error::ColumnType) when the columns are
    /// not those of the set.
    pub async fn verify_served_log(&self, location: &str) -> Result<ParityReport> {
        parity::replay(&self.workspace, |name| self.catalog_set(name), location).await
    }
}
