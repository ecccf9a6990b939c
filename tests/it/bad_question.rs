//! Questions that cannot be asked, or cannot be answered in the memory there is: a typed error that says which table, which
//! column and what to do, before anything is read where that can be known. Nothing here panics.

use std::sync::Arc;

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Resources, StoreOptions, WindowLength,
    catalog::{FactTable, KnownAt, TimeColumn},
    feature_set::{EntitySetBuilder, Source},
    temporal::{Facts, Lookup, Spine, Window},
    time::{Cutoff, TimeUnit},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{
            ArrayRef, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
            Time32SecondArray, TimestampMicrosecondArray,
        },
        datatypes::{DataType, Field, Int32Type, Int64Type},
        util::pretty::pretty_format_batches,
    },
    execution::{memory_pool::GreedyMemoryPool, runtime_env::RuntimeEnvBuilder},
    functions_aggregate::expr_fn::count,
    prelude::{DataFrame, SessionConfig, SessionContext, col},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    bad_input::says,
    support::{instant, temp_dir, write_parquet},
    times::utc_micros,
};

fn columns() -> Vec<(&'static str, ArrayRef)> {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None]);
    let item: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let words: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    vec![
        ("zone", Arc::new(Int64Array::from(vec![1, 2]))),
        ("code", Arc::new(StringArray::from(vec!["1", "2"]))),
        ("word", Arc::new(words)),
        ("fare", Arc::new(Float64Array::from(vec![1.5, 2.5]))),
        ("list", Arc::new(lists)),
        ("pair", Arc::new(StructArray::from(vec![(Arc::new(Field::new("item", DataType::Int64, true)), item)]))),
        ("hour", Arc::new(Time32SecondArray::from(vec![1, 2]))),
        ("at", utc_micros([1_000_000, 2_000_000])),
        ("ended", utc_micros([1_000_000, 2_000_000])),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000]))),
        ("epoch", Arc::new(Int64Array::from(vec![1, 2]))),
    ]
}

fn rows() -> DataFrame {
    SessionContext::new().read_batch(RecordBatch::try_from_iter(columns()).unwrap()).unwrap()
}

fn at_once(event: impl Into<TimeColumn>) -> FactTable {
    FactTable::new(event, KnownAt::after(TimeDelta::zero()))
}

fn facts(declared: FactTable) -> Facts {
    Facts::new("rides", rows(), declared)
}

pub(crate) fn rides() -> Facts {
    facts(at_once("at"))
}

pub(crate) fn spine() -> Spine {
    let columns = columns().into_iter().filter(|(name, _)| *name != "fare").map(|(name, column)| match name {
        "at" => ("t", column),
        name => (name, column),
    });
    let batch = RecordBatch::try_from_iter(columns.chain([("level", Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef)]));
    Spine::new(SessionContext::new().read_batch(batch.unwrap()).unwrap(), "t")
}

/// Refused before anything is read.
pub(crate) fn refused(asked: asof::Result<Spine>) -> Error {
    asked.err().unwrap_or_else(|| panic!("it was planned"))
}

async fn answered(asked: asof::Result<Spine>) -> asof::Result<String> {
    let batches = asked?.into_rows().collect().await.map_err(Error::from)?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

#[test]
fn keys_that_cannot_be_compared_name_both_columns_and_the_table() {
    let by = |left: &str, right: &str| Lookup::of(rides()).on_columns(left, right).column("fare");
    let cases = [
        ("code", "zone", "Utf8", "Int64"),
        ("zone", "code", "Int64", "Utf8"),
        ("t", "zone", "Timestamp", "Int64"),
        ("zone", "at", "Int64", "Timestamp"),
    ];
    for (left, right, left_type, right_type) in cases {
        let error = refused(spine().lookup([by(left, right)]));
        says!(
            error,
            Error::ColumnType { .. },
            format!("column `{right}` of table `rides`"),
            format!("the spine's `{left}`"),
            left_type,
            right_type,
            "cast"
        );
        let window = Window::of(rides()).on_columns(left, right).all_before([Aggregate::count()]);
        says!(
            refused(spine().window([window])),
            Error::ColumnType { .. },
            format!("column `{right}` of table `rides`"),
            left_type
        );
    }
    for (left, right) in [("level", "fare"), ("zone", "fare"), ("level", "zone")] {
        let error = refused(spine().lookup([by(left, right)]));
        says!(error, Error::ColumnType { .. }, format!("column `{right}` of table `rides`"), "floats do not identify an entity");
    }
    for nested in ["list", "pair"] {
        let error = refused(spine().lookup([by(nested, nested)]));
        says!(error, Error::ColumnType { .. }, format!("column `{nested}` of table `rides`"), "cannot be a key");
    }
}

#[test]
fn missing_columns_are_named_with_their_side() {
    let lookup = |on: (&str, &str), column: &str| Lookup::of(rides()).on_columns(on.0, on.1).column(column);
    let window = |aggregate: Aggregate| Window::of(rides()).on("zone").trailing(TimeDelta::hours(1), [aggregate]);
    says!(
        refused(spine().lookup([lookup(("gone", "zone"), "fare")])),
        Error::UnknownColumn { .. },
        "the spine has no column `gone`",
        "zone"
    );
    says!(
        refused(spine().lookup([lookup(("zone", "gone"), "fare")])),
        Error::UnknownColumn { .. },
        "table `rides` has no column `gone`",
        "fare"
    );
    says!(
        refused(spine().lookup([lookup(("zone", "zone"), "gone")])),
        Error::UnknownColumn { .. },
        "table `rides` has no column `gone`"
    );
    says!(
        refused(spine().lookup([lookup(("zone", "zone"), "Fare")])),
        Error::UnknownColumn { .. },
        "table `rides` has no column `Fare`"
    );
    says!(
        refused(spine().window([window(Aggregate::sum("gone"))])),
        Error::UnknownColumn { .. },
        "table `rides` has no column `gone`"
    );
    for by in [Aggregate::max_by("fare", "gone"), Aggregate::min_by("gone", "fare")] {
        says!(refused(spine().window([window(by)])), Error::UnknownColumn { .. }, "table `rides` has no column `gone`", "fare");
    }
    for on in [("gone", "zone"), ("zone", "gone")] {
        let window = Window::of(rides()).on_columns(on.0, on.1).all_before([Aggregate::count()]);
        says!(refused(spine().window([window])), Error::UnknownColumn { .. }, "no column `gone`");
    }
    let filtered = window(Aggregate::count().filter("gone > 1"));
    says!(refused(spine().window([filtered])), Error::UnknownColumn { .. }, "gone");

    let other = |at: &str| Spine::new(spine().into_rows(), at).lookup([lookup(("zone", "zone"), "fare")]);
    says!(refused(other("gone")), Error::UnknownColumn { .. }, "the spine has no column `gone`", "level");
    let nobody = SessionContext::new().read_empty().unwrap();
    says!(refused(Spine::new(nobody, "t").lookup([lookup(("zone", "zone"), "fare")])), Error::UnknownColumn { .. }, "the spine");
}

#[test]
fn a_declaration_is_held_to_the_columns_that_there_are() {
    let lookup = |declared: FactTable| spine().lookup([Lookup::of(facts(declared)).on("zone").column("fare")]);
    let window = |declared: FactTable| spine().window([Window::of(facts(declared)).on("zone").all_before([Aggregate::count()])]);
    let gone = [
        at_once("gone"),
        FactTable::new("at", KnownAt::column("gone")),
        at_once("at").tie_break("gone"),
        at_once("at").identity("gone"),
        at_once("at").key("gone"),
    ];
    for declared in gone {
        says!(refused(lookup(declared.clone())), Error::UnknownColumn { .. }, "table `rides` has no column `gone`", "fare");
        says!(refused(window(declared)), Error::UnknownColumn { .. }, "table `rides` has no column `gone`", "fare");
    }
    let no_times = [
        ("code", "Utf8", "a time must be"),
        ("fare", "Float64", "a time must be"),
        ("epoch", "Int64", "TimeColumn::epoch"),
        ("local", "Timestamp", "FactTable::zone"),
    ];
    for (column, found, needed) in no_times {
        let place = format!("column `{column}` of table `rides`");
        says!(refused(lookup(at_once(column))), Error::ColumnType { .. }, place, found, needed);
        says!(refused(window(FactTable::new("at", KnownAt::column(column)))), Error::ColumnType { .. }, place, found, needed);
    }
    let early = FactTable::new("at", KnownAt::after(TimeDelta::microseconds(-1)));
    says!(refused(lookup(early.clone())), Error::Definition { .. }, "table `rides`", "-1 microsecond: facts");
    says!(refused(window(early)), Error::Definition { .. }, "table `rides`", "-1 microsecond: facts");
}

#[test]
fn the_instants_of_a_spine_must_be_instants() {
    let ask = |spine: Spine| spine.lookup([Lookup::of(rides()).on("zone").column("fare")]);
    let of = |at: &str| Spine::new(spine().into_rows(), at);
    says!(refused(ask(of("local"))), Error::ColumnType { .. }, "column `local` of the spine", "Spine::zone");
    assert!(ask(of("local").zone("America/New_York".parse().unwrap())).is_ok());
    says!(refused(ask(of("epoch"))), Error::ColumnType { .. }, "column `epoch` of the spine", "TimeColumn::epoch");
    assert!(ask(Spine::new(spine().into_rows(), TimeColumn::epoch("epoch", TimeUnit::Second))).is_ok());
    for column in ["code", "level", "list"] {
        says!(refused(ask(of(column))), Error::ColumnType { .. }, format!("column `{column}` of the spine"), "a time must be");
    }
}

#[test]
fn what_asks_for_nothing_or_the_impossible_is_no_question() {
    let lookup = || Lookup::of(rides()).on("zone").column("fare");
    let window = |length: TimeDelta, aggregate: Aggregate| Window::of(rides()).on("zone").trailing(length, [aggregate]);
    let hour = TimeDelta::hours(1);
    says!(
        refused(spine().lookup([lookup().max_age(TimeDelta::microseconds(-1))])),
        Error::Definition { .. },
        "table `rides`",
        "max age is -1 microsecond"
    );
    says!(refused(spine().lookup([lookup().max_age(TimeDelta::MIN)])), Error::Definition { .. }, "table `rides`", "max age");
    says!(refused(spine().lookup([Lookup::of(rides()).column("fare")])), Error::Definition { .. }, "table `rides`", "no key");
    says!(refused(spine().lookup([Lookup::of(rides()).on("zone")])), Error::Definition { .. }, "table `rides`", "no column");
    let keyless = Window::of(rides()).trailing(hour, [Aggregate::count()]);
    says!(refused(spine().window([keyless])), Error::Definition { .. }, "table `rides`", "no key");
    for empty in [Window::of(rides()).on("zone"), Window::of(rides()).on("zone").trailing(hour, [])] {
        says!(refused(spine().window([empty])), Error::Definition { .. }, "table `rides`", "no aggregate");
    }
    for (length, shown) in [
        (TimeDelta::zero(), "0 seconds"),
        (TimeDelta::microseconds(-5), "-5 microseconds"),
        (TimeDelta::nanoseconds(999), "0 seconds"),
        (TimeDelta::nanoseconds(-1), "-1 microsecond"),
        (TimeDelta::MIN, "-9223372036854775"),
    ] {
        says!(
            refused(spine().window([window(length, Aggregate::count())])),
            Error::Definition { .. },
            "table `rides`",
            "a window of",
            shown
        );
    }
    let no_months =
        Window::of(rides()).on("zone").trailing(WindowLength::months(0, "UTC".parse().unwrap()), [Aggregate::count()]);
    says!(
        refused(spine().window([no_months])),
        Error::Definition { .. },
        "table `rides`",
        "a window of 0 months in UTC is empty"
    );
    for q in [-0.1, 1.000_000_1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let asked = window(hour, Aggregate::quantile("fare", q).named("tail"));
        says!(refused(spine().window([asked])), Error::Definition { .. }, "table `rides`", "`tail`", "between 0 and 1");
    }
    for (none, name) in [
        (Aggregate::first_k("fare", 0), "first_0_fare"),
        (Aggregate::last_k("fare", 0), "last_0_fare"),
        (Aggregate::top_k("fare", 0), "top_0_fare"),
    ] {
        says!(refused(spine().window([window(hour, none)])), Error::Definition { .. }, "table `rides`", name, "1 or more");
    }

    for aggregate in [
        Aggregate::sum("code"),
        Aggregate::mean("code"),
        Aggregate::stddev("code"),
        Aggregate::slope("code"),
        Aggregate::median("code"),
        Aggregate::variance("at"),
    ] {
        let column = if aggregate == Aggregate::variance("at") { "at" } else { "code" };
        let error = refused(spine().window([window(hour, aggregate)]));
        says!(error, Error::ColumnType { .. }, format!("column `{column}` of table `rides`"), "only numbers can be aggregated");
    }
    for column in ["list", "pair", "word", "hour"] {
        for aggregate in [
            Aggregate::max(column),
            Aggregate::last(column),
            Aggregate::count_distinct(column),
            Aggregate::approx_count_distinct(column),
            Aggregate::max_by(column, "fare"),
            Aggregate::min_by("fare", column),
            Aggregate::first_k(column, 2),
            Aggregate::last_k(column, 2),
            Aggregate::mode(column),
            Aggregate::top_k(column, 2),
            Aggregate::top_share(column),
            Aggregate::entropy(column),
        ] {
            let error = refused(spine().window([window(hour, aggregate)]));
            says!(error, Error::ColumnType { .. }, format!("column `{column}` of table `rides`"), "cast the column");
        }
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let lookup = |name: &str| Lookup::of(rides()).on("zone").column_as("fare", name);
    let count = |name: &str| Window::of(rides()).on("zone").all_before([Aggregate::count().named(name)]);
    for taken in ["zone", "t", "level"] {
        says!(
            refused(spine().lookup([lookup(taken)])),
            Error::Definition { .. },
            "table `rides`",
            format!("`{taken}`"),
            "another name"
        );
        says!(
            refused(spine().window([count(taken)])),
            Error::Definition { .. },
            "table `rides`",
            format!("`{taken}`"),
            "another name"
        );
    }
    says!(refused(spine().lookup([lookup("a"), lookup("a")])), Error::Definition { .. }, "table `rides`", "`a`");
    says!(refused(spine().lookup([lookup("a").column_as("zone", "a")])), Error::Definition { .. }, "table `rides`", "`a`");
    says!(refused(spine().window([count("a"), count("a")])), Error::Definition { .. }, "table `rides`", "`a`");
    says!(refused(spine().lookup([lookup("a")]).unwrap().window([count("a")])), Error::Definition { .. }, "table `rides`", "`a`");
    // A column of a named table counts as well.
    let session = SessionContext::new();
    session
        .register_batch(
            "asked",
            RecordBatch::try_from_iter([("zone", columns().remove(0).1), ("t", utc_micros([5, 6]))]).unwrap(),
        )
        .unwrap();
    let asked = tokio::runtime::Runtime::new().unwrap().block_on(session.sql("SELECT asked.zone, asked.t FROM asked")).unwrap();
    says!(refused(Spine::new(asked, "t").lookup([lookup("zone")])), Error::Definition { .. }, "table `rides`", "`zone`");
}

/// What is no number, text or time can still be looked up and counted, and decide between facts.
#[tokio::test]
async fn values_of_any_type_are_looked_up_and_counted() {
    for column in ["list", "pair", "word", "hour", "code", "at", "local"] {
        let lookup = || Lookup::of(rides()).on("zone").column_as(column, "found").cutoff(Cutoff::Inclusive);
        let text = answered(spine().lookup([lookup()])).await.unwrap_or_else(|e| panic!("looking up `{column}`: {e}"));
        assert_eq!(text.lines().count(), 6, "{text}");
        let count =
            Window::of(rides()).on("zone").cutoff(Cutoff::Inclusive).all_before([Aggregate::count_of(column).named("found")]);
        let counted = spine().window([count]).unwrap().into_rows().select_columns(&["found"]).unwrap();
        let counted = counted.collect().await.unwrap_or_else(|e| panic!("counting `{column}`: {e}"));
        let expected = Int64Array::from(if column == "list" { vec![1, 0] } else { vec![1, 1] });
        assert_eq!(counted[0].column(0).as_ref(), &expected, "{column}");
    }
}

/// Two facts of one instant: the declared column decides, whatever its type, for lookups and windows alike.
#[tokio::test]
async fn ties_are_broken_alike_by_lookups_and_windows() {
    let words: DictionaryArray<Int32Type> = ["b", "a", "c"].into_iter().collect();
    let sorted_words: DictionaryArray<Int32Type> = ["a", "b", "c"].into_iter().collect();
    let ties: [(&str, ArrayRef); 5] = [
        ("words in a dictionary", Arc::new(words)),
        ("words", Arc::new(StringArray::from(vec!["b", "a", "c"]))),
        ("sorted words", Arc::new(sorted_words)),
        ("hours", Arc::new(Time32SecondArray::from(vec![5, 4, 6]))),
        ("numbers", Arc::new(Float64Array::from(vec![-1.0, -2.0, 0.5]))),
    ];
    for (what, tie) in ties {
        let columns: [(&str, ArrayRef); 4] = [
            ("zone", Arc::new(Int64Array::from(vec![1, 1, 1]))),
            ("at", utc_micros([5, 5, 5])),
            ("tie", tie),
            ("fare", Arc::new(Float64Array::from(vec![9.0, 8.0, 1.0]))),
        ];
        let rows = SessionContext::new().read_batch(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let facts = || Facts::new("rides", rows.clone(), at_once("at").tie_break("tie"));
        let looked = spine().lookup([Lookup::of(facts()).on("zone").column_as("fare", "newest")]).unwrap();
        let aggregates = [Aggregate::last("fare").named("last"), Aggregate::last_k("fare", 1).named("list_of_last")];
        let both = looked.window([Window::of(facts()).on("zone").all_before(aggregates)]).unwrap().into_rows();
        let both = both.select_columns(&["newest", "last", "list_of_last"]).unwrap();
        let batches = both.collect().await.unwrap_or_else(|e| panic!("{what}: {e}"));
        let text = pretty_format_batches(&batches).unwrap().to_string();
        assert!(text.contains("| 1.0    | 1.0  | [1.0]        |"), "{what}:\n{text}");
    }
}

#[tokio::test]
async fn the_ends_of_time_are_no_reason_to_panic() {
    let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let zone = || Arc::new(Int64Array::from(vec![1; edges.len()])) as ArrayRef;
    let fares: ArrayRef = Arc::new(Float64Array::from_iter_values((0..edges.len()).map(|i| i as f64)));
    let fact_rows = RecordBatch::try_from_iter([("zone", zone()), ("at", utc_micros(edges)), ("fare", fares)]).unwrap();
    let spine_rows = RecordBatch::try_from_iter([("zone", zone()), ("t", utc_micros(edges))]).unwrap();
    let session = SessionContext::new();
    for known in [KnownAt::after(TimeDelta::zero()), KnownAt::after(TimeDelta::MAX), KnownAt::column("at")] {
        for cutoff in [Cutoff::Exclusive, Cutoff::Inclusive] {
            let facts = Facts::new("rides", session.read_batch(fact_rows.clone()).unwrap(), FactTable::new("at", known.clone()));
            let spine = Spine::new(session.read_batch(spine_rows.clone()).unwrap(), "t");
            let lookup = |name: &str| Lookup::of(facts.clone()).on("zone").column_as("fare", name).cutoff(cutoff);
            let window = Window::of(facts.clone()).on("zone").cutoff(cutoff);
            let window = window.trailing(TimeDelta::MAX, [Aggregate::count().named("long")]);
            let window = window.trailing(TimeDelta::microseconds(1), [Aggregate::count().named("short")]);
            let window = window.all_before([
                Aggregate::first_k("fare", usize::MAX).named("same"),
                Aggregate::last_k("fare", usize::MAX).named("all"),
                Aggregate::top_k("fare", usize::MAX).named("all_different"),
            ]);
            let asked = spine
                .lookup([lookup("old").max_age(TimeDelta::MAX), lookup("new").max_age(TimeDelta::zero()), lookup("any")])
                .unwrap()
                .window([window]);
            let text = answered(asked).await.unwrap();
            assert_eq!(text.lines().count(), edges.len() + 4, "{text}");
        }
    }
    // Seconds reach further than the scale: an instant out there is refused by its column.
    let far: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let spine = session.read_batch(RecordBatch::try_from_iter([("zone", one), ("t", far)]).unwrap()).unwrap();
    let asked =
        Spine::new(spine, TimeColumn::epoch("t", TimeUnit::Second)).lookup([Lookup::of(rides()).on("zone").column("fare")]);
    says!(answered(asked).await.unwrap_err(), Error::InvalidTime { .. }, "column `t` of the spine");
}

#[tokio::test]
async fn nobody_asking_and_nobody_answering_are_answers() {
    let empty = |rows: DataFrame| rows.limit(0, Some(0)).unwrap();
    for (asking, answering) in [(true, false), (false, true), (true, true)] {
        let spine_rows = spine().into_rows();
        let asked = Spine::new(if asking { empty(spine_rows) } else { spine_rows }, "t");
        let facts = Facts::new("rides", if answering { empty(rows()) } else { rows() }, at_once("at").identity("code"));
        let asked = asked.lookup([Lookup::of(facts.clone()).on("zone").column("fare")]).unwrap();
        let asked =
            asked.window([Window::of(facts).on("zone").all_before([Aggregate::mean("fare"), Aggregate::last_k("fare", 2)])]);
        let found = asked.unwrap().into_rows().collect().await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), if asking { 0 } else { 2 });
    }
}

/// Many facts and a spine that asks about all of them.
fn large(rows: usize) -> (RecordBatch, RecordBatch) {
    let mut rng = StdRng::seed_from_u64(3);
    let zones: ArrayRef = Arc::new((0..rows).map(|_| rng.random_range(0..500i64)).collect::<Int64Array>());
    let at = || utc_micros((0..rows as i64).map(|i| i * 1_000));
    let fares: ArrayRef = Arc::new((0..rows).map(|i| i as f64).collect::<Float64Array>());
    let facts = RecordBatch::try_from_iter([("zone", zones.clone()), ("at", at()), ("fare", fares)]).unwrap();
    (facts, RecordBatch::try_from_iter([("zone", zones), ("t", at())]).unwrap())
}

/// A query cuts a large batch of a table in memory into slices; they all share its buffers.
#[tokio::test]
async fn a_spine_that_is_cut_into_slices_is_held_once() {
    let (facts, spine) = large(200_000);
    // The spine is 3.2 MB. Its slices, were each of them counted as the whole, would be 80 MB.
    let pool = Arc::new(GreedyMemoryPool::new(40 << 20));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
    let session = SessionContext::new_with_config_rt(SessionConfig::new(), runtime);
    for declared in [at_once("at"), at_once("at").identity("fare")] {
        let few = facts.slice(0, 40_000);
        let facts = Facts::new("rides", session.read_batch(few).unwrap(), declared);
        let spine = Spine::new(session.read_batch(spine.clone()).unwrap(), "t");
        let text = answered(spine.lookup([Lookup::of(facts).on("zone").column("fare")])).await.unwrap();
        assert_eq!(text.lines().count(), 200_004);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_beyond_the_session_s_memory_says_how_much_and_for_what() {
    let (facts, spine) = large(40_000);
    // So little that the spine does not fit, and so much that it does, but not what is kept of the facts.
    for (bytes, place) in [(1_000, "the spine"), (2_000_000, "table `rides`")] {
        for tasks in [1, 4] {
            let pool = Arc::new(GreedyMemoryPool::new(bytes));
            let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc().unwrap();
            let session = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(tasks), runtime);
            let ask = || {
                let facts = Facts::new("rides", session.read_batch(facts.clone()).unwrap(), at_once("at"));
                let spine = Spine::new(session.read_batch(spine.clone()).unwrap(), "t");
                let keeps_all = [Aggregate::last_k("fare", 50), Aggregate::median("fare"), Aggregate::count_distinct("fare")];
                let lookup = spine.clone().lookup([Lookup::of(facts.clone()).on("zone").column("fare")]);
                (lookup, spine.window([Window::of(facts).on("zone").all_before(keeps_all)]))
            };
            let (lookup, window) = ask();
            let told = answered(window).await.unwrap_err();
            says!(told, Error::Memory { .. }, "AsOfWindow", place, "bytes", "held_bytes", "fewer rows");
            if bytes == 1_000 {
                says!(answered(lookup).await.unwrap_err(), Error::Memory { .. }, "AsOfLookup", place, "held_bytes");
            }
            // Above the operator several tasks share its rows, and so its error.
            let grouped = ask()
                .1
                .unwrap()
                .into_rows()
                .aggregate(vec![col("zone")], ["median_fare", "last_50_fare"].map(|c| count(col(c))).to_vec())
                .unwrap();
            let told = Error::from(grouped.collect().await.unwrap_err());
            says!(told, Error::Memory { .. }, "AsOfWindow", place, "held_bytes");
            assert_eq!(datafusion::execution::memory_pool::MemoryPool::reserved(pool.as_ref()), 0, "memory is given back");
        }
    }
}

/// A store with these columns as its table `rides`.
async fn bench(resources: Resources, columns: &[(&str, ArrayRef)]) -> (TempDir, FeatureStore) {
    let dir = temp_dir();
    write_parquet(&dir.path().join("rides/all.parquet"), columns, None);
    let options = StoreOptions::default().cache_in_memory().resources(resources);
    let store = FeatureStore::open_with(dir.path().join("store").to_str().unwrap(), options).await.unwrap();
    store.register_table("rides", dir.path().join("rides").to_str().unwrap(), at_once("at")).await.unwrap();
    (dir, store)
}

fn last_fare(key: &str) -> EntitySetBuilder {
    FeatureSet::entities("rides_v1", "rides").key(key).lookup("fare", "last_fare")
}

async fn made(store: &FeatureStore, set: EntitySetBuilder, name: &str) -> Error {
    store.register(set.build().unwrap()).unwrap();
    store.materialize(name, instant("2014-01-01")).await.err().unwrap_or_else(|| panic!("it was made"))
}

#[tokio::test]
async fn a_store_names_the_table_and_the_column_of_a_set_that_does_not_fit() {
    let plain: Vec<_> = columns().into_iter().filter(|(name, _)| !["hour", "pair", "list"].contains(name)).collect();
    let fresh = || bench(Resources::default(), &plain);
    let (_dir, store) = fresh().await;
    says!(
        made(&store, last_fare("gone"), "rides_v1").await,
        Error::UnknownColumn { .. },
        "table `rides` has no column `gone`",
        "fare"
    );
    let (_dir, store) = fresh().await;
    says!(
        made(&store, last_fare("fare"), "rides_v1").await,
        Error::ColumnType { .. },
        "column `fare` of table `rides`",
        "floats do not identify"
    );
    let (_dir, store) = fresh().await;
    says!(
        made(&store, last_fare("zone").lookup("gone", "x"), "rides_v1").await,
        Error::UnknownColumn { .. },
        "table `rides` has no column `gone`"
    );
    let (_dir, store) = fresh().await;
    let by_text = last_fare("zone").also(Source::of("rides").on_columns("zone", "code").lookup("fare", "other"));
    says!(made(&store, by_text, "rides_v1").await, Error::ColumnType { .. }, "column `code` of table `rides`", "Int64");
    let (_dir, store) = fresh().await;
    let summed = last_fare("zone").all_before([Aggregate::sum("code")]);
    says!(made(&store, summed, "rides_v1").await, Error::ColumnType { .. }, "column `code` of table `rides`", "only numbers");
    let (_dir, store) = fresh().await;
    let by_nothing = last_fare("zone").all_before([Aggregate::max_by("fare", "gone").named("dearest")]);
    let told = made(&store, by_nothing, "rides_v1").await;
    says!(told, Error::UnknownColumn { .. }, "feature `dearest`", "table `rides` has no column `gone`");
    let (_dir, store) = fresh().await;
    let by_chance = last_fare("zone").all_before([Aggregate::count().filter("random() < 0.5")]);
    says!(made(&store, by_chance, "rides_v1").await, Error::Volatile { .. }, "table `rides`", "random");

    let (_dir, store) = fresh().await;
    store.register(last_fare("zone").build().unwrap()).unwrap();
    let ask = async |rows: DataFrame, at: &str| store.training_set("rides_v1", Spine::new(rows, at)).await.err().unwrap();
    says!(ask(spine().into_rows(), "gone").await, Error::UnknownColumn { .. }, "the spine has no column `gone`");
    says!(ask(spine().into_rows(), "local").await, Error::ColumnType { .. }, "column `local` of the spine", "Spine::zone");
    let keyless = spine().into_rows().drop_columns(&["zone"]).unwrap();
    says!(ask(keyless, "t").await, Error::UnknownColumn { .. }, "the spine has no column `zone`");
    let taken = spine().into_rows().with_column("last_fare", datafusion::prelude::lit(1)).unwrap();
    says!(ask(taken, "t").await, Error::Definition { .. }, "table `rides`", "`last_fare`", "another name");
    let texts = spine().into_rows().drop_columns(&["zone"]).unwrap().with_column_renamed("code", "zone").unwrap();
    says!(ask(texts, "t").await, Error::ColumnType { .. }, "column `zone` of table `rides`", "Utf8");
    let unknown = store.training_set("nothing_v1", spine()).await.err().unwrap();
    says!(unknown, Error::UnknownFeatureSet { .. }, "nothing_v1", "rides_v1");
    says!(store.facts("nothing", AsOf::from_micros(0)).await.err().unwrap(), Error::UnknownTable { .. }, "nothing");
}

#[test]
fn a_set_with_a_flaw_is_not_built() {
    let built = |set: EntitySetBuilder| set.build().err().unwrap_or_else(|| panic!("it was built"));
    let (hour, none) = (TimeDelta::hours(1), TimeDelta::zero());
    says!(built(FeatureSet::entities("rides_v1", "rides").lookup("fare", "x")), Error::Definition { .. }, "rides_v1", "no key");
    says!(built(FeatureSet::entities("rides_v1", "rides").key("zone")), Error::Definition { .. }, "rides_v1", "no feature");
    says!(
        built(last_fare("zone").max_age(TimeDelta::microseconds(-1))),
        Error::Definition { .. },
        "rides_v1",
        "`rides`",
        "max age"
    );
    says!(built(last_fare("zone").window(none, [Aggregate::count()])), Error::Definition { .. }, "rides_v1", "window");
    says!(
        built(last_fare("zone").window(hour, [Aggregate::quantile("fare", 1.5)])),
        Error::Definition { .. },
        "rides_v1",
        "between 0 and 1"
    );
    says!(
        built(last_fare("zone").window(hour, [Aggregate::last_k("fare", 0)])),
        Error::Definition { .. },
        "rides_v1",
        "1 or more"
    );
    says!(built(last_fare("zone").lookup("ended", "zone")), Error::Definition { .. }, "rides_v1", "`zone`");
    says!(built(last_fare("zone").lookup("ended", "last_fare")), Error::Definition { .. }, "rides_v1", "`last_fare`");
    says!(
        built(last_fare("zone").also(Source::of("weather").lookup("temp", "temp"))),
        Error::Definition { .. },
        "rides_v1",
        "`weather`",
        "no key"
    );
    says!(
        built(last_fare("zone").also(Source::of("weather").on("origin").lookup("temp", "temp"))),
        Error::Definition { .. },
        "rides_v1",
        "`weather`",
        "`origin`"
    );
    let ageless = Source::of("weather").on("zone").max_age(hour).all_before([Aggregate::count()]);
    says!(built(last_fare("zone").also(ageless)), Error::Definition { .. }, "rides_v1", "`weather`", "there is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_little_memory_says_so_and_publishes_nothing() {
    let (facts, spine) = large(20_000);
    let columns: Vec<(&str, ArrayRef)> = ["zone", "at", "fare"].into_iter().zip(facts.columns().iter().cloned()).collect();
    // A sort keeps a fifth of its own memory for merging, out of what cannot spill.
    let resources = |held_bytes: usize| Resources { memory_bytes: 100_000, held_bytes, ..Default::default() };
    let keeps_all = || last_fare("zone").all_before([Aggregate::median("fare"), Aggregate::last_k("fare", 50)]);
    let (dir, store) = bench(resources(60_000), &columns).await;
    says!(made(&store, keeps_all(), "rides_v1").await, Error::Memory { .. }, "AsOf", "Resources::held_bytes");
    says!(store.online("rides_v1").await.err().unwrap(), Error::NotFound { .. }, "rides_v1", "materialize it first");
    // The spine fits, what is kept of the facts does not.
    let (_dir, store) = bench(resources(200_000), &columns).await;
    says!(made(&store, keeps_all(), "rides_v1").await, Error::Memory { .. }, "AsOf", "table `rides`", "Resources::held_bytes");
    // A spine that the store reads is asked within the store's memory.
    write_parquet(&dir.path().join("spine.parquet"), &[("zone", spine.column(0).clone()), ("t", spine.column(1).clone())], None);
    let rows = store.read_parquet(dir.path().join("spine.parquet").to_str().unwrap()).await.unwrap();
    let asked = store.training_set("rides_v1", Spine::new(rows, "t")).await.unwrap().dataframe().await.unwrap();
    says!(Error::from(asked.collect().await.unwrap_err()), Error::Memory { .. }, "AsOf", "the spine", "held_bytes");
    // With enough of it the same question is answered.
    let (_dir, store) = bench(resources(64 << 20), &columns).await;
    store.register(keeps_all().build().unwrap()).unwrap();
    assert_eq!(store.materialize("rides_v1", instant("2014-01-01")).await.unwrap().rows(), 500);
}
