//! Fits that have no answer say so: features that tell the same, constant ones, and values that are none.

use asof::{
    AsOf, AsOfView, Error, ErrorKind, FeatureSet, FeatureStore, Result,
    backtest::{Backtest, Folds, Learner, LinearRegression, MeanOnly, OnRedundant},
    catalog::{FactTable, KnownAt},
    encoder::{FittedEncoder, HourOfDay, Log, NotNull, Number, OutlierFilter, Spec, Standardize},
    feature_set::RowSetBuilder,
    ingest::Ingest,
    time::Span,
    training::Dataset,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::DataType,
};

use crate::support::{instant, store, temp_dir, write_text};

const AS_OF: &str = "2014-02-01";

/// An hour apart: miles, a price that follows from them and from the hour, tips that are missing now and then.
async fn rides() -> (tempfile::TempDir, FeatureStore) {
    let (data, root) = (temp_dir(), temp_dir());
    let mut text = "at,miles,price,tip,seats\n".to_owned();
    for i in 0..1_200_i64 {
        let at = AsOf::from_micros(instant("2014-01-01").micros() + i * 3_600_000_000);
        let miles = (i * 37 % 101) as f64 / 10.0;
        let tip = if i % 10 == 0 { String::new() } else { (i * 13 % 17).to_string() };
        text += &format!("{at},{miles},{},{tip},4\n", 2.5 + 3.0 * miles + (i % 24) as f64 * 0.25);
    }
    let store = store(root.path()).await;
    let load = Ingest::new("rides", FactTable::new("at", KnownAt::after(TimeDelta::zero()))).unwrap();
    let load = load.from(write_text(data.path(), "rides.csv", text));
    let load = ["miles", "price", "tip", "seats"].into_iter().fold(load, |load, c| load.column_type(c, DataType::Float64));
    store.ingest(&load).await.unwrap();
    (root, store)
}

fn set(name: &str) -> RowSetBuilder {
    FeatureSet::rows(name, "SELECT * FROM rides").table("rides").event_time("at").label("price")
}

async fn data(store: &FeatureStore, set: RowSetBuilder) -> Dataset {
    let set = set.build().unwrap();
    let name = set.name().to_string();
    store.register(set).unwrap();
    store.materialize(&name, instant(AS_OF)).await.unwrap().dataset("price").await.unwrap()
}

fn refused(learner: impl Learner, data: &Dataset, words: &[&str]) {
    let error = learner.fit(data).err().unwrap();
    assert!(matches!(error, Error::Step { .. }), "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}\n  has no {word}");
    }
}

fn hour() -> HourOfDay {
    HourOfDay::of("at", "UTC".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_tell_the_same_are_named() {
    let (_root, store) = rides().await;
    // As the README's quickstart once had it.
    let twice = set("twice_v1").encode(Number::of("miles")).encode(hour()).encode_fitted(Standardize::of("miles"));
    let twice = data(&store, twice).await;
    refused(LinearRegression::new(), &twice, &["the feature `miles_std` is a linear function of `miles`", "OnRedundant::Drop"]);
    // As it has it now.
    let once = set("once_v1").keep(OutlierFilter::between_percentiles(2.0, 98.0).of(["miles", "price"]));
    let once = data(&store, once.encode(hour()).encode_fitted(Standardize::of("miles"))).await;
    let slopes = LinearRegression::new().fit(&once).unwrap().linear().unwrap().slopes;
    assert!(slopes.iter().all(|slope| slope.abs() < 100.0), "{slopes:?}");

    let dropping = || LinearRegression::new().on_redundant(OnRedundant::Drop);
    let without = data(&store, set("without_v1").encode(Number::of("miles")).encode(hour())).await;
    let (with, without) = (dropping().fit(&twice).unwrap(), LinearRegression::new().fit(&without).unwrap());
    let (a, b) = (with.linear().unwrap(), without.linear().unwrap());
    assert_eq!((a.slopes[2], a.slopes.len(), b.slopes.len()), (0.0, 3, 2));
    for (intercept, slopes) in [(a.intercept, &a.slopes), (b.intercept, &b.slopes)] {
        for (found, expected) in [(intercept, 2.5), (slopes[0], 3.0), (slopes[1], 0.25)] {
            assert!((found - expected).abs() < 1e-9, "{a:?} {b:?}");
        }
    }
    let predictions = with.predict(&twice.records);
    assert!(predictions.iter().zip(&twice.targets).all(|(p, y)| (p - y).abs() < 1e-9));

    let constant = data(&store, set("constant_v1").encode(Number::of("seats")).encode(Number::of("miles"))).await;
    refused(LinearRegression::new(), &constant, &["the feature `seats` is constant"]);
    assert_eq!(dropping().fit(&constant).unwrap().linear().unwrap().slopes[0], 0.0);
    let nothing = data(&store, set("nothing_v1").encode(Number::of("seats"))).await;
    let mean = dropping().fit(&nothing).unwrap();
    assert_eq!(mean.predict(&nothing.records), MeanOnly.fit(&nothing).unwrap().predict(&nothing.records));

    // In a backtest with the set and the fold.
    let backtest = |learner: LinearRegression| {
        let end = AsOf::from_micros(instant(AS_OF).micros() + 86_400_000_000);
        let folds = Folds::new([(instant(AS_OF), Span::new(instant(AS_OF), end))]).unwrap();
        Backtest::new("twice_v1", "price", folds).learner(learner)
    };
    let told = store.backtest(&backtest(LinearRegression::new())).await.unwrap_err().to_string();
    assert!(told.contains("`miles_std`") && told.contains("`twice_v1` as of 2014-02-01"), "{told}");
    let report = store.backtest(&backtest(dropping())).await.unwrap();
    assert!(report.folds[0].metrics.unwrap().r2 > 0.999_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_none_are_counted_and_can_be_dropped() {
    let (_root, store) = rides().await;
    let holed = set("holed_v1").encode(Number::of("tip")).encode(Log::of("miles")).encode(hour());
    let holed = data(&store, holed).await;
    // 744 hours of January: every tenth without a tip, and some rides of no miles.
    assert_eq!(holed.targets.len(), 744);
    let zeros = (0..744).filter(|i| i * 37 % 101 == 0).count();
    assert_eq!(holed.unusable(), [("tip".to_owned(), 75), ("log_miles".to_owned(), zeros)]);
    let words = ["`tip` in 75 of 744 rows", &format!("`log_miles` in {zeros} of 744 rows"), "NotNull::of_numbers"];
    refused(LinearRegression::new(), &holed, &words);
    MeanOnly.fit(&holed).unwrap();

    let whole = set("whole_v1").keep(NotNull::of_numbers(["tip"])).encode(Number::of("tip")).encode(hour());
    let whole = data(&store, whole.encode(Number::of("miles"))).await;
    assert_eq!((whole.targets.len(), whole.unusable()), (744 - 75, Vec::new()));
    LinearRegression::new().fit(&whole).unwrap();

    // A label without a value; and scored rows, of which the selection is as true.
    let folds = || {
        let end = AsOf::from_micros(instant(AS_OF).micros() + 86_400_000_000);
        Folds::new([(instant(AS_OF), Span::new(instant(AS_OF), end))]).unwrap()
    };
    let tips = FeatureSet::rows("tips_v1", "SELECT * FROM rides").table("rides").event_time("at").label("tip");
    store.register(tips.encode(Number::of("miles")).build().unwrap()).unwrap();
    for learner in [Backtest::new("tips_v1", "tip", folds()), Backtest::new("tips_v1", "tip", folds()).learner(MeanOnly)] {
        let told = store.backtest(&learner).await.unwrap_err().to_string();
        assert!(told.contains("`tip` in 75 of 744 rows") && told.contains("`tips_v1`"), "{told}");
    }
    // Only later rows lack a value.
    let later = "SELECT at, price, CASE WHEN at < '2014-02-01T05:00:00Z' THEN miles END AS miles FROM rides";
    let later = FeatureSet::rows("later_v1", later).table("rides").event_time("at").label("price");
    store.register(later.encode(Number::of("miles")).build().unwrap()).unwrap();
    let told = store.backtest(&Backtest::new("later_v1", "price", folds())).await.unwrap_err().to_string();
    assert!(told.contains("scoring") && told.contains("`miles` in 19 of 24 rows"), "{told}");
    let report = store.backtest(&Backtest::new("whole_v1", "price", folds())).await.unwrap();
    assert_eq!(report.folds[0].rows_scored, (744..768).filter(|i| i % 10 != 0).count() as u64);
    assert!(report.folds[0].metrics.unwrap().r2.is_finite());

    let empty = set("empty_v1").keep(NotNull::of_texts(Vec::<String>::new())).encode(Number::of("miles")).build();
    assert!(empty.unwrap_err().to_string().contains("names no columns"));
}

/// Learns from the 64 fixed rows of a build, and fails on facts.
struct Failing(fn() -> Error);

impl FittedEncoder for Failing {
    type State = ();

    fn spec(&self) -> Spec {
        Spec::new("failing", 1).number("miles").output("out", DataType::Float64)
    }

    fn fit(&self, view: &AsOfView<'_>) -> Result<()> {
        let mut rows = 0;
        view.for_each_number("miles", |_| rows += 1)?;
        if rows > 64 { Err(self.0()) } else { Ok(()) }
    }

    fn encode(&self, (): &(), input: &RecordBatch) -> Result<Vec<ArrayRef>> {
        Ok(vec![input.column(0).clone()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_inside_a_fit_keeps_its_kind_and_names_the_step() {
    let (_root, store) = rides().await;
    let memory = || Error::Memory { operator: "Sort", subject: "x".into(), needed: 2, held: 1, reason: "no more".into() };
    let lost = || Error::Storage(object_store::Error::Generic { store: "S3", source: Box::new(interrupted()) });
    let refused = || Error::Definition { subject: "the miles".into(), reason: "are too few".into() };
    type Cause = fn() -> Error;
    let cases: [(&str, Cause, ErrorKind, bool); 3] = [
        ("memory_v1", memory, ErrorKind::ResourceLimit, false),
        ("lost_v1", lost, ErrorKind::Unavailable, true),
        ("refused_v1", refused, ErrorKind::InvalidInput, false),
    ];
    for (name, cause, kind, is_retryable) in cases {
        store.register(set(name).encode_fitted(Failing(cause)).build().unwrap()).unwrap();
        let error = store.materialize(name, instant(AS_OF)).await.unwrap_err();
        assert!(matches!(&error, Error::Step { step, cause: Some(_), .. } if step == "failing"), "{error:?}");
        assert_eq!((error.kind(), error.is_retryable()), (kind, is_retryable), "{error}");
        assert!(error.to_string().contains(&format!("failing of {name}: {}", cause())), "{error}");
    }
}

fn interrupted() -> std::io::Error {
    std::io::ErrorKind::Interrupted.into()
}
