//! Functions that a plan calls: those that every process has travel, and others are refused before anything is sent.

use std::sync::{Arc, atomic::Ordering};

use asof::{AsOf, Error, FeatureStore, StoreOptions};
use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        datatypes::DataType,
        util::pretty::pretty_format_batches,
    },
    common::ScalarValue,
    error::Result,
    functions_aggregate::expr_fn::count,
    logical_expr::{Accumulator, ColumnarValue, Volatility, create_udaf, create_udf},
    prelude::col,
};

use crate::{loopback::Loopback, worlds};

#[derive(Debug)]
struct Nothing;

impl Accumulator for Nothing {
    fn update_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(None))
    }

    fn size(&self) -> usize {
        0
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Float64(None)])
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_only_the_program_has_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let here = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    worlds::fill(&here, dir.path(), 20).await;
    let runner = Loopback::new(2);
    let there = here.on(&runner);
    let orders = async || there.sql("SELECT shop, amount, at FROM orders", AsOf::END_OF_TIME).await.unwrap();
    let (float, pure) = (DataType::Float64, Volatility::Immutable);
    // One of them has the name of a function of DataFusion.
    for name in ["my_own", "abs"] {
        let same =
            create_udf(name, vec![float.clone()], float.clone(), pure, Arc::new(|args: &[ColumnarValue]| Ok(args[0].clone())));
        let rows = orders().await.select([same.call(vec![col("amount")])]).unwrap();
        let error = Error::from(rows.collect().await.unwrap_err());
        assert!(matches!(&error, Error::Definition { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("it calls `{name}`, a function that only this program has")), "{error}");
    }
    let state = Arc::new(vec![float.clone()]);
    let nothing = create_udaf("nothing", vec![float.clone()], Arc::new(float), pure, Arc::new(|_| Ok(Box::new(Nothing))), state);
    let rows = orders().await.aggregate(vec![col("shop")], vec![nothing.call(vec![col("amount")])]).unwrap();
    let error = Error::from(rows.collect().await.unwrap_err());
    assert!(error.to_string().contains("it calls `nothing`, a function"), "{error}");
    assert_eq!(runner.plans.load(Ordering::Relaxed), 0);
    // Those of DataFusion, whatever the session's settings made of them.
    let sql = "SELECT shop, abs(amount), to_timestamp(shop), date_part('hour', at), upper(kind), coalesce(shop, id), stddev(amount) \
               OVER (PARTITION BY shop), row_number() OVER (PARTITION BY shop ORDER BY id, version), array_length(make_array(id)) \
               FROM orders ORDER BY id, version";
    let (ours, theirs) = (here.sql(sql, AsOf::END_OF_TIME).await.unwrap(), there.sql(sql, AsOf::END_OF_TIME).await.unwrap());
    assert_eq!(shown(&theirs.collect().await.unwrap()), shown(&ours.collect().await.unwrap()));
    let counted = orders().await.aggregate(vec![], vec![count(col("shop"))]).unwrap().collect().await.unwrap();
    assert_eq!(counted[0].num_rows(), 1);
    assert!(runner.plans.load(Ordering::Relaxed) >= 2);
}

fn shown(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}
