//! S12: an entity tag tells one content of a path from another, and nothing about other paths.

use std::sync::Arc;

use asof::{FeatureStore, StoreOptions, storage::Locations};
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, Result, memory::InMemory, path::Path};

use crate::{
    crash::{RIDES_SEEN, load_of},
    intercepted_store::{Intercept, Intercepted},
    support::{cells, temp_dir},
};

/// A store that counts the versions of each path, and gives the first of every path the tag `1`.
struct EqualTags(InMemory);

#[async_trait::async_trait]
impl Intercept for EqualTags {
    fn inner(&self) -> &InMemory {
        &self.0
    }

    async fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.0.get_opts(path, GetOptions { if_match: None, ..options }).await?;
        Ok(GetResult { meta: Self::listed(found.meta.clone()), ..found })
    }

    fn listed(meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { e_tag: Some("1".into()), ..meta }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_of_one_tag_are_two_sources() {
    let (root, memory) = (temp_dir(), InMemory::new());
    for (name, day, fare) in [("one.csv", 5, 11), ("two.csv", 6, 12), ("deep/one.csv", 7, 13)] {
        let text = format!("at,zone,miles,fare\n2014-01-0{day} 10:00:00,1,2,{fare}\n");
        memory.put(&Path::from(format!("sources/{name}")), text.into()).await.unwrap();
    }
    let locations = Locations::default().mount("s3://tags", Arc::new(Intercepted(EqualTags(memory.clone())))).unwrap();
    let options = StoreOptions::default().cache_in_memory().locations(locations);
    let store = FeatureStore::open_with(root.path().to_str().unwrap(), options).await.unwrap();
    let load = load_of(std::path::Path::new("s3://tags/sources"));
    assert_eq!(store.ingest(&load).await.unwrap().rows, 3);
    let fares = cells(&store, "SELECT fare FROM rides ORDER BY fare", RIDES_SEEN.parse().unwrap()).await;
    assert_eq!(fares, ["11", "12", "13"]);
    // Each of them is known by its path and tag, and is not loaded twice; one more is.
    memory.put(&Path::from("sources/three.csv"), "at,zone,miles,fare\n2014-01-08 10:00:00,1,2,14\n".into()).await.unwrap();
    assert_eq!(store.ingest(&load).await.unwrap().rows, 1);
    assert_eq!(store.describe("rides").await.unwrap().rows(), 4);
}
