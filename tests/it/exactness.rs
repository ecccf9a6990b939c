//! Answers that are exact where rounding or a short cut would show: the ends of time, many digits, ties, filters that fail.
//! The time rule itself is the business of the conformance cases.

use std::sync::Arc;

use asof::{
    Aggregate, Error, Expression,
    catalog::{FactTable, KnownAt, TimeColumn},
    temporal::{Facts, Lookup, Spine, Window},
    time::{Cutoff, TimeUnit},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, Decimal128Array, Decimal256Array, Float64Array, RecordBatch, StringArray, TimestampSecondArray,
            UInt64Array,
        },
        compute::cast,
        datatypes::{DataType, TimeUnit as ArrowTimeUnit, i256},
        util::pretty::pretty_format_batches,
    },
    prelude::DataFrame,
};
use futures::TryStreamExt;

use crate::{
    asking::{Layout, PLAIN, table},
    training::{SECOND_US, batch, floats, instants, integers, known_at_once, session},
};

/// The columns that were added to a spine of so many, as text, a line a row.
async fn added(rows: DataFrame, spine_columns: usize) -> asof::Result<Vec<String>> {
    let batches = rows.collect().await?;
    let added = |batch: &RecordBatch| batch.project(&(spine_columns..batch.num_columns()).collect::<Vec<_>>()).unwrap();
    let shown = pretty_format_batches(&batches.iter().map(added).collect::<Vec<_>>())?.to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ");
    Ok(shown.lines().skip(3).filter(|line| line.starts_with('|')).map(cells).collect())
}

/// At the first and the last instant that a column of microseconds can hold, a fact at exactly that instant is visible if
/// the cutoff is inclusive, and not if it is exclusive.
#[tokio::test]
async fn the_ends_of_time_are_instants_like_others() {
    let spine = || batch(vec![("k", integers([Some(1), Some(1)])), ("t", integers([Some(i64::MIN), Some(i64::MAX)]))]);
    let facts = || {
        let at = [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX].map(Some);
        batch(vec![("k", integers([Some(1); 4])), ("at", integers(at)), ("v", integers([1, 2, 4, 8].map(Some)))])
    };
    for layout in LAYOUTS {
        let asked = |cutoff: Cutoff| async move {
            let session = session(layout);
            let declared = FactTable::new(TimeColumn::epoch("at", TimeUnit::Microsecond), KnownAt::after(TimeDelta::zero()));
            let facts = Facts::new("facts", session.read_table(table(facts(), layout)).unwrap(), declared);
            let spine = session.read_table(table(spine(), layout)).unwrap();
            let rows = Spine::new(spine, TimeColumn::epoch("t", TimeUnit::Microsecond))
                .lookup([Lookup::of(facts.clone()).on("k").column("v").cutoff(cutoff)])
                .unwrap()
                .window([Window::of(facts)
                    .on("k")
                    .cutoff(cutoff)
                    .all_before([Aggregate::sum("v").named("all")])
                    .trailing(TimeDelta::microseconds(1), [Aggregate::sum("v").named("last")])])
                .unwrap();
            added(rows.into_rows(), 2).await.unwrap()
        };
        assert_eq!(asked(Cutoff::Inclusive).await, ["1 1.0 1.0", "8 15.0 12.0"], "{layout:?}");
        assert_eq!(asked(Cutoff::Exclusive).await, ["  ", "4 7.0 4.0"], "{layout:?}");
    }
}

const LAYOUTS: [Layout; 3] =
    [PLAIN, Layout { batch_rows: 1, partitions: 2, tasks: 2 }, Layout { batch_rows: 2, partitions: 1, tasks: 2 }];

/// Aggregates at these seconds over facts of one entity, one a second from the first second on; the results as text.
async fn aggregated(
    values: ArrayRef,
    seconds: &[i64],
    length: Option<i64>,
    aggregates: Vec<Aggregate>,
    layout: Layout,
) -> asof::Result<Vec<String>> {
    let session = session(layout);
    let count = values.len() as i64;
    let facts = batch(vec![
        ("k", integers((0..count).map(|_| Some(1)))),
        ("at", instants((1..=count).map(|s| Some(s * SECOND_US)))),
        ("v", values),
    ]);
    let spine = batch(vec![
        ("k", integers(seconds.iter().map(|_| Some(1)))),
        ("t", instants(seconds.iter().map(|s| Some(s * SECOND_US)))),
    ]);
    let facts = Facts::new("facts", session.read_table(table(facts, layout))?, known_at_once());
    let window = Window::of(facts).on("k");
    let window = match length {
        Some(seconds) => window.trailing(TimeDelta::seconds(seconds), aggregates),
        None => window.all_before(aggregates),
    };
    let spine = session.read_table(table(spine, layout))?;
    added(Spine::new(spine, "t").window([window])?.into_rows(), 2).await
}

fn decimals(units: &[i128], precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(units.to_vec());
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

/// A sum of decimals is a decimal of ten digits more, and exact in windows that slide; more digits than that are an error.
#[tokio::test]
async fn sums_of_decimals_are_decimals_and_never_wrap() {
    let sum = || vec![Aggregate::sum("v")];
    for layout in LAYOUTS {
        let one = 10i128.pow(20);
        let values = decimals(&[one, 1, -one, 5], 38, 0);
        let slid = aggregated(values, &[2, 3, 4, 5, 6], Some(3), sum(), layout).await.unwrap();
        assert_eq!(slid, [one.to_string(), (one + 1).to_string(), "1".into(), (6 - one).to_string(), (5 - one).to_string()]);

        // Two of the largest are one digit too long; with one of them taken out again the sum fits.
        let most = 10i128.pow(38) - 1;
        let told = aggregated(decimals(&[most, 1], 38, 2), &[9], None, sum(), layout).await.unwrap_err();
        assert!(matches!(&told, Error::Overflow { column, .. } if column == "v"), "{told:?}");
        for part in ["column `v`", "table `facts`", "Decimal128(38, 2)", "cast"] {
            assert!(told.to_string().contains(part), "{told}");
        }
        let back = aggregated(decimals(&[most, most, -most], 38, 0), &[9], None, sum(), layout).await.unwrap();
        assert_eq!(back, [most.to_string()]);

        let wide: ArrayRef = {
            let most = i256::from_string(&"9".repeat(76)).unwrap();
            let units = vec![most, most, i256::from_i128(7), most.wrapping_neg(), most.wrapping_neg()];
            Arc::new(Decimal256Array::from(units).with_precision_and_scale(76, 3).unwrap())
        };
        let aggregates = vec![Aggregate::sum("v"), Aggregate::min("v"), Aggregate::last("v"), Aggregate::count_distinct("v")];
        let digits = format!("{}.{}", "9".repeat(73), "9".repeat(3));
        let found = aggregated(wide.clone(), &[6], None, aggregates, layout).await.unwrap();
        assert_eq!(found, [format!("0.007 -{digits} -{digits} 3")]);
        let told = aggregated(wide, &[3], None, sum(), layout).await.unwrap_err();
        assert!(told.to_string().contains("Decimal256(76, 3)"), "{told}");
    }
}

/// A slope is per second, with the same bits whatever units the facts and the spine count their times in.
#[tokio::test]
async fn a_slope_does_not_depend_on_the_units_of_times() {
    use ArrowTimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let times = |seconds: &[i64], unit: ArrowTimeUnit| {
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(seconds.to_vec()).with_timezone("UTC"));
        cast(&seconds, &DataType::Timestamp(unit, Some("UTC".into()))).unwrap()
    };
    let first = 1_704_067_200;
    let mut found = Vec::new();
    for (facts_unit, spine_unit) in
        [Second, Millisecond, Microsecond, Nanosecond].map(|unit| [(unit, Microsecond), (unit, Nanosecond)]).concat()
    {
        for layout in LAYOUTS {
            let session = session(layout);
            let facts = batch(vec![
                ("k", integers([Some(1); 4])),
                ("at", times(&[0, 1, 5, 11].map(|second| first + second), facts_unit)),
                ("v", floats([0.1, 0.7, 0.4, 1e9].map(Some))),
            ]);
            let facts = Facts::new("facts", session.read_table(table(facts, layout)).unwrap(), known_at_once());
            let spine = batch(vec![("k", integers([Some(1); 2])), ("t", times(&[first + 6, first + 60], spine_unit))]);
            let spine = session.read_table(table(spine, layout)).unwrap();
            let window = Window::of(facts).on("k").trailing(TimeDelta::seconds(60), [Aggregate::slope("v")]);
            found.push(added(Spine::new(spine, "t").window([window]).unwrap().into_rows(), 2).await.unwrap());
        }
    }
    // From Python's `fractions`, rounded to a float.
    let expected = ["0.021428571428571436", "90301003.31237458"];
    assert!(found.iter().all(|rows| *rows == expected), "{found:?}");
}

/// Integers of any width are added, squared and compared as integers.
#[tokio::test]
async fn integers_are_never_rounded_on_the_way() {
    let aggregates = || vec![Aggregate::sum("v"), Aggregate::variance("v"), Aggregate::max("v"), Aggregate::count_distinct("v")];
    for layout in LAYOUTS {
        let far = 1i64 << 60;
        let values = integers([far + 1, far + 2, far + 3, -far - 6].map(Some));
        let found = aggregated(values, &[4, 5], Some(3), aggregates(), layout).await.unwrap();
        assert_eq!(found[0], format!("{:?} 1.0 {} 3", 3.0 * far as f64, far + 3));
        assert!(found[1].starts_with(&format!("{:?} ", far as f64)), "{found:?}");
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, u64::MAX - 1]));
        let found = aggregated(values, &[9], None, aggregates(), layout).await.unwrap();
        assert_eq!(found, [format!("{:?} 0.5 {} 2", 2f64.powi(65), u64::MAX)]);
    }
}

/// A quantile is the float nearest to the exact number between its neighbours, of integers and short decimals too.
#[tokio::test]
async fn quantiles_are_rounded_once() {
    let of = |q: f64| vec![Aggregate::quantile("v", q)];
    for layout in LAYOUTS {
        let small = || integers([1, 2, 3].map(Some));
        assert_eq!(aggregated(small(), &[9], None, of(0.1), layout).await.unwrap(), ["1.2"]);
        assert_eq!(aggregated(small(), &[9], None, of(0.9), layout).await.unwrap(), ["2.8"]);
        let far = integers([0, 0, 0, 1_000_000_007].map(Some));
        assert_eq!(aggregated(far, &[9], None, of(0.99), layout).await.unwrap(), ["970000006.79"]);
        assert_eq!(aggregated(decimals(&[7, 14], 9, 2), &[9], None, of(0.5), layout).await.unwrap(), ["0.105"]);
        let slid = aggregated(decimals(&[10, 20, 40], 4, 2), &[2, 3, 4], Some(2), of(0.5), layout).await.unwrap();
        assert_eq!(slid, ["0.1", "0.15", "0.3"]);
        let zero: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 1.0]));
        assert_eq!(aggregated(zero, &[9], None, of(0.0), layout).await.unwrap(), ["-0.0"]);
    }
}

/// NaN is the largest of floats for a lookup as it is for an aggregate, whatever its sign: that of 0.0 / 0.0 depends on the machine.
#[tokio::test]
async fn nan_is_the_newest_of_tied_facts_whatever_its_sign() {
    let negative = f64::from_bits(0xfff8_0000_0000_0000);
    for (layout, nan) in LAYOUTS.into_iter().flat_map(|layout| [(layout, negative), (layout, f64::NAN)]) {
        for declared in [known_at_once(), known_at_once().identity("z")] {
            let facts = batch(vec![
                ("k", integers([Some(1); 3])),
                ("at", instants([Some(SECOND_US); 3])),
                ("z", integers([1, 2, 3].map(Some))),
                ("v", Arc::new(Float64Array::from(vec![1.0, nan, 2.0]))),
            ]);
            let spine = batch(vec![("k", integers([Some(1)])), ("t", instants([Some(9 * SECOND_US)]))]);
            let session = session(layout);
            let facts = Facts::new("facts", session.read_table(table(facts, layout)).unwrap(), declared);
            let spine = Spine::new(session.read_table(table(spine, layout)).unwrap(), "t");
            let lookup = Lookup::of(facts.clone()).on("k").column("v");
            let window = Window::of(facts).on("k").all_before([Aggregate::last("v").named("last")]);
            let rows = spine.lookup([lookup]).unwrap().window([window]).unwrap().into_rows();
            assert_eq!(added(rows, 2).await.unwrap(), ["NaN NaN"], "{layout:?}");
        }
    }
}

/// A condition that fails for a fact which no row sees is no error; for one that a row sees it is.
#[tokio::test]
async fn a_filter_judges_only_facts_that_are_seen() {
    for layout in LAYOUTS {
        let counts = || {
            vec![
                Aggregate::count().filter("10 / v > 1").named("n"),
                Aggregate::sum("v").filter("v <> 0 AND 10 / v > 1").named("s"),
            ]
        };
        // The fact of the fourth second would divide by zero.
        let values = || integers([5, 10, 2, 0, 3].map(Some));
        let found = aggregated(values(), &[2, 4], Some(2), counts(), layout).await.unwrap();
        assert_eq!(found, ["1 5.0", "1 2.0"], "{layout:?}");
        let told = aggregated(values(), &[2, 5], Some(2), counts(), layout).await.unwrap_err();
        for part in ["ivide by zero", "the filter `10 / v", "of an aggregate"] {
            assert!(told.to_string().contains(part), "{told}");
        }
        // A guarded condition is one for each fact, whatever lies beside it.
        let guarded = vec![Aggregate::count().filter("v <> 0 AND 10 / v > 1").named("n")];
        assert_eq!(aggregated(values(), &[6], None, guarded, layout).await.unwrap(), ["3"], "{layout:?}");
    }
}

/// An expression that fails for a fact which no row sees, or which does not pass the filter, is no error. Integers that exceed
/// their type are one.
#[tokio::test]
async fn an_expression_is_evaluated_on_facts_that_are_seen_and_pass() {
    for layout in LAYOUTS {
        let shares = || Aggregate::sum(Expression::sql("10 / v")).named("s");
        // The fact of the fourth second would divide by zero.
        let values = || integers([5, 10, 2, 0, 3].map(Some));
        let found = aggregated(values(), &[2, 4], Some(2), vec![shares()], layout).await.unwrap();
        assert_eq!(found, ["2.0", "6.0"], "{layout:?}");
        let told = aggregated(values(), &[2, 5], Some(2), vec![shares()], layout).await.unwrap_err();
        for part in ["ivide by zero", "the expression `10 / v` of an aggregate over table `facts`", "a window sees"] {
            assert!(told.to_string().contains(part), "{told}");
        }
        let guarded = vec![
            shares().filter("v <> 0"),
            Aggregate::count_of(Expression::sql("10 / v")).filter("v > 2").named("n"),
            Aggregate::max(Expression::sql("CASE WHEN v <> 0 THEN 10 / v END")).named("m"),
        ];
        assert_eq!(aggregated(values(), &[6], None, guarded, layout).await.unwrap(), ["11.0 3 5"], "{layout:?}");
        // The filter excludes the fact for one of them alone.
        let one = vec![shares().filter("v <> 0"), shares().named("all")];
        assert!(aggregated(values(), &[6], None, one, layout).await.is_err(), "{layout:?}");

        // What decides which value counts is evaluated on the same facts.
        let by_share = || Aggregate::max_by("v", Expression::sql("10 / v")).named("b");
        assert_eq!(aggregated(values(), &[2, 4], Some(2), vec![by_share()], layout).await.unwrap(), ["5", "2"], "{layout:?}");
        let guarded = vec![
            by_share().filter("v <> 0"),
            Aggregate::min_by(Expression::sql("v * 2"), Expression::sql("10 / v")).filter("v <> 0").named("l"),
            Aggregate::max_by(Expression::sql("10 / v"), "v").filter("v <> 0").named("s"),
        ];
        assert_eq!(aggregated(values(), &[6], None, guarded, layout).await.unwrap(), ["2 20 1"], "{layout:?}");
        for failing in [by_share(), Aggregate::max_by(Expression::sql("10 / v"), "v").named("s")] {
            let told = aggregated(values(), &[2, 5], Some(2), vec![failing], layout).await.unwrap_err();
            assert!(told.to_string().contains("the expression `10 / v` of an aggregate over table `facts`"), "{told}");
        }

        let large = || integers([i64::MAX, 1].map(Some));
        let doubled = || vec![Aggregate::max(Expression::sql("v * 2"))];
        let told = aggregated(large(), &[9], None, doubled(), layout).await.unwrap_err();
        assert!(told.to_string().contains("verflow"), "{told}");
        assert_eq!(aggregated(large(), &[9], Some(7), doubled(), layout).await.unwrap(), ["2"], "{layout:?}");
    }
}

/// Text results that are longer together than an array can say come in several batches.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_come_in_as_many_batches_as_they_need() {
    let layout = Layout { batch_rows: 65_536, partitions: 1, tasks: 1 };
    let session = session(layout);
    let (rows, length) = (300_000usize, 8_000usize);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(length), "b".repeat(length)]));
    let facts = batch(vec![("k", integers([1, 1].map(Some))), ("at", instants([1, 2].map(Some))), ("x", text)]);
    let facts = Facts::new("facts", session.read_table(table(facts, layout)).unwrap(), known_at_once());
    let spine =
        batch(vec![("k", integers((0..rows).map(|_| Some(1)))), ("t", instants((0..rows).map(|i| Some(2 + (i % 2) as i64))))]);
    let spine = session.read_table(table(spine, layout)).unwrap();
    let window = Window::of(facts).on("k").all_before([Aggregate::last("x"), Aggregate::last_k("x", 1)]);
    let rows_out = Spine::new(spine, "t").window([window]).unwrap().into_rows();
    let mut stream = rows_out.execute_stream().await.unwrap();
    let mut seen = 0;
    while let Some(batch) = stream.try_next().await.unwrap() {
        let texts = batch.column(2).as_any().downcast_ref::<StringArray>().unwrap();
        assert_eq!(batch.schema().field(3).data_type(), batch.column(3).data_type());
        assert!(texts.value_data().len() <= 1 << 28);
        for row in 0..batch.num_rows() {
            let expected = if (seen + row) % 2 == 0 { b'a' } else { b'b' };
            assert_eq!((texts.value(row).len(), texts.value(row).as_bytes()[length - 1]), (length, expected));
        }
        seen += batch.num_rows();
    }
    assert_eq!(seen, rows);
}

/// The same fact of several of one instant, whichever columns are asked for, in whatever order and pieces they come.
#[tokio::test]
async fn adding_a_column_to_a_lookup_changes_no_other() {
    // Ties of three facts; the last of them differ in a column that nobody selects but the last question.
    let columns = |order: &[usize]| {
        let pick = |values: &[i64]| integers(order.iter().map(|&i| Some(values[i])).collect::<Vec<_>>());
        batch(vec![
            ("k", pick(&[1, 1, 1, 1, 2, 2, 3])),
            ("at", instants(order.iter().map(|&i| Some([1, 2, 2, 2, 2, 2, 1][i] * SECOND_US)).collect::<Vec<_>>())),
            ("b", pick(&[0, 9, 5, 5, 7, 8, 1])),
            ("a", pick(&[9, 1, 2, 2, 3, 3, 1])),
            ("c", pick(&[0, 0, 1, 2, 4, 4, 1])),
        ])
    };
    let spine =
        || batch(vec![("k", integers([1, 1, 2, 3].map(Some))), ("t", instants([9, 2, 9, 9].map(|s| Some(s * SECOND_US))))]);
    for order in [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 5, 1, 0, 2, 6, 4]] {
        for layout in LAYOUTS {
            let ask = |names: &'static [&'static str]| async move {
                let session = session(layout);
                let facts = Facts::new("facts", session.read_table(table(columns(&order), layout)).unwrap(), known_at_once());
                let lookup = Lookup::of(facts).on("k").columns(names.iter().copied());
                let spine = session.read_table(table(spine(), layout)).unwrap();
                added(Spine::new(spine, "t").lookup([lookup]).unwrap().into_rows(), 2).await.unwrap()
            };
            assert_eq!(ask(&["a", "b", "c"]).await, ["2 5 2", "9 0 0", "3 8 4", "1 1 1"], "{order:?} {layout:?}");
            assert_eq!(ask(&["b"]).await, ["5", "0", "8", "1"], "{order:?} {layout:?}");
            assert_eq!(ask(&["b", "a"]).await, ["5 2", "0 9", "8 3", "1 1"], "{order:?} {layout:?}");
            assert_eq!(ask(&["c"]).await, ["2", "0", "4", "1"], "{order:?} {layout:?}");
            assert_eq!(ask(&["c", "b"]).await, ["2 5", "0 0", "4 8", "1 1"], "{order:?} {layout:?}");
        }
    }
}

/// In SQL too, looking back and looking forward, where a declared tie-break decides first.
#[tokio::test]
async fn the_selected_columns_of_an_asof_join_do_not_decide_and_a_tie_break_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("f.csv"), "at,k,a,b\n2014-01-01T00:00:02Z,1,1,9\n2014-01-01T00:00:02Z,1,2,5\n").unwrap();
    std::fs::write(path("q.csv"), "t,k\n2014-01-01T00:00:01Z,1\n2014-01-01T00:00:03Z,1\n").unwrap();
    let store = asof::FeatureStore::open("memory://ties").await.unwrap();
    let at_once = || KnownAt::after(TimeDelta::zero());
    let load = |name: &str, declared: FactTable, file: &str| asof::ingest::Ingest::new(name, declared).unwrap().from(path(file));
    store.ingest(&load("f", FactTable::new("at", at_once()), "f.csv")).await.unwrap();
    store.ingest(&load("g", FactTable::new("at", at_once()).tie_break("b"), "f.csv")).await.unwrap();
    store.ingest(&load("q", FactTable::new("t", at_once()), "q.csv")).await.unwrap();
    let as_of = "2015-01-01".parse::<asof::AsOf>().unwrap();
    for (operator, second) in [(">", 3), ("<", 1)] {
        for (from, columns, expected) in
            [("f", "x.b", "5"), ("f", "x.b, x.a", "5 2"), ("f", "x.a", "2"), ("g", "x.a", "1"), ("g", "x.a, x.b", "1 9")]
        {
            let sql = format!(
                "SELECT {columns} FROM q ASOF JOIN {from} x MATCH_CONDITION (q.t {operator} x.at) ON q.k = x.k \
                 WHERE q.t = TIMESTAMP '2014-01-01T00:00:0{second}Z'"
            );
            let rows = store.sql(&sql, as_of).await.unwrap();
            assert_eq!(added(rows, 0).await.unwrap(), [expected], "{sql}");
        }
        // Nor does what the query calls the columns, or computes of them.
        for (columns, from) in [
            ("x.z", "(SELECT k, at, a AS z FROM f)"),
            ("x.z", "(SELECT k, at, a AS z, b FROM f)"),
            ("x.z", "(SELECT k, at, a AS z, b AS \"0\" FROM f)"),
            ("x.z", "(SELECT k, at, a + 0 AS z, -a AS \"0\", -b AS a FROM f)"),
            ("x.z", "(SELECT k, at, b AS a, a AS z, a AS y FROM f)"),
            ("x.z", "(SELECT z AS z, at, k FROM (SELECT k, at, a AS z, b AS y FROM f))"),
        ] {
            let sql = format!(
                "SELECT {columns} FROM q ASOF JOIN {from} x MATCH_CONDITION (q.t {operator} x.at) ON q.k = x.k \
                 WHERE q.t = TIMESTAMP '2014-01-01T00:00:0{second}Z'"
            );
            let rows = store.sql(&sql, as_of).await.unwrap();
            assert_eq!(added(rows, 0).await.unwrap(), ["2"], "{sql}");
        }
    }
}
