//! Answers that are exact where rounding or a short cut would show: the ends of time, many digits, ties, filters that fail.
//! The time rule itself is the business of the conformance cases.

use asof::{
    Aggregate,
    catalog::{FactTable, KnownAt, TimeColumn},
    temporal::{Facts, Lookup, Spine, Window},
    time::{Cutoff, TimeUnit},
};
use chrono::TimeDelta;
use datafusion::{
    arrow::{array::RecordBatch, util::pretty::pretty_format_batches},
    prelude::DataFrame,
};

use crate::{
    conformance::{Layout, PLAIN, table},
    training::{batch, integers, session},
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
    for layout in [PLAIN, Layout { batch_rows: 1, partitions: 2, tasks: 2 }] {
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
