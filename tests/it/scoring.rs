//! A backtest scores many folds from one query where that costs less. Each fold is what a backtest of it alone is, in every bit.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
};

use asof::ndarray::{Array1, Array2};
use asof::{
    Aggregate, AsOf, Error, ErrorKind, FeatureSet, FeatureStore, Resources, Result,
    backtest::{Backtest, BacktestReport, FoldReport, Folds, Learner, Model},
    encoder::{Impute, Number, OutlierFilter, Sample, Standardize},
    feature_set::{RowSetBuilder, Source},
    time::Span,
    training::Dataset,
};
use chrono::TimeDelta;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    many,
    opened_once::store_of_watched_files,
    support::{temp_dir, write_parquet},
    training::{floats, instants, integers},
};

fn second(s: i64) -> AsOf {
    AsOf::from_micros(s * 1_000_000)
}

/// Predicts a sum of the features, and keeps what it is asked to predict, bit by bit.
#[derive(Clone, Default)]
struct Weighing(Arc<Mutex<Vec<Vec<u64>>>>);

impl Weighing {
    fn take(&self) -> Vec<Vec<u64>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Learner for Weighing {
    fn name(&self) -> &str {
        "weighing"
    }

    fn fit(&self, _: &Dataset) -> Result<Box<dyn Model>> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Weighing {
    fn predict(&self, records: &Array2<f64>) -> Array1<f64> {
        self.0.lock().unwrap().push(records.iter().map(|x| x.to_bits()).collect());
        let weighed = records.rows().into_iter().map(|row| row.iter().zip(1..).map(|(x, weight)| x * f64::from(weight)).sum());
        weighed.collect()
    }
}

/// Sets of rows whose folds share a query, and sets whose folds do not.
fn sets() -> Vec<FeatureSet> {
    let zones = |name: &str| {
        let places = Source::of("places").on("k1").lookup("heat", "heat").max_age(TimeDelta::seconds(90));
        FeatureSet::entities(name, "facts")
            .key("k1")
            .lookup("v", "last_v")
            .window(TimeDelta::seconds(60), [Aggregate::count().named("count"), Aggregate::median("v").named("median")])
            .all_before([Aggregate::max("n").named("most")])
            .also(places)
    };
    let rides = FeatureSet::entities("rides_v1", "rides").key("k1").lookup("v", "ride_v").build().unwrap();
    let kinds = FeatureSet::entities("kinds_v1", "facts").key("k1").lookup("n", "last_n");
    let kinds = kinds.also(Source::timeless("kinds").on("k1").lookup("kind", "kind")).build().unwrap();
    let rows = |name: &str, query: &str| FeatureSet::rows(name, query).table("facts").event_time("at");
    let fitted =
        |set: RowSetBuilder| set.encode(Number::of("n")).encode_fitted(Standardize::of("n").named("standard")).label("y");
    let drawing = |set: RowSetBuilder| {
        let zones = zones("scored_zones_v1").build().unwrap();
        let set = set.features_of(zones.by(["k1"])).features_of(rides.by(["k1"]));
        let filled = ["last_v", "median", "most", "heat", "ride_v"];
        let set = filled.iter().fold(set, |set, name| set.encode_fitted(Impute::constant(*name, -1.0)));
        fitted(set.pass(["count"]))
    };
    let all = "SELECT at, k1, n, 2 * n AS y FROM facts WHERE n IS NOT NULL";
    vec![
        fitted(rows("plain_rows_v1", all)).build().unwrap(),
        fitted(rows("filtered_rows_v1", all).keep(OutlierFilter::between_percentiles(10.0, 90.0).of(["n"]))).build().unwrap(),
        drawing(rows("drawing_v1", all)).build().unwrap(),
        drawing(rows("drawing_inclusive_v1", all)).inclusive().build().unwrap(),
        drawing(rows("sampled_drawing_v1", all).keep(Sample::fraction(0.6, 3).of_numbers(["n"]))).build().unwrap(),
        // The instant of a row is not its event time.
        drawing(rows("earlier_v1", "SELECT at, at - INTERVAL '7 seconds' AS asked, k1, n, 2 * n AS y FROM facts WHERE n IS NOT NULL").at("asked"))
            .build()
            .unwrap(),
        // No file can be skipped by the event time of these rows, which is coarser and later than that of their facts.
        fitted(
            FeatureSet::rows(
                "moved_v1",
                "SELECT arrow_cast(at + INTERVAL '2 seconds', 'Timestamp(Second, Some(\"UTC\"))') AS moved, at, k1, n, 2 * n AS y FROM facts WHERE n > -45",
            )
            .table("facts")
            .event_time("moved")
            .at("at")
            .features_of(kinds.by(["k1"]).only(["kind"]))
            .encode_fitted(Impute::constant("kind", 9.0)),
        )
        .build()
        .unwrap(),
        // Versions of a fact are rows of their own.
        FeatureSet::rows("versions_v1", "SELECT at, ride, coalesce(k1, -1) AS k1, coalesce(v, 0.5) AS v FROM rides")
            .table("rides")
            .event_time("at")
            .features_of(rides.by(["k1"]))
            .encode_fitted(Impute::constant("ride_v", -1.0))
            .encode(Number::of("ride"))
            .label("v")
            .build()
            .unwrap(),
    ]
}

/// Folds that overlap, that leave gaps, that see nothing and that score nothing.
fn random_folds(rng: &mut StdRng) -> Vec<(AsOf, Span)> {
    let mut folds: Vec<(AsOf, Span)> = (0..5)
        .map(|_| {
            let as_of = rng.random_range(-20..950);
            let start = as_of + *[0, 0, 5, 60].choose(rng).unwrap();
            (second(as_of), Span::new(second(start), second(start + rng.random_range(0..300))))
        })
        .collect();
    folds.extend([folds[2], (folds[3].0, folds[4].1).into_fold(), (second(1_500), Span::new(second(1_500), second(9_000)))]);
    folds
}

trait IntoFold {
    fn into_fold(self) -> (AsOf, Span);
}

impl IntoFold for (AsOf, Span) {
    /// The same as-of with a span that does not lie before it.
    fn into_fold(self) -> (AsOf, Span) {
        (self.0, Span::new(self.1.start.max(self.0), self.1.end.max(self.0)))
    }
}

async fn open(data: &Path, root: &Path, resources: Resources) -> FeatureStore {
    let store = many::open(data, root, resources).await;
    for set in sets() {
        store.register(set).unwrap();
    }
    store
}

/// A fold without its comparison with the fold before.
fn alone(mut fold: FoldReport) -> String {
    fold.label_shift = None;
    format!("{fold:?}")
}

fn assert_shifts(report: &BacktestReport) {
    for pair in report.folds.windows(2) {
        let means = [pair[0].metrics, pair[1].metrics].map(|metrics| metrics.map(|metrics| metrics.label_mean));
        let expected = means[0].zip(means[1]).map(|(before, after)| after - before);
        assert_eq!(format!("{:?}", pair[1].label_shift), format!("{expected:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fold_is_what_a_backtest_of_it_alone_is() {
    let (mut scored, mut with_little, mut short) = (0, 0, 0);
    for (seed, partitions, batch_rows) in [(0, 3, 50), (2, 2, 64)] {
        let data = temp_dir();
        many::write_tables(data.path(), seed);
        let mut rng = StdRng::seed_from_u64(seed + 300);
        let (one, root) = (temp_dir(), temp_dir());
        let single = open(data.path(), one.path(), Resources { partitions: 1, ..Resources::default() }).await;
        // From memory that not even one fold has to memory for all folds at once. A fifth of the memory of sorts comes on top.
        let held = if seed == 2 { vec![60_000, 250_000, 700_000] } else { vec![4 << 30] };
        let mut stores = Vec::new();
        for held_bytes in held {
            let memory_bytes = if seed == 2 { 1 << 20 } else { 64 << 20 };
            let resources = Resources { partitions, held_bytes, batch_rows, memory_bytes };
            stores.push(open(data.path(), &root.path().join(held_bytes.to_string()), resources).await);
        }
        let folds = random_folds(&mut rng);
        let settle = TimeDelta::seconds(*[0, 3, 500].choose(&mut rng).unwrap());
        for set in sets() {
            let label = if set.name().as_str() == "versions_v1" { "v" } else { "y" };
            for every in [None, Some(TimeDelta::seconds(37))] {
                let learner = Weighing::default();
                let backtest = |folds: Folds| {
                    let backtest = Backtest::with_learner(set.name().as_str(), label, folds, learner.clone()).settle(settle);
                    match every {
                        Some(every) => backtest.refreshed(every),
                        None => backtest,
                    }
                };
                let all = Folds::new(folds.clone()).unwrap();
                let mut expected = Vec::new();
                for fold in all.iter() {
                    let one = Folds::new([(fold.as_of(), fold.scored())]).unwrap();
                    let report = single.backtest(&backtest(one)).await.unwrap();
                    expected.push(alone(report.folds[0].clone()));
                }
                let predicted = learner.take();
                scored += predicted.iter().map(Vec::len).sum::<usize>();
                for store in &stores {
                    let subject = format!("{} of seed {seed}, {every:?}", set.name());
                    match store.backtest(&backtest(all.clone())).await {
                        Ok(report) => {
                            assert_shifts(&report);
                            let found: Vec<String> = report.folds.into_iter().map(alone).collect();
                            assert_eq!(found, expected, "{subject}");
                            assert_eq!(learner.take(), predicted, "{subject}");
                            with_little += usize::from(seed == 2);
                        }
                        Err(error) => {
                            assert!(seed == 2 && error.kind() == ErrorKind::ResourceLimit, "{subject}: {error}");
                            learner.take();
                            short += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(scored > 10_000, "only {scored} values were scored");
    assert!(short > 0 && with_little > short, "{with_little} backtests had enough memory, and {short} had not");
}

/// The requests for files of facts that it takes to score some folds, whose models are there.
async fn requests(folds: Vec<(AsOf, Span)>, lookup: bool) -> (usize, u64) {
    let (_dir, store, seen) = store_of_watched_files(4).await;
    let set = FeatureSet::rows("rows_v1", "SELECT at, k, v, 2 * v AS y FROM f")
        .table("f")
        .event_time("at")
        .encode(Number::of("v"))
        .label("y");
    let last = FeatureSet::entities("last_v1", "f").key("k").lookup("v", "last_v").build().unwrap();
    let set = if lookup { set.features_of(last.by(["k"])).encode_fitted(Impute::constant("last_v", 0.0)) } else { set };
    store.register(set.build().unwrap()).unwrap();
    let backtest = Backtest::with_learner("rows_v1", "y", Folds::new(folds).unwrap(), Weighing::default());
    let first = store.backtest(&backtest).await.unwrap();
    let before = seen.requests.load(Ordering::SeqCst);
    assert_eq!(store.backtest(&backtest).await.unwrap(), first);
    (seen.requests.load(Ordering::SeqCst) - before, first.folds.iter().map(|fold| fold.rows_scored).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_folds_have_in_common_is_read_once() {
    let us = AsOf::from_micros;
    let overlapping = |count: i64| (0..count).map(|i| (us(150 + i), Span::new(us(150 + i), us(1_000)))).collect::<Vec<_>>();
    for lookup in [false, true] {
        let (two, many) = (requests(overlapping(2), lookup).await, requests(overlapping(12), lookup).await);
        assert_eq!((two.1, many.1), (2 * 20, 12 * 20));
        assert_eq!(two.0, many.0, "{lookup}");
    }
}

/// A row that only the last fold sees lies in the span of the first, too. An expression fails on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_fold_scores_fails_none() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = crate::support::store(root.path()).await;
    let us = |values: &[i64]| instants(values.iter().map(|us| Some(*us)));
    let columns = [
        ("at", us(&[1, 2, 3, 12, 13, 15, 31, 32])),
        ("known", us(&[1, 2, 3, 12, 13, 35, 31, 32])),
        ("n", integers([1, 2, 5, 4, 2, 0, 1, 1].map(Some))),
        ("v", floats([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0].map(Some))),
    ];
    let write = |part: usize| write_parquet(&data.path().join(format!("part={part}/rows.parquet")), &columns, None);
    write(0);
    let declared = asof::catalog::FactTable::new("at", asof::catalog::KnownAt::column("known"));
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    let set = FeatureSet::rows("shares_v1", "SELECT at, 100 / n AS share, v FROM facts").table("facts").event_time("at");
    store.register(set.encode(Number::of("share")).label("v").build().unwrap()).unwrap();
    let at = AsOf::from_micros;
    let folds =
        |spans: &[(i64, i64)]| Folds::new(spans.iter().map(|&(start, end)| (at(10), Span::new(at(start), at(end))))).unwrap();
    let backtest = |spans: &[(i64, i64)]| Backtest::with_learner("shares_v1", "v", folds(spans), Weighing::default());
    // As of 20 and of 34 the row is not known; both spans overlap, so they are read at once with what is known as of 34.
    let spans = [(10, 20), (10, 34), (11, 20), (12, 34)];
    let report = store.backtest(&backtest(&spans)).await.unwrap();
    assert_eq!(report.folds.iter().map(|fold| fold.rows_scored).collect::<Vec<_>>(), [2, 4, 2, 4]);
    // As of 40 it is known. It lies in no other span, but the folds that do not see it are read with the one as of 40.
    let report = store.backtest(&backtest(&[(10, 20), (10, 19), (11, 20), (30, 40)])).await.unwrap();
    assert_eq!(report.folds.iter().map(|fold| fold.rows_scored).collect::<Vec<_>>(), [2, 2, 2, 2]);
    // The fold that scores it fails.
    let error = store.backtest(&backtest(&[(10, 20), (10, 40)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(!matches!(error, Error::Memory { .. }), "{error}");
}
