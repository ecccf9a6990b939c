//! How often each value of a column occurs, if it has few different ones, and how its times are spread over the hours of the day.
//! `drift` compares these frequencies between files.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit as ArrowUnit},
};
use serde::{Deserialize, Serialize};

use crate::{error::Result, ingest::target::instants_us, time::Zone};

/// The most different values that are counted. A column with more has no categories.
const MAX_CATEGORIES: usize = 512;
/// Integers below this are counted in an array.
const SMALL: i64 = 1_024;
/// A column with a longer text has no categories.
const TEXT_BYTES: usize = 40;
const HOUR_US: i64 = 3_600_000_000;
/// Hours whose hour of the day is cached: more than a month has.
const KNOWN_HOURS: usize = 1_024;

/// Value frequencies of a column over some rows. The JSON names are part of the format on disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Frequencies {
    /// The count of each value, as text.
    #[serde(rename = "kinds", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) categories: BTreeMap<String, u64>,
    /// Does the column have too many different values, or too long ones, to be counted?
    #[serde(rename = "has_many", default)]
    pub(crate) has_too_many: bool,
    /// The count of times in each hour of the day, in the table's zone; empty for other columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hours: Vec<u64>,
}

impl Frequencies {
    /// The frequencies of an array.
    pub(crate) fn of(array: &ArrayRef, zone: Zone) -> Result<Self> {
        let mut this = Self::default();
        match array.data_type() {
            t if t.is_integer() && *t != DataType::UInt64 => this.count_integers(array)?,
            DataType::Boolean => {
                for value in array.as_boolean().iter().flatten() {
                    *this.categories.entry(value.to_string()).or_default() += 1;
                }
            }
            DataType::Utf8 => this.count_texts(array),
            DataType::Timestamp(ArrowUnit::Microsecond | ArrowUnit::Nanosecond, _) => this.count_hours(array, zone)?,
            _ => {}
        }
        Ok(this)
    }

    fn count_integers(&mut self, array: &ArrayRef) -> Result<()> {
        let integers = cast(array, &DataType::Int64)?;
        let (mut small, mut others) = (vec![0_u64; SMALL as usize], BTreeMap::<i64, u64>::new());
        for value in integers.as_primitive::<Int64Type>().iter().flatten() {
            match usize::try_from(value).ok().and_then(|place| small.get_mut(place)) {
                Some(count) => *count += 1,
                None => {
                    *others.entry(value).or_default() += 1;
                    if others.len() > MAX_CATEGORIES {
                        self.give_up();
                        return Ok(());
                    }
                }
            }
        }
        let small = (0..SMALL).zip(small).filter(|(_, count)| *count > 0);
        self.categories = small.chain(others).map(|(value, count)| (value.to_string(), count)).collect();
        self.check_size();
        Ok(())
    }

    fn count_texts(&mut self, array: &ArrayRef) {
        let mut counts = HashMap::<&str, u64>::new();
        for text in array.as_string::<i32>().iter().flatten() {
            *counts.entry(text).or_default() += 1;
            if text.len() > TEXT_BYTES || counts.len() > MAX_CATEGORIES {
                self.give_up();
                return;
            }
        }
        self.categories = counts.into_iter().map(|(text, count)| (text.to_owned(), count)).collect();
    }

    fn count_hours(&mut self, array: &ArrayRef, zone: Zone) -> Result<()> {
        self.hours = vec![0; 24];
        // The times of a load lie in few hours; the zone is asked once for each.
        let mut known = vec![(i64::MIN, 0_usize); KNOWN_HOURS];
        for instant_us in instants_us(array)?.iter().flatten() {
            let hour = instant_us.div_euclid(HOUR_US);
            let (known_hour, of_day) = &mut known[hour.rem_euclid(KNOWN_HOURS as i64) as usize];
            if *known_hour != hour {
                (*known_hour, *of_day) = (hour, zone.hour_of_day(hour.saturating_mul(HOUR_US)).unwrap_or(0));
            }
            if let Some(count) = self.hours.get_mut(*of_day) {
                *count += 1;
            }
        }
        Ok(())
    }

    fn give_up(&mut self) {
        (self.has_too_many, self.categories) = (true, BTreeMap::new());
    }

    fn check_size(&mut self) {
        if self.has_too_many || self.categories.len() > MAX_CATEGORIES {
            self.give_up();
        }
    }

    /// Adds the frequencies of further rows.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.has_too_many |= other.has_too_many;
        for (category, count) in &other.categories {
            *self.categories.entry(category.clone()).or_default() += count;
        }
        self.check_size();
        if self.hours.is_empty() {
            self.hours.clone_from(&other.hours);
        } else {
            self.hours.iter_mut().zip(&other.hours).for_each(|(all, count)| *all += count);
        }
    }

    /// Removes the frequencies of rows that were added.
    pub(crate) fn remove(&mut self, other: &Self) {
        for (category, count) in &other.categories {
            if let Some(all) = self.categories.get_mut(category) {
                *all = all.saturating_sub(*count);
            }
        }
        self.categories.retain(|_, count| *count > 0);
        self.hours.iter_mut().zip(&other.hours).for_each(|(all, count)| *all = all.saturating_sub(*count));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn of(array: impl Array + 'static) -> Frequencies {
        Frequencies::of(&(Arc::new(array) as ArrayRef), "America/New_York".parse().unwrap()).unwrap()
    }

    #[test]
    fn frequencies_add_up() {
        let values = [Some(1), Some(-7), None, Some(1), Some(5_000)];
        let whole = of(Int64Array::from(values.to_vec()));
        assert_eq!(
            whole.categories,
            [("-7", 1), ("1", 2), ("5000", 1)].map(|(category, count)| (category.to_owned(), count)).into()
        );
        let (mut sum, later) = (of(Int64Array::from(values[..2].to_vec())), of(Int64Array::from(values[2..].to_vec())));
        sum.merge(&later);
        assert_eq!(sum, whole);
        sum.remove(&later);
        assert_eq!(sum, of(Int64Array::from(values[..2].to_vec())));
        assert!(of(Int64Array::from_iter_values(0..600)).has_too_many);
        assert!(of(StringArray::from_iter_values((0..600).map(|i| i.to_string()))).categories.is_empty());
    }

    #[test]
    fn hours_are_those_of_the_tables_clocks() {
        // 05:00 UTC is midnight in New York's winter.
        let times = TimestampMicrosecondArray::from(vec![5 * HOUR_US, 5 * HOUR_US + 1, 4 * HOUR_US, 29 * HOUR_US]);
        let hours = of(times.with_timezone("UTC")).hours;
        assert_eq!((hours[0], hours[23], hours.iter().sum::<u64>()), (3, 1, 4));
    }
}
