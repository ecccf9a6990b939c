//! S12: an entity tag tells one content of a path from another, and nothing about other paths.

use std::sync::Arc;

use asof::{FeatureStore, StoreOptions, storage::Locations};
use futures::{StreamExt, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, Result, memory::InMemory, path::Path};

use crate::{
    crash::{RIDES_SEEN, load_of},
    intercepted_store::{Intercept, Intercepted},
    support::{cells, temp_dir},
};

/// A store that gives every object the same tag, and reads no conditions.
pub(crate) struct EqualTags {
    pub(crate) inner: InMemory,
    pub(crate) tag: &'static str,
}

#[async_trait::async_trait]
impl Intercept for EqualTags {
    fn inner(&self) -> &InMemory {
        &self.inner
    }

    async fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(path, GetOptions { if_match: None, ..options }).await?;
        Ok(GetResult { meta: tagged(found.meta.clone(), self.tag), ..found })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let tag = self.tag;
        self.inner.list(prefix).map(move |meta| meta.map(|meta| tagged(meta, tag))).boxed()
    }
}

fn tagged(meta: ObjectMeta, tag: &str) -> ObjectMeta {
    ObjectMeta { e_tag: Some(tag.into()), ..meta }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_of_one_tag_are_two_sources() {
    let (root, memory) = (temp_dir(), InMemory::new());
    for (name, day, fare) in [("one.csv", 5, 11), ("two.csv", 6, 12), ("deep/one.csv", 7, 13)] {
        let text = format!("at,zone,miles,fare\n2014-01-0{day} 10:00:00,1,2,{fare}\n");
        memory.put(&Path::from(format!("sources/{name}")), text.into()).await.unwrap();
    }
    let tagged = Intercepted(EqualTags { inner: memory.clone(), tag: "1" });
    let locations = Locations::default().mount("s3://tags", Arc::new(tagged)).unwrap();
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
