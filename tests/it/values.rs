//! Values of every type: what a feature is, is served exactly, and every key that a set can have can be asked for.

use std::sync::Arc;

use asof::{
    Aggregate, AsOf, Error, FeatureSet, FeatureStore, Value,
    catalog::{FactTable, KnownAt},
    encoder::{Spec, encoder_fn},
    value::Decimal,
};
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use datafusion::arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
        DurationMicrosecondArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int64Array, LargeListArray,
        ListArray, StringArray, StructArray, Time32SecondArray, Time64NanosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    },
    datatypes::{DataType, Field, Float64Type, Int64Type, i256},
};

use crate::{
    support::{instant, store, temp_dir, write_parquet},
    times::utc_micros,
};

fn at() -> AsOf {
    instant("2030-01-01")
}

/// A store with a table of one file of these columns beside the instants.
async fn store_of(columns: &[(&str, ArrayRef)]) -> (tempfile::TempDir, tempfile::TempDir, FeatureStore) {
    let (data, root) = (temp_dir(), temp_dir());
    let rows = columns[0].1.len() as i64;
    let columns: Vec<(&str, ArrayRef)> = std::iter::once(("at", utc_micros(0..rows))).chain(columns.iter().cloned()).collect();
    write_parquet(&data.path().join("facts.parquet"), &columns, None);
    let store = store(root.path()).await;
    let declared = FactTable::new("at", KnownAt::after(TimeDelta::zero()));
    store.register_table("facts", data.path().to_str().unwrap(), declared).await.unwrap();
    (data, root, store)
}

fn date(text: &str) -> Value {
    text.parse::<NaiveDate>().unwrap().into()
}

fn decimal(text: &str) -> Value {
    text.parse::<Decimal>().unwrap().into()
}

fn bytes(bytes: &[u8]) -> Value {
    bytes.into()
}

fn time(text: &str) -> Value {
    text.parse::<NaiveTime>().unwrap().into()
}

/// Columns that can be keys: two values each, none of which is told from its neighbours by a rounding.
fn keys() -> Vec<(&'static str, ArrayRef, [Value; 2])> {
    let utc = |array: TimestampNanosecondArray| -> ArrayRef { Arc::new(array.with_timezone("UTC")) };
    let wide = |unscaled: [i128; 2]| Decimal256Array::from_iter_values(unscaled.map(i256::from_i128));
    vec![
        ("bool", Arc::new(BooleanArray::from(vec![true, false])), [true.into(), false.into()]),
        ("int8", Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX])), [i8::MIN.into(), i8::MAX.into()]),
        ("int64", Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])), [i64::MIN.into(), i64::MAX.into()]),
        ("uint64", Arc::new(UInt64Array::from(vec![u64::MAX, 7])), [Value::Unsigned(u64::MAX), Value::Int(7)]),
        ("text", Arc::new(StringArray::from(vec!["", "ä"])), ["".into(), "ä".into()]),
        ("binary", Arc::new(BinaryArray::from_vec(vec![&[255_u8, 0][..], &[][..]])), [bytes(&[255, 0]), bytes(&[])]),
        (
            "fixed_binary",
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [0, 255]].into_iter()).unwrap()),
            [bytes(&[1, 2]), bytes(&[0, 255])],
        ),
        (
            "decimal",
            Arc::new(Decimal128Array::from(vec![30, 9_007_199_254_740_993]).with_precision_and_scale(20, 2).unwrap()),
            [decimal("0.30"), decimal("90071992547409.93")],
        ),
        (
            "wide_decimal",
            Arc::new(wide([i128::MAX / 10, -1]).with_precision_and_scale(60, 3).unwrap()),
            [Decimal::new(i128::MAX / 10, 3).into(), decimal("-0.001")],
        ),
        ("date32", Arc::new(Date32Array::from(vec![-1, 16_071])), [date("1969-12-31"), date("2014-01-01")]),
        ("date64", Arc::new(Date64Array::from(vec![-86_400_000, 0])), [date("1969-12-31"), date("1970-01-01")]),
        ("seconds", Arc::new(TimestampSecondArray::from(vec![-1, 2]).with_timezone("UTC")), {
            [AsOf::from_micros(-1_000_000).into(), AsOf::from_micros(2_000_000).into()]
        }),
        ("nanos", utc(vec![-1, 5_000].into()), [Value::InstantNanos(-1), AsOf::from_micros(5).into()]),
        (
            "local",
            Arc::new(TimestampNanosecondArray::from(vec![-1, 0])),
            ["1969-12-31T23:59:59.999999999", "1970-01-01T00:00:00"].map(|t| Value::Local(t.parse().unwrap())),
        ),
        ("time32", Arc::new(Time32SecondArray::from(vec![0, 86_399])), [time("00:00:00"), time("23:59:59")]),
        (
            "time64",
            Arc::new(Time64NanosecondArray::from(vec![1, 43_200_000_000_000])),
            [time("00:00:00.000000001"), time("12:00:00")],
        ),
        ("duration", Arc::new(DurationMicrosecondArray::from(vec![-1, i64::MAX])), {
            [TimeDelta::microseconds(-1).into(), TimeDelta::microseconds(i64::MAX).into()]
        }),
    ]
}

/// Columns that are features only.
fn features() -> Vec<(&'static str, ArrayRef, [Value; 2])> {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(360), Some(272)]), Some(vec![None])]);
    let empty = LargeListArray::from_iter_primitive::<Float64Type, _, _>([Some(Vec::new()), Some(vec![Some(-0.5)])]);
    vec![
        ("float32", Arc::new(Float32Array::from(vec![0.1, -0.0])), [0.1_f32.into(), Value::Float(-0.0)]),
        ("float64", Arc::new(Float64Array::from(vec![0.1, f64::MAX])), [0.1.into(), f64::MAX.into()]),
        ("list", Arc::new(lists), [vec![360.into(), Value::Int(272)].into(), vec![Value::Null].into()]),
        ("large_list", Arc::new(empty), [Value::List(Vec::new()), vec![Value::Float(-0.5)].into()]),
        ("nothing", Arc::new(Int64Array::from(vec![None, Some(1)])), [Value::Null, 1.into()]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_of_any_type_is_served_as_the_value_that_it_is() {
    let all: Vec<_> = keys().into_iter().chain(features()).collect();
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(Int64Array::from(vec![1, 2])))];
    columns.extend(all.iter().map(|(name, column, _)| (*name, column.clone())));
    let (_data, _root, store) = store_of(&columns).await;
    let set = all
        .iter()
        .fold(FeatureSet::entities("all_v1", "facts").key("id"), |set, (name, ..)| set.lookup(name, &format!("of_{name}")));
    store.register(set.build().unwrap()).unwrap();
    store.materialize("all_v1", at()).await.unwrap();
    let online = store.online("all_v1").await.unwrap();
    for (i, id) in [1, 2].into_iter().enumerate() {
        let row = online.get(&[id.into()]).unwrap();
        for (name, _, values) in &all {
            assert_eq!(row.value(&format!("of_{name}")).unwrap(), values[i], "{name}");
        }
    }
    let row = online.get(&[2.into()]).unwrap();
    assert_eq!(row.number("of_decimal").unwrap(), Some(90_071_992_547_409.93));
    assert_eq!(online.get(&[1.into()]).unwrap().number("of_uint64").unwrap(), Some(u64::MAX as f64));
    assert!(row.value("of_float64").is_ok_and(|value| value != row.value("of_float32").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_value_cannot_hold_exactly_is_an_error_that_says_where_it_can_be_read() {
    let pair: ArrayRef = Arc::new(StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int64, true)),
        Arc::new(Int64Array::from(vec![1])) as ArrayRef,
    )]));
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("pair", pair),
        ("far", Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]).with_timezone("UTC"))),
        ("far_local", Arc::new(TimestampSecondArray::from(vec![i64::MIN]))),
        (
            "long",
            Arc::new(Decimal256Array::from(vec![i256::MAX / i256::from_i128(100)]).with_precision_and_scale(76, 0).unwrap()),
        ),
    ];
    let (_data, _root, store) = store_of(&columns).await;
    let set = FeatureSet::entities("odd_v1", "facts").key("id");
    let set = ["pair", "far", "far_local", "long"].into_iter().fold(set, |set, name| set.lookup(name, &format!("of_{name}")));
    store.register(set.build().unwrap()).unwrap();
    store.materialize("odd_v1", at()).await.unwrap();
    let row = store.online("odd_v1").await.unwrap().get(&[1.into()]).unwrap();
    for name in ["of_pair", "of_far", "of_far_local", "of_long"] {
        let error = row.value(name).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, Error::ColumnType { .. }) && told.contains(name) && told.contains("FeatureRow::batch"), "{told}");
    }
    assert_eq!(row.batch().unwrap().column_by_name("of_far").unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_that_a_set_can_have_can_be_asked_for() {
    let all = keys();
    let columns: Vec<(&str, ArrayRef)> = all.iter().map(|(name, column, _)| (*name, column.clone())).collect();
    let (_data, _root, store) = store_of(&columns).await;
    for (name, _, values) in &all {
        let set = format!("by_{name}_v1");
        let built = FeatureSet::entities(&set, "facts").key(name).lookup("at", "seen").all_before([Aggregate::count()]);
        store.register(built.build().unwrap()).unwrap();
        store.materialize(&set, at()).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let online = store.online(&set).await.unwrap();
        for (row, value) in values.iter().enumerate() {
            let found = online.get(std::slice::from_ref(value)).unwrap_or_else(|e| panic!("{name}: {e}"));
            let seen = found.value("seen").unwrap();
            assert_eq!(seen, AsOf::from_micros(row as i64).into(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_key_cannot_hold_exactly_is_refused_and_never_rounded_to_another_key() {
    let all = keys();
    let columns: Vec<(&str, ArrayRef)> = all.iter().map(|(name, column, _)| (*name, column.clone())).collect();
    let (_data, _root, store) = store_of(&columns).await;
    let wrong: [(&str, Vec<Value>); 11] = [
        ("int8", vec![128.into(), Value::Unsigned(u64::MAX), 1.0.into(), "1".into(), decimal("1")]),
        ("uint64", vec![(-1).into()]),
        ("int64", vec![Value::Unsigned(1 << 63)]),
        ("decimal", vec![decimal("0.301"), decimal("1000000000000000000"), 0.3.into(), "0.30".into()]),
        ("fixed_binary", vec![bytes(&[1]), bytes(&[1, 2, 3])]),
        ("date32", vec![0.into(), "1969-12-31".into(), instant("1969-12-31").into()]),
        ("seconds", vec![AsOf::from_micros(-1).into(), Value::InstantNanos(1), date("1970-01-01")]),
        ("nanos", vec![AsOf::from_micros(i64::MAX).into()]),
        ("local", vec![instant("1970-01-01").into()]),
        ("time32", vec![time("00:00:00.5"), 0.into()]),
        ("bool", vec![1.into(), vec![Value::Bool(true)].into()]),
    ];
    for (name, values) in wrong {
        let set = format!("of_{name}_v1");
        store.register(FeatureSet::entities(&set, "facts").key(name).lookup("at", "seen").build().unwrap()).unwrap();
        store.materialize(&set, at()).await.unwrap();
        let online = store.online(&set).await.unwrap();
        for value in values {
            let error = online.get(std::slice::from_ref(&value)).map(drop).unwrap_err();
            let told = error.to_string();
            assert!(
                matches!(error, Error::ColumnType { .. }) && told.contains("the key") && told.contains(name),
                "{value:?}: {told}"
            );
        }
    }
    // The same number in other words.
    let online = store.online("of_decimal_v1").await.unwrap();
    for same in [decimal("0.3"), decimal("0.3000")] {
        assert!(online.contains(&[same]).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_dates_of_a_request_reach_the_encoder_as_they_are() {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
    let spec = Spec::new("odd", 1).input("numbers", list).input("day", DataType::Date32).output("sum", DataType::Int64);
    let sum = encoder_fn(spec, |input| {
        let sums = input
            .column(0)
            .as_list::<i32>()
            .iter()
            .map(|l| l.map(|l| l.as_primitive::<Int64Type>().iter().flatten().sum::<i64>()));
        Ok(vec![Arc::new(sums.collect::<Int64Array>()) as ArrayRef])
    });
    let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)])]);
    let (_data, _root, store) = store_of(&[("numbers", Arc::new(numbers)), ("day", Arc::new(Date32Array::from(vec![3])))]).await;
    let set = FeatureSet::rows("sums_v1", "SELECT at, numbers, day FROM facts").table("facts").event_time("at").encode(sum);
    store.register(set.build().unwrap()).unwrap();
    store.materialize("sums_v1", at()).await.unwrap();
    let online = store.online("sums_v1").await.unwrap();
    let ask = |numbers: Vec<Value>| online.encode_row(&[("numbers", numbers.into()), ("day", date("2014-01-01"))]);
    let sum = |numbers: Vec<Value>| ask(numbers).unwrap().value("sum").unwrap();
    assert_eq!(sum(vec![40.into(), Value::Null, 2.into()]), 42.into());
    assert_eq!(sum(Vec::new()), 0.into());
    assert!(matches!(ask(vec!["two".into()]), Err(Error::ColumnType { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_a_query_are_values_of_every_type_and_come_back_from_the_record() {
    let days: ArrayRef = Arc::new(Date32Array::from(vec![0, 1, 2]));
    let prices: ArrayRef = Arc::new(Decimal128Array::from(vec![10, 20, 30]).with_precision_and_scale(10, 2).unwrap());
    let (_data, _root, store) = store_of(&[("day", days), ("price", prices)]).await;
    let sql = "SELECT price FROM facts WHERE day = $day AND price = $price";
    let extract = asof::extract::Extract::new("chosen", sql).unwrap();
    let extract = extract.param("day", date("1970-01-02")).param("price", decimal("0.2"));
    let run = store.ctas_with(&extract).await.unwrap();
    assert_eq!(run.record().rows, 1);
    let found = store.extract(&run.table().to_string()).await.unwrap();
    let values: Vec<&Value> = found.record().parameters.iter().map(|p| &p.value).collect();
    assert_eq!(values, [&date("1970-01-02"), &decimal("0.2")]);
    let mixed =
        asof::extract::Extract::new("mixed", "SELECT $list AS l").unwrap().param("list", vec![1.into(), Value::from("a")]);
    assert!(matches!(store.ctas_with(&mixed).await.map(drop), Err(Error::ColumnType { .. })));
}

#[test]
fn every_value_comes_back_from_json() {
    for (_, _, values) in keys().into_iter().chain(features()) {
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(serde_json::from_str::<[Value; 2]>(&text).unwrap(), values, "{text}");
    }
}
