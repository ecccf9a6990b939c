//! What an aggregate is over: a column of the facts, or an SQL expression over the columns of a fact.
//! An expression is a text here. It is planned in `fact_expression`, and evaluated in `window`.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// The values that an aggregate is over: one per fact.
///
/// A text is the name of a column, whatever characters it has. [`Expression::sql`] computes the values from the columns of the
/// fact.
///
/// ```
/// use asof::{Aggregate, Expression};
///
/// let of_column = Aggregate::sum("price"); // named `sum_price`
/// let revenue = Aggregate::sum(Expression::sql("price * quantity")).named("revenue");
/// let minutes = Aggregate::median(Expression::sql("date_diff('minute', pickup_at, dropoff_at)")).named("minutes");
/// // The filter comes first: a fact without a quantity is not divided by it.
/// let unit_price = Aggregate::mean(Expression::sql("price / quantity")).filter("quantity <> 0").named("unit_price");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
#[must_use]
pub struct Expression(Kind);

/// The names of the variants are the keys under which a definition declares them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Column(String),
    Expression(String),
}

impl Expression {
    /// An SQL expression over the columns of a single fact, such as `price * quantity`. Names are lower case unless they are in
    /// double quotes.
    ///
    /// NULL is no value. The expression is evaluated on the facts that a window sees and that pass the aggregate's
    /// [filter](crate::Aggregate::filter), and on no others: an expression that fails for another fact does not make the query
    /// fail. Integers that exceed their type are an error (in a filter they wrap around). Aggregates, window functions, subqueries, and functions that read the
    /// clock or random numbers are refused.
    ///
    /// A set of entities checks the syntax when it is built, and columns and types when it is first used.
    pub fn sql(text: impl Into<String>) -> Self {
        Self(Kind::Expression(text.into()))
    }

    /// The name of the column, if it is one.
    pub(crate) fn column(&self) -> Option<&str> {
        match &self.0 {
            Kind::Column(name) => Some(name),
            Kind::Expression(_) => None,
        }
    }

    /// The SQL, if it is no column.
    pub(crate) fn sql_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Column(_) => None,
            Kind::Expression(text) => Some(text),
        }
    }

    /// The column or the SQL, as it was given.
    pub(crate) fn text(&self) -> &str {
        match &self.0 {
            Kind::Column(text) | Kind::Expression(text) => text,
        }
    }

    /// As a part of a feature's name: the column, or the words of the SQL, as in `price_quantity`.
    pub(super) fn name(&self) -> Cow<'_, str> {
        match &self.0 {
            Kind::Column(name) => name.into(),
            Kind::Expression(text) => words_of(text).into(),
        }
    }
}

/// The words of SQL, as a part of a feature's name.
pub(in crate::temporal) fn words_of(sql: &str) -> String {
    let words = sql.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

/// Writes a column as its name, and SQL as `{"expression": "..."}`. Where only columns could stand before, the JSON of a definition stays
/// as it was.
pub(super) fn column_or_sql<S: Serializer>(part: &Option<Expression>, serializer: S) -> Result<S::Ok, S::Error> {
    match part.as_ref().and_then(Expression::column) {
        Some(column) => serializer.serialize_str(column),
        None => part.serialize(serializer),
    }
}

impl From<&str> for Expression {
    /// The column of this name.
    fn from(column: &str) -> Self {
        Self(Kind::Column(column.into()))
    }
}

impl From<String> for Expression {
    /// The column of this name.
    fn from(column: String) -> Self {
        Self(Kind::Column(column))
    }
}

impl From<&String> for Expression {
    /// The column of this name.
    fn from(column: &String) -> Self {
        Self(Kind::Column(column.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::Aggregate;

    #[test]
    fn a_text_is_a_column_and_sql_has_a_name_of_its_words() {
        for (over, name) in [
            (Expression::from("price * quantity"), "sum_price * quantity"),
            (Expression::sql("price * quantity"), "sum_price_quantity"),
            (Expression::sql(" \"Fare (USD)\"*1.1 "), "sum_fare_usd_1_1"),
            (Expression::sql("CASE WHEN größe > 1 THEN a_b ELSE 0 END"), "sum_case_when_größe_1_then_a_b_else_0_end"),
        ] {
            assert_eq!(Aggregate::sum(over).output(), name);
        }
        assert_eq!(Aggregate::max_by("tip", Expression::sql("tip / fare")).output(), "max_by_tip_tip_fare");
    }

    /// A definition with columns alone has the JSON, and so the id, that it has always had.
    #[test]
    fn a_definition_declares_a_column_or_an_expression() {
        let json = |aggregate: Aggregate| serde_json::to_string(&aggregate).unwrap();
        assert_eq!(json(Aggregate::count()), r#"{"kind":"count","output":"count"}"#);
        assert_eq!(
            json(Aggregate::last_k("fare", 3).filter("fare > 0")),
            r#"{"kind":{"last_k":3},"column":"fare","filter":"fare > 0","output":"last_3_fare"}"#
        );
        assert_eq!(json(Aggregate::sum(Expression::sql("a * b"))), r#"{"kind":"sum","expression":"a * b","output":"sum_a_b"}"#);
        assert_eq!(
            json(Aggregate::max_by("tip", "fare").filter("fare > 0")),
            r#"{"kind":"max_by","column":"tip","by":"fare","filter":"fare > 0","output":"max_by_tip_fare"}"#
        );
        assert_eq!(
            json(Aggregate::min_by(Expression::sql("a * b"), Expression::sql("-c")).named("least")),
            r#"{"kind":"min_by","expression":"a * b","by":{"expression":"-c"},"output":"least"}"#
        );
    }
}
