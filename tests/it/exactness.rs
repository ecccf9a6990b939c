//! Answers that are exact where rounding or a short cut would show: the ends of time, many digits, ties, filters that fail.
//! The time rule itself is the business of the conformance cases.

use std::sync::Arc;

use asof::{
    Aggregate, Error,
    catalog::{FactTable, KnownAt, TimeColumn},
    temporal::{Facts, Lookup, Spine, Window},
    time::{Cutoff, TimeUnit},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{
        array::{Array, ArrayRef, Decimal128Array, Decimal256Array, RecordBatch, StringArray, UInt64Array},
        datatypes::i256,
        util::pretty::pretty_format_batches,
    },
    prelude::DataFrame,
};
use futures::TryStreamExt;

use crate::{
    conformance::{Layout, PLAIN, table},
    training::{SECOND_US, batch, instants, integers, known_at_once, session},
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
        assert!(told.to_string().contains("ivide by zero"), "{told}");
        // A guarded condition is one for each fact, whatever lies beside it.
        let guarded = vec![Aggregate::count().filter("v <> 0 AND 10 / v > 1").named("n")];
        assert_eq!(aggregated(values(), &[6], None, guarded, layout).await.unwrap(), ["3"], "{layout:?}");
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
