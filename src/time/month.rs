//! A calendar month: the unit in which loads replace rows. It can be parsed from the name of a source file.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A month of the table's calendar, written `2014-11`. Months are ordered by time.
///
/// ```
/// use asof::ingest::Month;
/// let month: Month = "2014-11".parse()?;
/// assert_eq!((month.year(), month.month(), month.to_string().as_str()), (2014, 11, "2014-11"));
/// assert!("2014-13".parse::<Month>().is_err());
/// # Ok::<(), asof::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// A month from 1 to 12 of a year; `None` for another number.
    #[must_use]
    pub fn new(year: i32, month: u32) -> Option<Self> {
        (1..=12).contains(&month).then_some(Self { year, month })
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year
    }

    /// The month of the year, 1 to 12.
    pub fn month(self) -> u32 {
        self.month
    }

    /// The month in a file's name, if it has exactly one: `yellow_tripdata_2014-11.csv`, `20141103.parquet`,
    /// `uber-raw-data-apr14.csv`, `year=2014/month=11/part.parquet`.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let mut found: Option<Self> = None;
        let mut add = |month: Option<Self>| match (found, month) {
            (Some(known), Some(month)) if known != month => false,
            (_, month) => {
                found = found.or(month);
                true
            }
        };
        let mut tokens: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|t| !t.is_empty()).collect();
        // `year=2014/month=11` reads as `2014`, `11`.
        tokens.retain(|t| !["year", "month", "day"].contains(t));
        for (i, token) in tokens.iter().enumerate() {
            let month = match token.len() {
                4 => year_of(token).and_then(|year| Self::new(year, two_digits(tokens.get(i + 1)?)?)),
                6 | 8 => token.get(..4).and_then(year_of).and_then(|year| Self::new(year, two_digits(&token.get(4..6)?)?)),
                _ => None,
            };
            if !add(month.or_else(|| Self::of_words(token))) {
                return None;
            }
        }
        found
    }

    /// `apr14`, `april2014`.
    fn of_words(token: &str) -> Option<Self> {
        const NAMES: [&str; 12] = [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ];
        let digits = token.find(|c: char| c.is_ascii_digit())?;
        let (word, number) = token.split_at(digits);
        let month = NAMES.iter().position(|name| *name == word || (word.len() == 3 && name.starts_with(word)))?;
        let year = match number.len() {
            2 => number.parse::<i32>().ok().map(|year| 2000 + year),
            4 => year_of(number),
            _ => None,
        }?;
        Self::new(year, u32::try_from(month + 1).ok()?)
    }
}

fn year_of(token: &str) -> Option<i32> {
    token.parse().ok().filter(|year| token.len() == 4 && (1900..2100).contains(year))
}

fn two_digits(token: &&str) -> Option<u32> {
    token.get(..2).filter(|_| token.len() == 2)?.parse().ok()
}

impl FromStr for Month {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidTime`] unless the text is `YYYY-MM`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.rsplit_once('-').and_then(|(y, m)| Self::new(y.parse().ok()?, two_digits(&m)?));
        parts.ok_or_else(|| Error::InvalidTime { text: text.into(), reason: "write a month as 2014-11".into() })
    }
}

impl TryFrom<String> for Month {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_one_month_or_none() {
        let of = |name: &str| Month::of_name(name).map(|m| m.to_string());
        for name in [
            "yellow_tripdata_2014-11.csv",
            "yellow_tripdata_2014_11.csv.gz",
            "a/2014-11-03.parquet",
            "facts20.141103/x201411.csv",
            "nov14.csv",
            "uber-NOV2014.csv",
            "year=2014/month=11/part-0.parquet",
            "20141103.parquet",
        ] {
            let expected = if name.starts_with("facts") { None } else { Some("2014-11".to_owned()) };
            assert_eq!(of(name), expected, "{name}");
        }
        for name in ["trips.csv", "2014.csv", "2014-13.csv", "part-00001.csv", "2014-11_2014-12.csv", "mayor.csv", "12345678.csv"]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
