//! Feature sets, encoders and learners that contradict themselves or break their contract: each is named, and nothing is published.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

use asof::{
    Aggregate, AsOf, Error, Expression, FeatureSet, WindowLength,
    backtest::{Backtest, Folds, Learner, LinearRegression},
    catalog::{FactTable, KnownAt},
    encoder::{
        Bins, Clip, Coalesce, Cyclic, FnEncoder, Geohash, GridCell, HashBucket, Holidays, Impute, ImputeCategory, KMeans, Log,
        MinMax, Number, OneHot, Ordinal, Pca, PercentileClip, QuantileBins, Spec, Unseen, encoder_fn,
    },
    feature_set::{Ahead, Source},
    ingest::Ingest,
    time::Span,
};
use chrono::TimeDelta;
use datafusion::arrow::{
    array::{ArrayRef, Int64Array, RecordBatch},
    datatypes::DataType,
};
use futures::FutureExt;

use crate::{
    bad_input::{Bench, RIDES, fares, march, micros, rides_at, rides_table, says, zones},
    support::write_batch,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_contradicts_itself_is_refused_before_anything_is_read() {
    let bench = Bench::new().await;
    let early = FactTable::new("at", KnownAt::after(TimeDelta::seconds(-1))).zone("UTC".parse().unwrap());
    let load = Ingest::new("other", early.clone()).unwrap().from(bench.file("rides.csv", RIDES));
    says!(bench.refuses(&load).await, Error::Definition { .. }, "`other`", "-1 second", "zero or more");
    write_batch(bench.data.path(), "plain/a.parquet", &rides_at(micros(Some("UTC"))));
    says!(bench.refuses_table("plain", early).await, Error::Definition { .. }, "`found`", "zero or more");
    let load = Ingest::new("rides", rides_table().key("zone")).unwrap().from(bench.file("more.csv", RIDES));
    says!(bench.refuses(&load).await, Error::Definition { .. }, "`rides`", "keys", "another name");

    let number = || Number::of("zone");
    let window = |length| zones("a_v1").window(length, [Aggregate::count()]).build().unwrap_err();
    says!(window(TimeDelta::zero()), Error::Definition { .. }, "`a_v1`", "window of 0 seconds", "longer");
    says!(window(TimeDelta::hours(-1)), Error::Definition { .. }, "`a_v1`", "window of -", "longer");
    let no_months =
        zones("a_v1").window(WindowLength::months(0, "UTC".parse().unwrap()), [Aggregate::count()]).build().unwrap_err();
    says!(no_months, Error::Definition { .. }, "`a_v1`", "window of 0 months in UTC", "longer");
    for name in ["fares", "fares_v", "fares_v0", "fares_vx", "_v1"] {
        says!(fares(name).encode(number()).build().unwrap_err(), Error::InvalidName { .. }, name, "taxi_v1");
    }
    says!(fares("../up_v1").encode(number()).build().unwrap_err(), Error::InvalidName { .. }, "../up_v1");
    let twice = fares("a_v1").encode(number()).encode(Number::of("fare").named("zone")).build().unwrap_err();
    says!(twice, Error::Definition { .. }, "`a_v1`", "`zone`", "another name");
    let twice = fares("a_v1").encode(number()).label("zone").build().unwrap_err();
    says!(twice, Error::Definition { .. }, "`a_v1`", "`zone`");
    let twice = zones("a_v1").window(TimeDelta::days(1), [Aggregate::count().named("last_fare")]).build().unwrap_err();
    says!(twice, Error::Definition { .. }, "`a_v1`", "`last_fare`", "another name");
    says!(fares("a_v1").build().unwrap_err(), Error::Definition { .. }, "`a_v1`", "add an encoder");
    let timeless = FeatureSet::rows("a_v1", "SELECT 1").table("rides").encode(number()).build().unwrap_err();
    says!(timeless, Error::Definition { .. }, "`a_v1`", "`event_time`");
    let tableless = FeatureSet::rows("a_v1", "SELECT 1").event_time("at").encode(number()).build().unwrap_err();
    says!(tableless, Error::Definition { .. }, "`a_v1`", "`table`");
    let keyless = FeatureSet::entities("a_v1", "rides").lookup("fare", "f").build().unwrap_err();
    says!(keyless, Error::Definition { .. }, "`a_v1`", "`key`");
    let changed = fares("fares_v1").encode(Number::of("fare")).build().unwrap();
    says!(bench.store.register(changed).unwrap_err(), Error::AlreadyExists { .. }, "`fares_v1`", "next version");

    let span = Span::new(march(), march().plus_days(30));
    let embargo = Folds::new([(march(), span)]).unwrap().embargo(TimeDelta::hours(-1)).unwrap_err();
    says!(embargo, Error::Definition { .. }, "embargo", "before the as-of");
    says!(Folds::new([(march().plus_days(1), span)]).unwrap_err(), Error::Definition { .. }, "starts before its as-of");
    bench.works().await;
}

#[test]
fn bounds_of_a_clip_are_checked_when_a_set_is_built_and_tell_sets_apart() {
    let built = |low: f64, high: f64| fares("clipped_v1").encode(Clip::of("fare", low, high)).build();
    let inf = f64::INFINITY;
    for (low, high) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN), (inf, inf), (-inf, -inf)] {
        let shown = format!("from {low:?} to {high:?}");
        says!(built(low, high).unwrap_err(), Error::Step { .. }, "clipped_v1", "`clipped_fare`", shown, "smaller bound first");
    }
    let bounds = [(0.0, 1.0), (0.0, 2.0), (-1.0, 1.0), (0.0, inf), (-inf, 1.0), (-inf, inf), (1.0, 1.0), (2.0, inf)];
    let mut sets: Vec<String> =
        bounds.iter().map(|&(low, high)| format!("{:?}", built(low, high).unwrap().fingerprint())).collect();
    sets.sort();
    sets.dedup();
    assert_eq!(sets.len(), bounds.len());
}

#[test]
fn parameters_that_cannot_be_used_are_refused_when_a_set_is_built() {
    let utc = "UTC".parse().unwrap();
    let point = ["zone", "fare"];
    let (none, odd) = (Holidays::of("at", utc, []), Holidays::from_csv("at", utc, "date\n2014-02-29\n"));
    says!(fares("a_v1").encode(none).build().unwrap_err(), Error::Step { .. }, "a_v1", "`at_holiday`", "is empty");
    says!(fares("a_v1").encode(odd).build().unwrap_err(), Error::Step { .. }, "a_v1", "`at_holiday`", "line 2", "2014-02-29");
    let bins = |edges: [f64; 2]| fares("a_v1").encode(Bins::of("fare", edges)).build();
    says!(bins([2.0, 1.0]).unwrap_err(), Error::Step { .. }, "a_v1", "`fare_bin`", "2.0 is followed by 1.0");
    says!(bins([0.0, f64::NAN]).unwrap_err(), Error::Step { .. }, "a_v1", "`fare_bin`", "NaN");
    assert!(bins([1.0, 2.0]).is_ok());
    let cyclic = fares("a_v1").encode(Cyclic::of_number("fare", 0.0)).build().unwrap_err();
    says!(cyclic, Error::Step { .. }, "a_v1", "`fare`", "period is 0.0");
    let cell = fares("a_v1").encode(GridCell::of(point, -1.0, "cell")).build().unwrap_err();
    says!(cell, Error::Step { .. }, "a_v1", "`cell`", "-1.0 degrees");
    let hash = fares("a_v1").encode(Geohash::of(point, 13, "hash")).build().unwrap_err();
    says!(hash, Error::Step { .. }, "a_v1", "`hash`", "13 characters");
    let bucket = fares("a_v1").encode(HashBucket::of("zone", 0)).build().unwrap_err();
    says!(bucket, Error::Step { .. }, "a_v1", "`zone_bucket`", "0 buckets");
    let first = fares("a_v1").encode(Coalesce::of_texts(Vec::<String>::new(), "first")).build().unwrap_err();
    says!(first, Error::Step { .. }, "a_v1", "`first`", "no columns");
}

#[test]
fn what_a_fitted_encoder_cannot_use_is_refused_when_a_set_is_built() {
    macro_rules! refuses {
        ($encoder:expr, $kind:pat, $($word:expr),+) => {
            says!(fares("learned_v1").encode_fitted($encoder).build().unwrap_err(), $kind, "learned_v1", $($word),+)
        };
    }
    refuses!(PercentileClip::of("fare", 99.0, 1.0), Error::Step { .. }, "`clipped_fare`", "99.0 and 1.0", "smaller one first");
    refuses!(QuantileBins::of("fare", 1), Error::Step { .. }, "`fare_bin`", "1 bins", "2 to 256");
    refuses!(OneHot::top("zone", 0), Error::Step { .. }, "`zone`", "the 0 most frequent", "1 to 1000");
    refuses!(OneHot::top("zone", usize::MAX), Error::Step { .. }, "`zone`", "1 to 1000");
    refuses!(OneHot::of("zone", [""; 0]), Error::Step { .. }, "`zone`", "empty list");
    refuses!(OneHot::of("zone", ["1", "1"]), Error::Mistakes { .. }, "`zone_1`", "another name", "\"1\" twice");
    refuses!(Ordinal::in_order("zone", ["1", "2", "1"]), Error::Step { .. }, "`zone_ordinal`", "\"1\" twice");
    refuses!(Impute::constant("fare", f64::NAN), Error::Step { .. }, "`fare_imputed`", "finite");
    let two = ["fare", "tip"];
    refuses!(Pca::of(two, 3), Error::Step { .. }, "`pca_1`", "3 components of 2 columns");
    refuses!(Pca::of(two, 0).named("p"), Error::Step { .. }, "pca", "0 components");
    refuses!(Pca::of([""; 0], 1), Error::Step { .. }, "pca", "0 columns together", "1 to 256");
    refuses!(KMeans::of(two, 0), Error::Step { .. }, "`cluster`", "0 clusters", "1 to 1000");
    refuses!(KMeans::of(two, usize::MAX).named("k"), Error::Step { .. }, "`k`", "clusters");
}

#[test]
fn every_parameter_of_a_fitted_encoder_tells_sets_apart() {
    let set = || fares("learned_v1");
    let sets = [
        set().encode_fitted(MinMax::of("fare").named("x")),
        set().encode_fitted(MinMax::of("fare").named("x").clipped()),
        set().encode_fitted(PercentileClip::of("fare", 1.0, 99.0).named("x")),
        set().encode_fitted(PercentileClip::of("fare", 0.5, 99.0).named("x")),
        set().encode_fitted(PercentileClip::of("fare", 1.0, 99.5).named("x")),
        set().encode_fitted(QuantileBins::of("fare", 4)),
        set().encode_fitted(QuantileBins::of("fare", 5)),
        set().encode_fitted(Pca::of(["fare", "tip"], 1).named("p")),
        set().encode_fitted(Pca::of(["tip", "fare"], 1).named("p")),
        set().encode_fitted(KMeans::of(["fare", "tip"], 2)),
        set().encode_fitted(KMeans::of(["fare", "tip"], 3)),
        set().encode_fitted(KMeans::of(["fare", "tip"], 2).seed(1)),
        set().encode_fitted(KMeans::of(["fare", "tip"], 2).with_distance()),
        set().encode_fitted(OneHot::of("note", ["1", "2"])),
        set().encode_fitted(OneHot::of("note", ["1", "2"]).unseen(Unseen::Null)),
        set().encode_fitted(OneHot::top("note", 2)),
        set().encode_fitted(OneHot::top("note", 2).unseen(Unseen::Null)),
        set().encode_fitted(Ordinal::of("note")),
        set().encode_fitted(Ordinal::of("note").unseen(Unseen::Other)),
        set().encode_fitted(Ordinal::of("note").unseen(Unseen::Zero)),
        set().encode_fitted(Ordinal::in_order("note", ["a", "b"])),
        set().encode_fitted(Ordinal::in_order("note", ["b", "a"])),
        set().encode_fitted(Impute::mean("fare")),
        set().encode_fitted(Impute::median("fare")),
        set().encode_fitted(Impute::most_frequent("fare")),
        set().encode_fitted(Impute::constant("fare", 0.0)),
        set().encode_fitted(Impute::constant("fare", 1.0)),
        set().encode_fitted(Impute::constant("fare", 1.0).flagged()),
        set().encode_fitted(ImputeCategory::most_frequent("note")),
        set().encode_fitted(ImputeCategory::constant("note", "")),
        set().encode_fitted(ImputeCategory::constant("note", "a")),
    ];
    let count = sets.len();
    let declared: BTreeSet<String> =
        sets.into_iter().map(|set| set.build().unwrap().fingerprint().declared.to_string()).collect();
    assert_eq!(declared.len(), count);
}

trait PlusDays {
    fn plus_days(self, days: i64) -> Self;
}

impl PlusDays for AsOf {
    fn plus_days(self, days: i64) -> Self {
        AsOf::from_micros(self.micros() + days * 86_400_000_000)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_without_enough_rows_says_how_many_it_has() {
    let bench = Bench::new().await;
    let one = "2014-01-06T00:00:00Z".parse::<AsOf>().unwrap();
    let data = bench.store.materialize("fares_v1", one).await.unwrap().dataset("fare").await.unwrap();
    says!(LinearRegression::new().fit(&data).err().unwrap(), Error::Step { .. }, "linear regression", "1 rows");
    let folds = Folds::new([(one, Span::new(one, march()))]).unwrap();
    let report = bench.store.backtest(&Backtest::new("fares_v1", "fare", folds)).await.unwrap();
    assert_eq!((report.folds[0].rows_kept, &report.folds[0].linear), (1, &None), "a fold without a model, not an error");
    bench.works().await;
}

type Broken = FnEncoder<fn(&RecordBatch) -> asof::Result<Vec<ArrayRef>>>;

/// An encoder that behaves on the fixed inputs of the fingerprint (64 rows), and not on facts.
fn broken(encode: fn(&RecordBatch) -> asof::Result<Vec<ArrayRef>>) -> Broken {
    encoder_fn(Spec::new("broken", 1).number("zone").output("out", DataType::Float64), encode)
}

fn as_it_is(rows: &RecordBatch) -> asof::Result<Vec<ArrayRef>> {
    Ok(vec![rows.column(0).clone()])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_breaks_its_contract_is_named_and_publishes_nothing() {
    let bench = Bench::new().await;
    let always: Broken = broken(|rows| Ok(vec![rows.column(0).slice(1, rows.num_rows() - 1)]));
    says!(fares("a_v1").encode(always).build().unwrap_err(), Error::Step { .. }, "broken of a_v1", "63", "64 rows");
    type Encode = fn(&RecordBatch) -> asof::Result<Vec<ArrayRef>>;
    let cases: [(&str, Encode, &str); 3] = [
        (
            "short_v1",
            |rows| if rows.num_rows() == 64 { as_it_is(rows) } else { Ok(vec![rows.column(0).slice(0, 1)]) },
            "1 values",
        ),
        ("none_v1", |rows| if rows.num_rows() == 64 { as_it_is(rows) } else { Ok(vec![]) }, "0 columns"),
        (
            "typed_v1",
            |rows| match rows.num_rows() {
                64 => as_it_is(rows),
                n => Ok(vec![Arc::new(Int64Array::from(vec![0; n]))]),
            },
            "Int64",
        ),
    ];
    for (name, encode, word) in cases {
        let set = fares(name).encode(broken(encode)).build();
        says!(bench.refuses_set(set).await, Error::Step { .. }, name, "broken", word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_panics_on_facts_is_an_error_that_names_it() {
    let bench = Bench::new().await;
    let panics: Broken = broken(|rows| if rows.num_rows() == 64 { as_it_is(rows) } else { panic!("no such zone") });
    let set = fares("panics_v1").encode(panics).build().unwrap();
    bench.store.register(set).unwrap();
    let outcome = AssertUnwindSafe(bench.store.materialize("panics_v1", march())).catch_unwind().await;
    bench.works().await;
    let error = outcome.expect("the panic of an encoder reached the caller").unwrap_err();
    says!(error, Error::Step { .. }, "panics_v1", "broken", "panicked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_panics_on_the_fixed_inputs_is_an_error_that_names_it() {
    let panics: Broken = broken(|_| panic!("no such zone"));
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| fares("panics_v1").encode(panics).build()));
    let error = outcome.expect("the panic of an encoder reached the caller").unwrap_err();
    says!(error, Error::Step { .. }, "panics_v1", "broken", "panicked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_of_a_set_is_refused_with_its_set_table_and_feature() {
    let bench = Bench::new().await;
    let day = TimeDelta::days(1);
    let total = |text: &str| [Aggregate::sum(Expression::sql(text)).named("total")];
    // What can be told without the table, when the set is built.
    for (text, told) in [
        ("fare *", "is no SQL expression"),
        ("fare AS money", "`named`"),
        ("sum(fare)", "the aggregate `sum`"),
        ("(SELECT 1)", "a subquery"),
        ("fare * random()", "calls `random`"),
    ] {
        let built = zones("a_v1").window(day, total(text)).build().unwrap_err();
        says!(
            built,
            Error::Definition { .. },
            "`a_v1`",
            "feature `total` over `rides`",
            format!("the expression `{text}`"),
            told
        );
        let ahead = Ahead::of("rides").on("zone").window(day, total(text)).settle(day);
        let built = fares("a_v1").encode(Number::of("zone")).label_ahead(ahead).build().unwrap_err();
        says!(built, Error::Definition { .. }, "`a_v1`", "`total` over `rides`", told);
    }
    let both = Aggregate::max_by(Expression::sql("note ||"), Expression::sql("sum(fare)")).named("total");
    says!(
        zones("a_v1").window(day, [both]).build().unwrap_err(),
        Error::Definition { .. },
        "`a_v1`",
        "feature `total` over `rides`: the expression `note ||` is no SQL expression",
        "feature `total` over `rides`: the expression `sum(fare)` calls the aggregate `sum`"
    );
    says!(
        zones("a_v1").window(day, [Aggregate::max_by("note", "fare * tip")]).build().unwrap_err(),
        Error::Definition { .. },
        "`fare * tip` is an expression",
        "`Expression::sql(\"fare * tip\")`"
    );
    let looked_up = zones("a_v1").lookup("fare * 2", "double").build().unwrap_err();
    says!(looked_up, Error::Definition { .. }, "`a_v1`", "`double`", "`fare * 2` is an expression", "before they are loaded");

    // What its table tells, when it is first used; of a set that is drawn on, too.
    let wrong =
        |name: &str| zones(name).window(day, total("note || 'x'")).all_before([Aggregate::sum(Expression::sql("tip * 2"))]);
    says!(
        bench.refuses_set(wrong("bad_v1").build()).await,
        Error::Mistakes { .. },
        "`bad_v1` has 2 mistakes",
        "feature set `bad_v1`: the window over table `rides`: the expression `note || 'x'` of `total` is Utf8",
        "table `rides`, which the expression `tip * 2` of `sum_tip_2` reads, has no column `tip`"
    );
    let decided = zones("decided_v1").window(day, [Aggregate::max_by("gone", Expression::sql("tip * 2")).named("total")]);
    says!(
        bench.refuses_set(decided.build()).await,
        Error::Mistakes { .. },
        "`decided_v1` has 2 mistakes",
        "feature `total` of feature set `decided_v1`: table `rides` has no column `gone`",
        "table `rides`, which the expression `tip * 2` of `total` reads, has no column `tip`"
    );
    let drawing = fares("drawing_v1").features_of(wrong("drawn_v1").build().unwrap().by(["zone"]));
    says!(
        bench.refuses_set(drawing.encode(Number::of("total")).build()).await,
        Error::Mistakes { .. },
        "`drawn_v1` has 2 mistakes",
        "`total` is Utf8"
    );
    let ahead = |text: &str| {
        let ahead = Ahead::of("rides").on("zone").window(day, total(text)).settle(day);
        fares("ahead_v1").encode(Number::of("zone")).label_ahead(ahead).build()
    };
    says!(
        bench.refuses_set(ahead("note || 'x'")).await,
        Error::Definition { .. },
        "feature set `ahead_v1`: the window over table `rides`",
        "`total` is Utf8"
    );
    bench.works().await;
    // A filter is told in the same way.
    let filtered = zones("filtered_v1").window(day, [Aggregate::count().filter("tip > 0").named("tipped")]);
    says!(
        bench.refuses_set(filtered.build()).await,
        Error::UnknownColumn { .. },
        "feature `tipped` of feature set `filtered_v1`: table `rides`, which the filter `tip > 0` reads, has no column `tip`"
    );
    bench.works().await;
    // And so is the condition of a window, but for what can be told before there is a table.
    let since = |condition: &str| {
        zones("since_v1").window(WindowLength::since(condition), [Aggregate::count().named("n"), Aggregate::count().named("m")])
    };
    says!(
        bench.refuses_set(since("tip > 0").build()).await,
        Error::UnknownColumn { .. },
        "features `n`, `m` of feature set `since_v1`: table `rides`, which the condition `tip > 0` reads, has no column `tip`"
    );
    let odd = zones("odd_v1")
        .window(WindowLength::tumbling(TimeDelta::hours(7), "Europe/Berlin".parse().unwrap()), [Aggregate::count()]);
    let error = odd.build().unwrap_err().to_string();
    assert!(error.contains("tumbling 7 hours in Europe/Berlin over `rides`, of `count`, follows no zone's clock"), "{error}");
    for (condition, told) in [("tip >", "is no SQL expression"), ("random() < 0.5", "`random`"), ("sum(tip) > 0", "fact")] {
        let error = since(condition).build().unwrap_err().to_string();
        assert!(error.contains("a window over `rides`: the condition") && error.contains(told), "{error}");
    }
    bench.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_set_are_told_at_once() {
    let bench = Bench::new().await;
    // What can be seen without a table, when it is built.
    let set = FeatureSet::entities("bad_v1", "rides")
        .key("zone")
        .window(TimeDelta::zero(), [Aggregate::count()])
        .window(TimeDelta::days(1), [Aggregate::sum("price * quantity"), Aggregate::quantile("fare", 2.0), Aggregate::count()])
        .also(Source::of("rides").on("driver").lookup("fare", "fare").lookup("fare", "zone"));
    says!(
        set.build().unwrap_err(),
        Error::Definition { .. },
        "`bad_v1`",
        "a window of 0 seconds",
        "`price * quantity` is an expression",
        "`Expression::sql(\"price * quantity\")`",
        "the quantile 2",
        "`driver`, which is not a key",
        "called `count`",
        "called `zone`"
    );
    let set = FeatureSet::rows("bad_v1", "SELECT 1").label("x").label("x").build().unwrap_err();
    says!(set, Error::Definition { .. }, "`event_time`", "`table`", "add an encoder", "called `x`");

    // What its tables tell, when it is first used; the name that was probably meant with it.
    let day = [Aggregate::sum("tip"), Aggregate::mean("note")];
    let set = zones("bad_v2").key("Zone").lookup("driver", "d").window(TimeDelta::days(1), day);
    let set = set.also(Source::of("rides").on("zone").lookup("fares", "f").lookup("driver", "e"));
    says!(
        bench.refuses_set(set.build()).await,
        Error::Mistakes { .. },
        "`bad_v2` has 5 mistakes",
        "`Zone`",
        "(but `zone`: case counts",
        "`driver`",
        "`tip`",
        "column `note` of table `rides` is Utf8",
        "no column `fares`",
        "did you mean `fare`?"
    );
    let set = fares("bad_v3").event_time("At").encode(Number::of("tip")).encode(Log::of("note")).label("driver").label("Fare");
    says!(
        bench.refuses_set(set.build()).await,
        Error::Mistakes { .. },
        "`bad_v3` has 5 mistakes",
        "no column `At`",
        "(but `at`: case counts",
        "`driver`",
        "the query of `bad_v3`",
        "`tip`",
        "column `note`",
        "a number",
        "quote it: \"fare\""
    );
    bench.works().await;
}
