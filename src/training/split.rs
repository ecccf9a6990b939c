//! Splits of a training set into a train and a test part: by time, by entity, and at random.
//! A row's side depends on the row and the split alone, not on files, batches, tasks or the other rows.

use arrow::array::{BooleanArray, RecordBatch};
use chrono::TimeDelta;

use super::row_hash::RowHasher;
use crate::{
    error::{Error, Result},
    manifest::{SplitRule, TrainingOrigin},
    time::{AsOf, saturating_micros, stored_integers},
};

/// How to divide a training set into a train part and a test part; see [`TrainingSet::split`](super::TrainingSet::split).
///
/// ```
/// use asof::training::Split;
/// use chrono::TimeDelta;
///
/// let by_time = Split::by_time("2014-10-01".parse()?).embargo(TimeDelta::days(7));
/// let by_entity = Split::by_entity(["pickup_zone"], 0.8, 42);
/// let at_random = Split::random(0.8, 42);
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Split {
    rule: SplitRule,
    embargo: Option<TimeDelta>,
}

impl Split {
    /// Rows whose instant is before `at` are for training, the others for testing. Rows without an instant are in neither part.
    ///
    /// The instant of a row is its event time, or that of the spine. A local time of a spine is the earliest instant that it can
    /// mean, as it is for the features.
    pub fn by_time(at: AsOf) -> Self {
        Self { rule: SplitRule::Time { at, embargo_us: 0 }, embargo: None }
    }

    /// For a split by time: the test part begins this much later, and the rows between are in neither part. Use at least the
    /// length of the windows that labels look ahead, so that no label of the train part reaches into the test part. Digits finer
    /// than a microsecond are rounded up.
    pub fn embargo(mut self, embargo: TimeDelta) -> Self {
        self.embargo = Some(embargo);
        self
    }

    /// All rows of an entity fall on one side, chosen by a hash of the entity's key and the seed. An entity is for training with
    /// the probability `train_fraction`; the parts differ from it when entities have different numbers of rows. NULL is a value
    /// like any other: rows without a key are one entity.
    ///
    /// The columns are those of the spine or, for a set of rows, of its query; they need not be features.
    pub fn by_entity<S: Into<String>>(columns: impl IntoIterator<Item = S>, train_fraction: f64, seed: u64) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { rule: SplitRule::Entity { columns, train_fraction, seed }, embargo: None }
    }

    /// A row is for training with the probability `train_fraction`, by a hash of the row and the seed. Rows that are equal in all
    /// columns fall on one side, so that no copy of a training row is tested.
    ///
    /// The columns are those of the spine without the features or, for a set of rows, those of its query. So a row stays on its
    /// side when facts are added.
    ///
    /// Rows of one entity fall on both sides. A model that can tell entities apart is then tested on what it has seen; see
    /// [`Split::by_entity`].
    pub fn random(train_fraction: f64, seed: u64) -> Self {
        Self { rule: SplitRule::Random { train_fraction, seed }, embargo: None }
    }

    /// The rule with its embargo.
    ///
    /// # Errors
    /// [`Error::Definition`] for a fraction that is not between 0 and 1, no columns, and an embargo that is negative or belongs
    /// to another kind of split.
    pub(super) fn rule(&self) -> Result<SplitRule> {
        let refused = |reason: String| Err(Error::Definition { subject: "the split of a training set".into(), reason });
        let mut rule = self.rule.clone();
        match &mut rule {
            SplitRule::Time { embargo_us, .. } => {
                let embargo = self.embargo.unwrap_or_default();
                if embargo < TimeDelta::zero() {
                    return refused(
                        "its embargo is negative; it is the time from the end of the train part to the test part".into(),
                    );
                }
                let is_cut = embargo.subsec_nanos() % 1_000 > 0;
                *embargo_us = saturating_micros(embargo).saturating_add(is_cut.into());
            }
            SplitRule::Entity { train_fraction, .. } | SplitRule::Random { train_fraction, .. } => {
                if !(*train_fraction > 0.0 && *train_fraction < 1.0) {
                    return refused(format!(
                        "the train part's share is {train_fraction}; it is between 0 and 1, so that either part can have rows"
                    ));
                }
                if self.embargo.is_some() {
                    return refused(
                        "an embargo belongs to `Split::by_time`; this split does not look at the rows' instants".into(),
                    );
                }
            }
        }
        match &rule {
            SplitRule::Entity { columns, .. } if columns.is_empty() => {
                refused("it names no columns; name those of the entity's key".into())
            }
            _ => Ok(rule),
        }
    }
}

/// Which rows are in which part.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) train: BooleanArray,
    pub(super) test: BooleanArray,
}

/// The sides of these rows. `features` are columns that the rows have and that a random split leaves out.
pub(super) fn sides(origin: &TrainingOrigin, rule: &SplitRule, features: &[String], rows: &RecordBatch) -> Result<Sides> {
    let subject = format!("the rows of the training set of `{}`", origin.set);
    let schema = rows.schema_ref();
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| Error::unknown_column(&subject, name, schema));
    let by_share = |mut hasher: RowHasher, fraction: f64| {
        let train: Vec<bool> = (0..rows.num_rows()).map(|row| hasher.share(row) < fraction).collect();
        Sides { test: train.iter().map(|is_train| Some(!is_train)).collect(), train: train.into() }
    };
    match rule {
        SplitRule::Time { at, embargo_us } => {
            let times = stored_integers(column(&origin.instant)?)?;
            let ns = |instant: i64| i128::from(instant) * 1_000;
            let (train_end, test_start) = (ns(at.micros()), ns(at.micros().saturating_add(*embargo_us)));
            let instants = times.iter().map(|value| value.map(|value| origin.scale.earliest_ns(value)));
            let (train, test): (Vec<bool>, Vec<bool>) =
                instants.map(|t| (t.is_some_and(|t| t < train_end), t.is_some_and(|t| t >= test_start))).unzip();
            Ok(Sides { train: train.into(), test: test.into() })
        }
        SplitRule::Entity { columns, train_fraction, seed } => {
            let mut keys = Vec::with_capacity(columns.len());
            for name in columns {
                keys.push((name.as_str(), column(name)?));
            }
            Ok(by_share(RowHasher::new(&subject, *seed, keys.into_iter())?, *train_fraction))
        }
        SplitRule::Random { train_fraction, seed } => {
            let named = schema.fields().iter().map(|field| field.name().as_str()).zip(rows.columns());
            let hashed = named.filter(|(name, _)| features.iter().all(|feature| feature != name));
            Ok(by_share(RowHasher::new(&subject, *seed, hashed)?, *train_fraction))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_that_mean_nothing_are_refused() {
        let at = AsOf::from_micros(0);
        let refused = [
            (Split::by_time(at).embargo(TimeDelta::microseconds(-1)), "negative"),
            (Split::random(0.0, 1), "share is 0"),
            (Split::random(1.0, 1), "share is 1"),
            (Split::random(f64::NAN, 1), "share is NaN"),
            (Split::random(0.5, 1).embargo(TimeDelta::zero()), "Split::by_time"),
            (Split::by_entity(["zone"], -0.1, 1), "share is -0.1"),
            (Split::by_entity(Vec::<String>::new(), 0.5, 1), "no columns"),
        ];
        for (split, reason) in refused {
            let error = split.rule().unwrap_err();
            assert!(matches!(error, Error::Definition { .. }) && error.to_string().contains(reason), "{split:?}: {error}");
        }
    }

    #[test]
    fn an_embargo_is_never_shorter_than_asked() {
        let embargo = |delta| match Split::by_time(AsOf::from_micros(0)).embargo(delta).rule().unwrap() {
            SplitRule::Time { embargo_us, .. } => embargo_us,
            other => panic!("{other:?}"),
        };
        assert_eq!(embargo(TimeDelta::nanoseconds(1)), 1);
        assert_eq!(embargo(TimeDelta::nanoseconds(2_000)), 2);
        assert_eq!(embargo(TimeDelta::MAX), i64::MAX);
    }
}
