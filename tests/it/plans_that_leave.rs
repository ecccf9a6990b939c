//! Plans that other processes run: what leaves, and what `EXPLAIN` says of it. The runner here takes plans and runs nothing.

use std::sync::{Arc, Mutex};

use asof::{
    AsOf,
    cluster::Runner,
    temporal::{Lookup, Spine},
};
use datafusion::{
    arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray},
    common::exec_err,
    error::Result as DfResult,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{ExecutionPlan, displayable},
    prelude::SessionContext,
};
use futures::future::{BoxFuture, ready};

use crate::support::{answer, instant, store_of, trip};

/// Keeps the last plan as text.
#[derive(Debug, Clone, Default)]
struct Recorded(Arc<Mutex<String>>);

impl Recorded {
    fn plan(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Runner for Recorded {
    fn partitions(&self) -> usize {
        2
    }

    fn run(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: Arc<TaskContext>,
    ) -> BoxFuture<'static, DfResult<Vec<SendableRecordBatchStream>>> {
        *self.0.lock().unwrap() = displayable(plan.as_ref()).indent(false).to_string();
        Box::pin(ready(exec_err!("only recorded")))
    }
}

/// Every task that reads facts indexes the whole spine. One that is too long for that is not sent to them.
#[tokio::test(flavor = "multi_thread")]
async fn a_very_long_spine_is_not_sent_to_every_task() {
    let (_dir, store) = store_of(&[trip("2019-01-01T10:00:00Z", 7.0)]).await;
    let start = instant("2020-02-01T00:00:00Z").micros();
    for (rows, is_pruned) in [(1 << 23, true), ((1 << 23) + 1, false)] {
        let times = TimestampMicrosecondArray::from_value(start, rows).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 2] =
            [("pickup_zone", Arc::new(Int64Array::from_value(3, rows))), ("ts", Arc::new(times))];
        let rows_of_program = SessionContext::new().read_batch(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let recorded = Recorded::default();
        let facts = store.on(&recorded).facts("nyc_taxi", AsOf::END_OF_TIME).await.unwrap();
        let lookup = Lookup::of(facts).on("pickup_zone").columns(["fare_amount"]);
        let found = Spine::new(rows_of_program, "ts").lookup([lookup]).unwrap().into_rows();
        let error = found.collect().await.unwrap_err();
        assert!(error.to_string().contains("only recorded"), "{error}");
        let plan = recorded.plan();
        assert!(plan.contains("AsOfLookup") && plan.contains("Hash([pickup_zone"), "{plan}");
        assert_eq!(plan.contains("PruneFacts"), is_pruned, "{rows} rows:\n{plan}");
    }
}

/// `EXPLAIN` runs nothing, and shows the steps that other processes are given.
#[tokio::test]
async fn explain_shows_what_leaves() {
    let (_dir, here) = store_of(&[trip("2019-01-01T10:00:00Z", 7.0), trip("2019-01-02T10:00:00Z", 8.0)]).await;
    let (recorded, as_of) = (Recorded::default(), AsOf::END_OF_TIME);
    let there = here.on(&recorded);
    let asof = "SELECT a.fare_amount, b.fare_amount FROM nyc_taxi a ASOF JOIN nyc_taxi b \
                MATCH_CONDITION (a.pickup_at > b.pickup_at) ON a.pickup_zone = b.pickup_zone";
    for (sql, step) in
        [("SELECT pickup_zone, count(*) FROM nyc_taxi GROUP BY pickup_zone", "AggregateExec"), (asof, "RestoreOrder")]
    {
        for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN FORMAT TREE"] {
            let explain = format!("{explain} {sql}");
            let (shown, alone) = (answer(&there, &explain, as_of).await.unwrap(), answer(&here, &explain, as_of).await.unwrap());
            assert!(shown.contains("RunElsewhere") && shown.contains(step), "{shown}");
            assert!(!alone.contains("RunElsewhere"), "{alone}");
        }
        // Other formats are about the logical plan.
        for format in ["EXPLAIN FORMAT PGJSON", "EXPLAIN FORMAT GRAPHVIZ"] {
            let explain = format!("{format} {sql}");
            assert_eq!(answer(&there, &explain, as_of).await.unwrap(), answer(&here, &explain, as_of).await.unwrap());
        }
    }
    // What runs here is shown as it is.
    let literal = "EXPLAIN SELECT 1 + 1";
    assert_eq!(answer(&there, literal, as_of).await.unwrap(), answer(&here, literal, as_of).await.unwrap());
    assert_eq!(recorded.plan(), "", "EXPLAIN ran a plan");
}
