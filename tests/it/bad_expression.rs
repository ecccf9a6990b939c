//! Filters, conditions of windows and expressions that are none over the columns of a single fact: a typed error that says which table and
//! which text, when the window is built.

use asof::{Aggregate, Error, Expression, WindowLength, temporal::Window};
use chrono::TimeDelta;

use crate::{
    bad_input::says,
    bad_question::{refused, rides, spine},
};

/// What is no condition over a fact: `what` is what messages call it, and `refused` asks for it.
fn assert_is_no_condition(what: &str, refused: impl Fn(&str) -> Error) {
    for odd in ["fare = $1", "unnest(list)"] {
        says!(refused(odd), Error::Definition { .. }, "table `rides`", format!("the {what} `{odd}`"), "no single value");
    }
    says!(refused("fare > 1 AS dear"), Error::Definition { .. }, "table `rides`", "names its value");
    let chain = format!("{}fare = 2", "fare = 1 OR ".repeat(3_000));
    says!(refused(&chain), Error::Definition { .. }, "table `rides`", "nested too deeply", "IN (...)");
}

#[test]
fn the_condition_of_a_window_is_one_over_the_facts_alone() {
    let since = |condition: &str| {
        let window = Window::of(rides()).on("zone").trailing(WindowLength::since(condition), [Aggregate::count()]);
        spine().window([window])
    };
    says!(refused(since("random() < 0.5")), Error::Volatile { .. }, "table `rides`");
    for broken in ["", "fare >", "fare > 1; DROP TABLE rides", "nosuch(fare)"] {
        let error = refused(since(broken));
        says!(error, Error::Definition { .. }, "table `rides`", format!("the condition `{broken}` cannot be planned"));
    }
    for more in ["fare > (SELECT random())", "sum(fare) > 1", "row_number() OVER () = 1"] {
        says!(refused(since(more)), Error::Definition { .. }, "table `rides`", "more than one fact");
    }
    let unknown = "gone > 1 AND fare > 1";
    says!(refused(since(unknown)), Error::UnknownColumn { .. }, "table `rides`", unknown, "no column `gone`");
    says!(refused(since("zone + 1")), Error::Definition { .. }, "table `rides`", "Int64", "a condition is Boolean");
    assert_is_no_condition("condition", |text| refused(since(text)));
    let empty = Window::of(rides()).on("zone");
    let empty = empty.trailing(WindowLength::since_within("fare > 1", TimeDelta::zero()), [Aggregate::count()]);
    says!(refused(spine().window([empty])), Error::Definition { .. }, "at most 0 seconds since fare > 1", "longer than zero");
}

#[test]
fn a_filter_is_a_condition_over_the_facts_alone() {
    let filtered =
        |condition: &str| spine().window([Window::of(rides()).on("zone").all_before([Aggregate::count().filter(condition)])]);
    for volatile in ["random() < 0.5", "at < now()", "fare > 1 AND ended < current_timestamp", "uuid() <> 'x'"] {
        let told = refused(filtered(volatile)).to_string();
        says!(refused(filtered(volatile)), Error::Volatile { .. }, "table `rides`");
        assert!(told.contains("calls `"), "{told}");
    }
    for broken in ["", "fare >", "fare > 1; DROP TABLE rides", "SELECT 1", "nosuch(fare)", "zone AND fare > 1"] {
        let error = refused(filtered(broken));
        let told = error.to_string();
        says!(error, Error::Definition { .. }, "table `rides`", format!("the filter `{broken}` cannot be planned"));
        assert!(told.lines().count() == 1 && !told.contains("ParserError"), "{told}");
    }
    // Within a query no time rule would hold, and over other rows no window.
    let more =
        ["fare > (SELECT random())", "EXISTS (SELECT 1)", "zone IN (SELECT 1)", "sum(fare) > 1", "row_number() OVER () = 1"];
    for more in more {
        says!(refused(filtered(more)), Error::Definition { .. }, "table `rides`", "more than one fact");
    }
    let nested = "fare > (SELECT max(fare) FROM rides)";
    says!(refused(filtered(nested)), Error::Definition { .. }, "table `rides`", nested);
    let unknown = "gone > 1 AND fare > 1";
    says!(refused(filtered(unknown)), Error::UnknownColumn { .. }, "table `rides`", unknown, "no column `gone`");
    for (value, found) in [("fare", "Float64"), ("code", "Utf8"), ("zone + 1", "Int64")] {
        says!(refused(filtered(value)), Error::Definition { .. }, "table `rides`", found, "a filter is Boolean");
    }
    assert_is_no_condition("filter", |text| refused(filtered(text)));
    let sum = Window::of(rides()).on("zone").all_before([Aggregate::sum(Expression::sql("fare + ".repeat(3_000) + "1"))]);
    says!(refused(spine().window([sum])), Error::Definition { .. }, "table `rides`", "nested too deeply");
}

#[test]
fn an_expression_is_a_value_of_one_fact() {
    let sum = |text: &str| {
        let aggregate = Aggregate::sum(Expression::sql(text)).named("total");
        spine().window([Window::of(rides()).on("zone").all_before([aggregate])])
    };
    for volatile in ["random()", "fare + random()", "date_part('year', now())"] {
        says!(refused(sum(volatile)), Error::Volatile { .. }, "table `rides`");
    }
    for broken in ["", "fare *", "fare; DROP TABLE rides", "SELECT 1", "nosuch(fare)", "zone AND fare", "code * at"] {
        let error = refused(sum(broken));
        let told = error.to_string();
        let what = format!("the expression `{broken}` of `total` cannot be planned");
        says!(error, Error::Definition { .. }, "table `rides`", what);
        assert!(told.lines().count() == 1 && !told.contains("ParserError"), "{told}");
    }
    for named in ["fare AS money", "pow(fare, 2) AS money", "(fare) AS pow -- money"] {
        says!(refused(sum(named)), Error::Definition { .. }, "table `rides`", "`total`", "`named`");
    }
    for more in ["fare + (SELECT 1)", "sum(fare)", "row_number() OVER ()", "max(fare) - fare"] {
        says!(refused(sum(more)), Error::Definition { .. }, "table `rides`", "`total`", "more than one fact");
    }
    for odd in ["$1", "unnest(list)"] {
        says!(refused(sum(odd)), Error::Definition { .. }, "table `rides`", "`total`", "no single value");
    }
    let unknown = refused(sum("gone * 2"));
    says!(unknown, Error::UnknownColumn { .. }, "table `rides`", "`gone * 2` of `total`", "no column `gone`", "fare");
    for (text, found) in [("code || 'x'", "Utf8"), ("at", "Timestamp"), ("fare > 1", "Boolean"), ("NULL", "Null")] {
        says!(refused(sum(text)), Error::Definition { .. }, "table `rides`", "`total` is ", found, "only numbers");
    }
    let most =
        |aggregate: Aggregate| refused(spine().window([Window::of(rides()).on("zone").all_before([aggregate.named("most")])]));
    for column in ["list", "pair", "hour"] {
        let of = || Expression::sql(column);
        for aggregate in [
            Aggregate::max(of()),
            Aggregate::last(of()),
            Aggregate::count_distinct(of()),
            Aggregate::max_by(of(), "fare"),
            Aggregate::min_by("fare", of()),
            Aggregate::first_k(of(), 2),
            Aggregate::last_k(of(), 2),
            Aggregate::mode(of()),
            Aggregate::top_k(of(), 2),
            Aggregate::top_share(of()),
            Aggregate::entropy(of()),
        ] {
            let told = format!("the expression `{column}` of `most` is ");
            says!(most(aggregate), Error::Definition { .. }, "table `rides`", told, "can be compared");
        }
    }
    // Each of two expressions is told apart.
    let by = |value: &str, by: &str| most(Aggregate::max_by(Expression::sql(value), Expression::sql(by)));
    for (value, decides, told) in [
        ("fare *", "zone", "the expression `fare *` of `most` cannot be planned"),
        ("fare", "zone +", "the expression `zone +` of `most` cannot be planned"),
        ("sum(fare)", "zone", "the expression `sum(fare)` of `most` reads more than one fact"),
        ("fare", "max(zone)", "the expression `max(zone)` of `most` reads more than one fact"),
        ("fare", "zone AS z", "the expression `zone AS z` of `most` names its value"),
    ] {
        says!(by(value, decides), Error::Definition { .. }, "table `rides`", told);
    }
    says!(by("fare", "gone * 2"), Error::UnknownColumn { .. }, "table `rides`", "`gone * 2` of `most`", "no column `gone`");
    says!(by("fare", "zone + random()"), Error::Volatile { .. }, "table `rides`", "random");
}
