//! S16: bytes of the root's JSON files that were changed are noticed: an error or the same answer, never another answer.

use std::{fs, path::Path};

use asof::{Error, FeatureStore};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    crash::{RIDES_SEEN, load_of, rides},
    support::{cells, files_below, reseal, temp_dir, version_text},
};

/// Every JSON file that a store writes, one of each kind at least.
pub(crate) async fn root_of_all(root: &Path) -> FeatureStore {
    let data = temp_dir();
    let store = crash_sets(root).await;
    store.create_database("sales").await.unwrap();
    store.drop_database("sales").await.unwrap();
    for file in rides(data.path()) {
        store.ingest(&load_of(&file)).await.unwrap();
    }
    store.drop_table("rides").await.unwrap();
    for file in rides(data.path()) {
        store.ingest(&load_of(&file)).await.unwrap();
    }
    for set in ["fares_v1", "zones_v1"] {
        store.materialize(set, RIDES_SEEN.parse().unwrap()).await.unwrap();
    }
    store.ctas("one", "SELECT zone, fare FROM rides").await.unwrap();
    store
}

/// A fresh handle, which knows nothing of what was read before.
async fn crash_sets(root: &Path) -> FeatureStore {
    try_open(root).await.unwrap()
}

async fn try_open(root: &Path) -> asof::Result<FeatureStore> {
    let options = asof::StoreOptions::default().cache_in_memory();
    let store = FeatureStore::open_with(root.to_str().unwrap(), options).await?;
    crate::crash::register(&store)?;
    Ok(store)
}

/// All that a store says; the first error of each question instead of its answer.
pub(crate) async fn testimony(root: &Path) -> Vec<Result<String, Error>> {
    let store = match try_open(root).await {
        Ok(store) => store,
        Err(error) => return vec![Err(error)],
    };
    let mut said = vec![
        store.tables().await.map(|t| format!("{t:?}")),
        store.databases().await.map(|d| format!("{d:?}")),
        store.describe("rides").await.map(|v| version_text(&v)),
        store.describe_at("rides", 2).await.map(|v| version_text(&v)),
        store.versions("rides").await.map(|v| format!("{:?}", v.iter().map(|v| (v.version, v.state)).collect::<Vec<_>>())),
        store.quality("rides").await.and_then(|quality| match quality.lost.first() {
            Some(lost) => Err(Error::Corrupt { path: lost.load.to_string(), reason: lost.reason.clone() }),
            None => Ok(format!("{quality:?}")),
        }),
        store.extracts("one").await.map(|e| format!("{e:?}")),
        store.lineage("rides").await.map(|l| l.to_string()),
    ];
    for set in ["fares_v1", "zones_v1"] {
        said.push(match store.online(set).await {
            Ok(online) => Ok(serde_json::to_string(online.materialization().manifest()).unwrap()),
            Err(error) => Err(error),
        });
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_of_any_json_file_is_an_error_or_changes_no_answer() {
    let root = temp_dir();
    root_of_all(root.path()).await;
    let expected: Vec<String> = testimony(root.path()).await.into_iter().map(|said| said.unwrap()).collect();
    let mut chance = StdRng::seed_from_u64(16);
    let names: Vec<String> = files_below(root.path()).into_iter().filter(|name| name.ends_with(".json")).collect();
    for kind in ["asof.json", "catalog/sales/", "catalog/default/rides/", "quality/", "definitions/", "manifest", "extract.json"]
    {
        assert!(names.iter().any(|name| name.contains(kind)), "{kind} in {names:?}");
    }
    let mut refused = 0;
    for name in &names {
        let path = root.path().join(name);
        let whole = fs::read(&path).unwrap();
        for mutation in 0..12 {
            let mut bytes = whole.clone();
            let at = chance.random_range(0..bytes.len());
            match mutation % 4 {
                0 => bytes[at] ^= 1 << chance.random_range(0..8),
                // A digit for a digit: what stays JSON and says something else.
                1 => {
                    let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                    let at = digits[chance.random_range(0..digits.len())];
                    bytes[at] = b'0' + (bytes[at] - b'0' + chance.random_range(1..10)) % 10;
                }
                2 => bytes.truncate(at),
                _ => drop(bytes.drain(at..(at + chance.random_range(1..40)).min(whole.len()))),
            }
            fs::write(&path, &bytes).unwrap();
            for (said, expected) in testimony(root.path()).await.into_iter().zip(&expected) {
                match said {
                    Ok(said) => assert_eq!(said, *expected, "{name}, mutation {mutation}: another answer"),
                    Err(Error::Corrupt { .. } | Error::Format { .. }) => refused += 1,
                    Err(other) => panic!("{name}, mutation {mutation}: {other:?}"),
                }
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    println!("{refused} answers were refused, over {} files", names.len());
    assert!(refused > names.len() * 6);
    for (said, expected) in testimony(root.path()).await.into_iter().zip(&expected) {
        assert_eq!(said.unwrap(), *expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_under_the_name_of_another_is_no_answer() {
    let root = temp_dir();
    let store = root_of_all(root.path()).await;
    let at = |name: &str| root.path().join(name);
    let catalog = |number: u64| at(&format!("catalog/default/rides/v{number:010}.json"));
    let newest = store.describe("rides").await.unwrap().version();

    // An older version under the number of the newest.
    let whole = fs::read(catalog(newest)).unwrap();
    fs::copy(catalog(1), catalog(newest)).unwrap();
    let error = store.describe("rides").await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("v0000000001.json"), "{error}");
    fs::write(catalog(newest), whole).unwrap();

    // A number that does not fit: no version, and the next load is not lost.
    fs::copy(catalog(newest), at("catalog/default/rides/v18446744073709551615.json")).unwrap();
    let data = temp_dir();
    let third = crate::support::write_text(data.path(), "third.csv", "at,zone,miles,fare\n2014-02-20 10:00:00,7,1,1\n");
    let before = store.describe("rides").await.unwrap().rows();
    store.ingest(&load_of(Path::new(&third))).await.unwrap();
    assert_eq!(cells(&store, "SELECT count(*) FROM rides", RIDES_SEEN.parse().unwrap()).await, [(before + 1).to_string()]);

    // The manifest of one set in the folder of another, and the record of one run in that of another.
    let manifests: Vec<_> = files_below(root.path()).into_iter().filter(|name| name.ends_with("manifest.json")).collect();
    fs::copy(at(&manifests[0]), at(&manifests[1])).unwrap();
    let fresh = try_open(root.path()).await.unwrap();
    assert!(matches!(fresh.online("zones_v1").await, Err(Error::Corrupt { .. })));
    let other = store.ctas("other", "SELECT zone FROM rides").await.unwrap();
    let records: Vec<_> = files_below(root.path()).into_iter().filter(|name| name.ends_with("extract.json")).collect();
    fs::copy(at(&records[0]), at(&records[1])).unwrap();
    let error = fresh.extract(&other.table().to_string()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_names_itself_is_refused_and_a_long_chain_is_not() {
    let (data, root) = (temp_dir(), temp_dir());
    let [january, _] = rides(data.path());
    let store = try_open(root.path()).await.unwrap();
    store.ingest(&load_of(&january)).await.unwrap();
    let mut last = store.ctas("chain", "SELECT zone FROM rides").await.unwrap().table().to_string();
    let first = last.clone();
    for _ in 0..60 {
        last = store.ctas("chain", &format!("SELECT zone FROM {last}")).await.unwrap().table().to_string();
    }
    let (mut lineage, mut depth) = (&store.lineage(&last).await.unwrap(), 0);
    while let Some(input) = lineage.inputs.first() {
        (lineage, depth) = (input, depth + 1);
    }
    assert_eq!((depth, lineage.table.to_string()), (61, "rides".into()));
    // The first one says that it was made of the last.
    let (run, input) = (store.extract(&first).await.unwrap().record().run.clone(), last.clone());
    reseal(&root.path().join(format!("extracts/chain/{run}/extract.json")), |record| {
        record["inputs"][0]["table"] = input.clone().into();
        record["inputs"][0]["version"] = serde_json::Value::Null;
    });
    for table in [&first, &last] {
        let error = store.lineage(table).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("of itself"), "{error}");
    }
}
