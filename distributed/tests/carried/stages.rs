//! What Ballista's planner makes of a plan. It plans each stage again, and drops orders that nothing asks for.

use asof::{AsOf, FeatureStore, StoreOptions, temporal::Spine};
use ballista_scheduler::planner::{DefaultDistributedPlanner, DistributedPlanner};
use datafusion::{
    physical_plan::displayable,
    prelude::{SessionConfig, SessionContext},
};

use crate::{loopback::Loopback, worlds};

/// The spine is the sorted answer of an operator, and its rows are numbered in another stage than they are sorted in.
#[tokio::test(flavor = "multi_thread")]
async fn stages_keep_the_order_of_a_spine() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let here = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    worlds::fill(&here, dir.path(), 50).await;
    worlds::register(&here);
    let spine = "SELECT t.pickup_at AS at, t.pickup_zone, o.kind, t.fare_amount FROM nyc_taxi AS t ASOF JOIN orders AS o \
                 MATCH_CONDITION (t.pickup_at > o.at) ON t.pickup_zone = o.shop ORDER BY t.fare_amount, t.pickup_at";
    let spine = Spine::new(here.sql(spine, AsOf::END_OF_TIME).await.unwrap(), "at");
    let rows = here.on(&Loopback::new(3)).training_set("zone_demand_v1", spine).await.unwrap().dataframe().await.unwrap();
    let mut plan = rows.create_physical_plan().await.unwrap();
    while plan.name() != "RunElsewhere" {
        plan = plan.children()[0].clone();
    }
    let plan = plan.children()[0].clone();
    let config = SessionConfig::new();
    let stages = DefaultDistributedPlanner::new().plan_query_stages(&"job".to_owned().into(), plan, config.options()).unwrap();
    let stages: Vec<String> = stages.iter().map(|stage| displayable(stage.as_ref()).indent(false).to_string()).collect();
    let merged =
        stages.iter().filter(|stage| stage.contains("RestoreOrder\n") && stage.contains("SortPreservingMergeExec: [__asof_row@"));
    // That of the training set is merged by the program.
    assert_eq!(merged.count(), 1, "{}", stages.join("\n"));
    assert!(stages.last().is_some_and(|last| last.contains("SortExec: expr=[__asof_row@")), "{}", stages.join("\n"));
    assert!(!stages.iter().any(|stage| stage.contains("CoalescePartitionsExec")), "{}", stages.join("\n"));
}

/// The rows of a spine are known before a plan leaves. So the scan skips facts that no row can see.
#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_a_spine_reach_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let here = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
    worlds::fill(&here, dir.path(), 50).await;
    worlds::register(&here);
    let runner = Loopback::new(3);
    let rows =
        here.sql("SELECT pickup_at AS at, pickup_zone FROM nyc_taxi WHERE pickup_zone < 90", worlds::instant(worlds::AS_OFS[0]));
    let rows = rows.await.unwrap().collect().await.unwrap();
    let spine = Spine::new(SessionContext::new().read_batches(rows).unwrap(), "at");
    let made = here.on(&runner).training_set("zone_demand_v1", spine).await.unwrap();
    made.dataframe().await.unwrap().collect().await.unwrap();
    let arrived = runner.last.lock().unwrap().clone();
    assert!(arrived.contains("PruneFacts") && arrived.contains("DynamicFilter [ pickup_at"), "{arrived}");
    assert!(!arrived.contains("DynamicFilter [ empty ]"), "{arrived}");
}
