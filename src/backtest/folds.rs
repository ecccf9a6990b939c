//! Folds: the instants at which a model is fitted, and the spans on which it is scored.
//! Every span starts at or after its as-of plus the embargo.

use chrono::{Datelike, NaiveDate, TimeDelta};

use crate::{
    error::{Error, Result},
    time::{AsOf, Span, Zone},
};

/// One fold: fit on what is visible at `as_of`, score the rows that happened in `scored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    as_of: AsOf,
    scored: Span,
}

impl Fold {
    /// The instant at which the training facts are cut.
    pub fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// The span of event times that is scored; it starts at or after the as-of.
    pub fn scored(&self) -> Span {
        self.scored
    }
}

/// Folds in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Folds(Vec<Fold>);

impl Folds {
    /// One fold per month: fits at the first instant of each month from the month of `first` to that of `last`, both inclusive, by
    /// the zone's calendar, and scores that month.
    ///
    /// # Errors
    /// [`Error::Definition`] when `last` is before `first`.
    ///
    /// ```
    /// use asof::backtest::Folds;
    /// use chrono::NaiveDate;
    /// let day = |m| NaiveDate::from_ymd_opt(2014, m, 1).unwrap();
    /// let folds = Folds::monthly(day(2), day(4), "America/New_York".parse()?)?;
    /// assert_eq!(folds.iter().count(), 3);
    /// assert_eq!(folds.iter().next().unwrap().as_of().to_string(), "2014-02-01T05:00:00Z");
    /// # Ok::<(), asof::Error>(())
    /// ```
    pub fn monthly(first: NaiveDate, last: NaiveDate, zone: Zone) -> Result<Self> {
        let index = |day: NaiveDate| i64::from(day.year()) * 12 + i64::from(day.month0());
        if index(last) < index(first) {
            return Err(refused(format!("the last month {last} is before the first {first}")));
        }
        let start = |index: i64| {
            let month = u32::try_from(index.rem_euclid(12)).unwrap_or(0) + 1;
            let year = i32::try_from(index.div_euclid(12)).ok();
            let instant = year.and_then(|year| zone.start_of_month(year, month));
            instant.ok_or_else(|| refused(format!("month {month} of {year:?} is out of range")))
        };
        let fold = |index| Ok(Fold { as_of: start(index)?, scored: Span::new(start(index)?, start(index + 1)?) });
        (index(first)..=index(last)).map(fold).collect::<Result<_>>().map(Self)
    }

    /// Folds from pairs of an as-of and the span to be scored.
    ///
    /// # Errors
    /// [`Error::Definition`] when a span starts before its as-of: it would score rows that the model was trained on.
    pub fn new(folds: impl IntoIterator<Item = (AsOf, Span)>) -> Result<Self> {
        let mut checked = Vec::new();
        for (as_of, scored) in folds {
            if scored.start < as_of {
                return Err(refused(format!("{scored} starts before its as-of {as_of}")));
            }
            checked.push(Fold { as_of, scored });
        }
        checked.sort_by_key(|fold| (fold.as_of, fold.scored.start, fold.scored.end));
        Ok(Self(checked))
    }

    /// Leaves at least this gap between each as-of and its scored span, by starting spans later where necessary.
    ///
    /// # Errors
    /// [`Error::Definition`] when the embargo is negative.
    pub fn embargo(mut self, gap: TimeDelta) -> Result<Self> {
        if gap < TimeDelta::zero() {
            return Err(refused(format!("an embargo of {gap} would let labels start before the as-of; it must be zero or more")));
        }
        for fold in &mut self.0 {
            fold.scored.start = fold.scored.start.max(fold.as_of.plus(gap));
        }
        Ok(self)
    }

    /// The folds, in the order of time.
    pub fn iter(&self) -> impl Iterator<Item = &Fold> {
        self.0.iter()
    }
}

fn refused(reason: String) -> Error {
    Error::Definition { subject: "the folds".into(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// I8: a label starts at or after its features' as-of plus the embargo.
        #[test]
        fn no_label_starts_before_the_as_of_plus_the_embargo(
            days in prop::collection::vec((0i64..10_000, -5i64..40, 0i64..40), 1..20), gap_days in 0i64..60,
        ) {
            let at = |day: i64| AsOf::from_micros(day * 86_400_000_000);
            let wanted = days.iter().map(|&(as_of, start, length)| (at(as_of), Span::new(at(as_of + start), at(as_of + start + length))));
            let early = days.iter().any(|&(_, start, _)| start < 0);
            match Folds::new(wanted).and_then(|folds| folds.embargo(TimeDelta::days(gap_days))) {
                Ok(folds) => {
                    prop_assert!(!early);
                    for fold in folds.iter() {
                        prop_assert!(fold.scored().start >= fold.as_of().plus(TimeDelta::days(gap_days)));
                    }
                }
                Err(_) => prop_assert!(early),
            }
        }
    }
}
