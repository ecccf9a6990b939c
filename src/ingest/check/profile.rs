//! Profiles of columns: NULLs, extremes, fractions, and a histogram of the values. Profiles can be added and subtracted.
//! `quality` shows them, `anomaly` and `drift` compare them.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit as ArrowUnit},
};
use serde::{Deserialize, Serialize};

use super::distance::total_variation;
use crate::{
    error::Result,
    ingest::target::instants_us,
    numeric::{OrderStatistic, quantile},
    time::AsOf,
};

/// Characters that a profile keeps of the smallest and largest text.
const TEXT_CHARS: usize = 64;

/// The smallest or largest value of a column. NaN and infinities are not counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Extreme {
    /// An integer.
    Integer(i64),
    /// A float, or a decimal as a float.
    Float(f64),
    /// A time, rounded down to a microsecond.
    Time(AsOf),
    /// The first 64 characters of a text. Texts are ordered by their bytes.
    Text(String),
    /// A truth value.
    Boolean(bool),
}

impl Extreme {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (a, b) => a.number().zip(b.number()).map_or(Ordering::Equal, |(a, b)| a.total_cmp(&b)),
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }
}

impl fmt::Display for Extreme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Time(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
        }
    }
}

/// The profile of a column over some rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ColumnProfile {
    pub(crate) values: u64,
    pub(crate) nulls: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<Extreme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<Extreme>,
    /// Numbers that are not whole.
    #[serde(default)]
    pub(crate) fractions: u64,
    /// Numbers whose absolute value is above 90 and above 180: they cannot be latitudes or longitudes.
    #[serde(default)]
    pub(crate) beyond_90: u64,
    #[serde(default)]
    pub(crate) beyond_180: u64,
    /// Texts that parse as numbers.
    #[serde(default)]
    pub(crate) number_texts: u64,
    /// Times right after 1970, by the factor that takes their distance from 1970 into the years 2000 to 2099, or by 0 if there is
    /// none. They may be counts of a unit that is coarser by this factor than the declared one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) too_fine: BTreeMap<i64, u64>,
    /// The shape of the values: a histogram over classes of similar values. Numbers are classed by sign, exponent and two bits of
    /// the fraction; texts by length and kind of characters. Times have no shape, because it would differ in every month.
    #[serde(default)]
    pub(crate) shape: BTreeMap<u32, u64>,
}

/// The years 2000 to 2099, in microseconds since 1970.
const THIS_CENTURY_US: std::ops::Range<i64> = 946_684_800_000_000..4_102_444_800_000_000;
/// How many times longer a unit of time is than a shorter one, smallest first. No count lies in this century by two of them.
const UNIT_FACTORS: [i64; 7] = [1_000, 86_400, 1_000_000, 86_400_000, 1_000_000_000, 86_400_000_000, 86_400_000_000_000];
/// The end of this century, by the smallest factor.
const LAST_TOO_FINE_US: i64 = THIS_CENTURY_US.end / UNIT_FACTORS[0];

fn add<K: Ord + Copy>(all: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (class, count) in counts {
        *all.entry(*class).or_default() += count;
    }
}

fn subtract<K: Ord + Copy>(all: &mut BTreeMap<K, u64>, counts: &BTreeMap<K, u64>) {
    for (class, count) in counts {
        if let Some(known) = all.get_mut(class) {
            *known = known.saturating_sub(*count);
        }
    }
    all.retain(|_, count| *count > 0);
}

/// The class of NULL in a shape. Classes of numbers are below it, those of texts and truth values above.
const NULLS: u32 = 1 << 16;
const TEXTS: u32 = NULLS + 1;

/// The counts of the classes of one array's values. The table is reused for each array.
pub(crate) struct Classes {
    counts: Vec<u64>,
    touched: Vec<u32>,
}

/// The number of classes of numbers.
const NUMBERS: u32 = 1 << 14;
/// The number of other classes: two of truth values, and four of texts for each of 64 lengths.
const OTHERS: u32 = 2 + 4 * 64;

impl Default for Classes {
    fn default() -> Self {
        Self { counts: vec![0; (NUMBERS + OTHERS) as usize], touched: Vec::new() }
    }
}

impl Classes {
    #[inline]
    fn count(&mut self, class: u32) {
        let place = if class < NULLS { class } else { NUMBERS + (class - TEXTS) };
        if let Some(count) = self.counts.get_mut(place as usize) {
            if *count == 0 {
                self.touched.push(class);
            }
            *count += 1;
        }
    }

    /// Adds the counts to a shape and resets them.
    fn pour(&mut self, shape: &mut BTreeMap<u32, u64>) {
        for class in self.touched.drain(..) {
            let place = if class < NULLS { class } else { NUMBERS + (class - TEXTS) };
            if let Some(count) = self.counts.get_mut(place as usize) {
                *shape.entry(class).or_default() += std::mem::take(count);
            }
        }
    }
}

impl ColumnProfile {
    /// The profile of an array.
    pub(crate) fn of(array: &ArrayRef, classes: &mut Classes) -> Result<Self> {
        let mut this = Self::default();
        let nulls = array.logical_null_count() as u64;
        (this.nulls, this.values) = (nulls, array.len() as u64 - nulls);
        if nulls > 0 {
            this.shape.insert(NULLS, nulls);
        }
        match array.data_type() {
            t if t.is_integer() && *t != DataType::UInt64 => this.add_integers(array, classes)?,
            t if t.is_numeric() => this.add_floats(array, classes)?,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => this.add_times(array)?,
            DataType::Boolean => {
                for value in array.as_boolean().iter().flatten() {
                    classes.count(TEXTS + u32::from(value));
                    this.extend(Extreme::Boolean(value));
                }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let texts = cast(array, &DataType::Utf8)?;
                texts.as_string::<i32>().iter().flatten().for_each(|text| this.add_text(text, classes));
            }
            _ => {}
        }
        classes.pour(&mut this.shape);
        Ok(this)
    }

    fn add_integers(&mut self, array: &ArrayRef, classes: &mut Classes) -> Result<()> {
        let integers = cast(array, &DataType::Int64)?;
        let integers = integers.as_primitive::<Int64Type>();
        each(integers, |value| self.add_number(value as f64, classes));
        for extreme in [arrow::compute::min(integers), arrow::compute::max(integers)].into_iter().flatten() {
            self.extend(Extreme::Integer(extreme));
        }
        Ok(())
    }

    fn add_floats(&mut self, array: &ArrayRef, classes: &mut Classes) -> Result<()> {
        let floats = cast(array, &DataType::Float64)?;
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        each(floats.as_primitive::<Float64Type>(), |value| {
            self.add_number(value, classes);
            if value.is_finite() {
                (min, max) = (min.min(value), max.max(value));
            }
        });
        if min <= max {
            self.extend(Extreme::Float(min));
            self.extend(Extreme::Float(max));
        }
        Ok(())
    }

    fn add_times(&mut self, array: &ArrayRef) -> Result<()> {
        // A time that microseconds cannot hold becomes NULL and is not an extreme.
        let micros = match array.data_type() {
            DataType::Timestamp(ArrowUnit::Nanosecond | ArrowUnit::Microsecond, _) => array.clone(),
            _ => cast(array, &DataType::Timestamp(ArrowUnit::Microsecond, None))?,
        };
        let instants = instants_us(&micros)?;
        for instant in instants.iter().flatten().filter(|instant| (1..LAST_TOO_FINE_US).contains(instant)) {
            let is_met = |factor: &i64| instant.checked_mul(*factor).is_some_and(|meant| THIS_CENTURY_US.contains(&meant));
            *self.too_fine.entry(UNIT_FACTORS.into_iter().find(is_met).unwrap_or(0)).or_default() += 1;
        }
        for extreme in [arrow::compute::min(&instants), arrow::compute::max(&instants)].into_iter().flatten() {
            self.extend(Extreme::Time(AsOf::from_micros(extreme)));
        }
        Ok(())
    }

    #[inline]
    fn add_number(&mut self, value: f64, classes: &mut Classes) {
        // From 2^53 on all floats are whole.
        let is_small = value.abs() < (1_u64 << 53) as f64;
        self.fractions += u64::from(is_small && (value as i64) as f64 != value);
        self.beyond_90 += u64::from(value.abs() > 90.0);
        self.beyond_180 += u64::from(value.abs() > 180.0);
        // Sign, exponent and the first two bits of the fraction; -0 becomes 0.
        classes.count(((value + 0.0).to_bits() >> 50) as u32 & (NUMBERS - 1));
    }

    fn add_text(&mut self, text: &str, classes: &mut Classes) {
        let is_all = |class: fn(&u8) -> bool| text.bytes().all(|b| class(&b));
        let kind = match text {
            _ if is_all(u8::is_ascii_digit) => 0,
            _ if is_all(u8::is_ascii_alphabetic) => 1,
            _ if is_all(u8::is_ascii_alphanumeric) => 2,
            _ => 3,
        };
        self.number_texts += u64::from(kind != 1 && text.trim().parse::<f64>().is_ok());
        classes.count(TEXTS + 2 + kind + 4 * u32::try_from(text.len().min(63)).unwrap_or(63));
        let is_extreme = |known: &Option<Extreme>, side: Ordering| match known {
            Some(Extreme::Text(known)) => text.cmp(known) == side,
            _ => true,
        };
        if is_extreme(&self.min, Ordering::Less) || is_extreme(&self.max, Ordering::Greater) {
            self.extend(Extreme::Text(text.chars().take(TEXT_CHARS).collect()));
        }
    }

    fn extend(&mut self, value: Extreme) {
        if self.max.as_ref().is_none_or(|max| value.order(max).is_gt()) {
            self.max = Some(value.clone());
        }
        if self.min.as_ref().is_none_or(|min| value.order(min).is_lt()) {
            self.min = Some(value);
        }
    }

    /// Adds the rows of another profile.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.values += other.values;
        self.nulls += other.nulls;
        self.fractions += other.fractions;
        self.beyond_90 += other.beyond_90;
        self.beyond_180 += other.beyond_180;
        self.number_texts += other.number_texts;
        add(&mut self.too_fine, &other.too_fine);
        add(&mut self.shape, &other.shape);
        for extreme in [&other.min, &other.max].into_iter().flatten() {
            self.extend(extreme.clone());
        }
    }

    /// Removes the rows of a profile that was added. The extremes stay, because they cannot be subtracted.
    pub(crate) fn remove(&mut self, other: &Self) {
        self.values = self.values.saturating_sub(other.values);
        self.nulls = self.nulls.saturating_sub(other.nulls);
        self.fractions = self.fractions.saturating_sub(other.fractions);
        self.beyond_90 = self.beyond_90.saturating_sub(other.beyond_90);
        self.beyond_180 = self.beyond_180.saturating_sub(other.beyond_180);
        self.number_texts = self.number_texts.saturating_sub(other.number_texts);
        subtract(&mut self.too_fine, &other.too_fine);
        subtract(&mut self.shape, &other.shape);
    }

    /// The total variation distance of two shapes: 0 if every class has the same share of the values, or if both are empty; 1 if
    /// no class is common.
    pub(crate) fn distance(&self, other: &Self) -> f64 {
        let is_empty = |profile: &Self| profile.shape.values().all(|count| *count == 0);
        let distance = total_variation(&self.shape, &other.shape);
        distance.unwrap_or_else(|| if is_empty(self) && is_empty(other) { 0.0 } else { 1.0 })
    }

    /// Approximately the smallest and the largest number, from the shape. They are rounded towards zero by at most a quarter.
    pub(crate) fn numbers(&self) -> Option<(f64, f64)> {
        let numbers = self.shape.keys().filter(|class| **class < NULLS).map(|class| f64::from_bits(u64::from(*class) << 50));
        let finite = numbers.filter(|number| number.is_finite());
        finite.fold(None, |span, number| {
            Some(span.map_or((number, number), |(low, high): (f64, f64)| (low.min(number), high.max(number))))
        })
    }

    /// Approximate quantiles of the numbers, from the shape: those of values that are spread evenly over their classes.
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let bound = |class: u32| f64::from_bits(u64::from(class) << 50);
        let mut classes: Vec<(f64, f64, u64)> = Vec::new();
        for (class, count) in self.shape.iter().filter(|(class, _)| **class < NULLS) {
            let (near, far) = (bound(*class), bound(class + 1));
            if near.is_finite() {
                // The last class before infinity has no finite end.
                let far = if far.is_finite() { far } else { near };
                classes.push((near.min(far), near.max(far), *count));
            }
        }
        classes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let value = |position: u64| {
            let mut before = 0_u64;
            for (low, high, count) in &classes {
                if position < before + count {
                    // In the class that begins at zero, the values are taken to be zero.
                    let part = if *low == 0.0 { 0.0 } else { ((position - before) as f64 + 0.5) / *count as f64 };
                    return OrderStatistic::Float(low + part * (high - low));
                }
                before += count;
            }
            OrderStatistic::Float(f64::NAN)
        };
        let all: u64 = classes.iter().map(|(.., count)| count).sum();
        let mut found = [0.0; N];
        for (found, share) in found.iter_mut().zip(shares) {
            *found = quantile(share, all, value)?;
        }
        Some(found)
    }

    /// The count of negative numbers; `None` if there are no numbers.
    pub(crate) fn negative(&self) -> Option<u64> {
        let mut numbers = self.shape.iter().filter(|(class, _)| **class < NULLS).peekable();
        numbers.peek()?;
        // The sign is the first of a class's 14 bits.
        Some(numbers.filter(|(class, _)| *class >> 13 == 1).map(|(_, count)| count).sum())
    }

    /// The share of negative numbers.
    pub(crate) fn negative_share(&self) -> Option<f64> {
        Some(self.share(self.negative()?))
    }

    /// The share of a count in the values.
    pub(crate) fn share(&self, count: u64) -> f64 {
        if self.values == 0 { 0.0 } else { count as f64 / self.values as f64 }
    }
}

/// Calls `look` with each value that is not NULL.
fn each<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, mut look: impl FnMut(T::Native)) {
    if array.null_count() == 0 {
        array.values().iter().for_each(|value| look(*value));
    } else {
        array.iter().flatten().for_each(look);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn of(array: impl Array + 'static) -> ColumnProfile {
        ColumnProfile::of(&(Arc::new(array) as ArrayRef), &mut Classes::default()).unwrap()
    }

    #[test]
    fn profiles_add_up_and_survive_json() {
        let halves = [Some(-0.0), None, Some(2.5), Some(f64::NAN), Some(f64::INFINITY), Some(-170.25)];
        let whole = of(Float64Array::from(halves.to_vec()));
        let mut sum = of(Float64Array::from(halves[..3].to_vec()));
        sum.merge(&of(Float64Array::from(halves[3..].to_vec())));
        assert_eq!(sum, whole);
        assert_eq!((whole.values, whole.nulls, whole.fractions, whole.beyond_90, whole.beyond_180), (5, 1, 2, 2, 1));
        assert_eq!((whole.min.clone(), whole.max.clone()), (Some(Extreme::Float(-170.25)), Some(Extreme::Float(2.5))));
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<ColumnProfile>(&text).unwrap(), whole);
        let texts = of(StringArray::from(vec!["b", "a", "10.5", "7"]));
        assert_eq!(
            (texts.min, texts.max, texts.number_texts),
            (Some(Extreme::Text("10.5".into())), Some(Extreme::Text("b".into())), 2)
        );
    }

    #[test]
    fn quantiles_of_a_shape_are_within_a_class_of_the_exact_ones() {
        let amounts = of(Float64Array::from_iter_values((-200..=1_000).map(|i| f64::from(i) / 4.0)));
        for (share, exact) in [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| (share, -50.0 + 300.0 * share)) {
            let [found] = amounts.quantiles([share]).unwrap();
            // A class is at most a quarter of its values wide.
            assert!((found - exact).abs() <= exact.abs() / 4.0, "{share}: {found} {exact}");
        }
        assert_eq!(of(Float64Array::from(vec![0.0, -0.0, 0.0])).quantiles([0.0, 0.5, 1.0]), Some([0.0; 3]));
        assert_eq!(of(StringArray::from(vec!["a"])).quantiles([0.5]), None);
    }

    #[test]
    fn shapes_tell_ids_from_longitudes() {
        let ids = of(Int64Array::from_iter_values(1..264));
        let more_ids = of(Float64Array::from_iter_values((1..264).map(|i| f64::from(i * 7 % 263 + 1))));
        let longitudes = of(Float64Array::from_iter_values((0..263).map(|i| -74.0 + f64::from(i) / 1e3)));
        assert!(ids.distance(&more_ids) < 1e-9, "{}", ids.distance(&more_ids));
        assert!(ids.distance(&longitudes) > 0.999);
    }
}
