//! Names that mean something to a URL, a glob or a shell: a root, a source, a table or a folder for temporary files may have any.

use std::{path::Path, sync::Arc};

use asof::{
    Error, FeatureStore, StoreOptions,
    catalog::{FactTable, KnownAt},
    gc::Gc,
    ingest::{CompactOptions, Expect, OnViolation},
    storage::Locations,
    temporal::Spine,
};
use object_store::memory::InMemory;
use url::Url;

use crate::{
    crash::{self, RIDES_SEEN, load_of, rides},
    object_stores::reaching,
    s3_server::S3Server,
    support::{cells, child_command, temp_dir, write_text},
};

const NAMES: [&str; 16] = [
    "a#b",
    "a#1",
    "a?b",
    "a?b=c",
    "a%41b",
    "a%2Fb",
    "a%23b",
    "a\\b",
    "a b",
    "a\u{e4}\u{20ac}b",
    "a*b",
    "a[b]c",
    "[0-9]",
    "a+b&c",
    "a'b\"c`",
    "~{a}^|<b>",
];

/// Everything that reads or writes, in this root and with sources and a table of others' beside it.
async fn use_all(name: &str, root: &str, locations: Locations, data: &Path) {
    let options = StoreOptions::default().cache_in_memory().locations(locations);
    let store = FeatureStore::open_with(root, options).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    crash::register(&store).unwrap();
    let (as_of, sources) = (RIDES_SEEN.parse().unwrap(), data.join(name).join("sources"));
    let files = rides(&sources);
    let unique = Expect::unique(["zone", "at"]).on_violation(OnViolation::Quarantine);
    for file in &files {
        let report = store.ingest(&load_of(file).expect(unique.clone())).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(report.quarantined, 0, "{name}");
    }
    // By its folder, and with a wildcard behind it, the sources are the same.
    for text in [sources.to_str().unwrap().to_owned(), format!("{}/*.csv", glob::Pattern::escape(sources.to_str().unwrap()))] {
        let again = store.ingest(&load_of(Path::new(&text)).expect(unique.clone())).await;
        assert_eq!(again.unwrap_or_else(|e| panic!("{name}, {text}: {e}")).version.rows(), 5, "{name}");
    }
    assert_eq!(cells(&store, "SELECT count(*) FROM rides", as_of).await, ["5"], "{name}");
    for (set, rows) in [("fares_v1", 5), ("zones_v1", 3)] {
        let made = store.materialize(set, as_of).await.unwrap();
        made.verify().await.unwrap();
        assert_eq!(made.dataframe().await.unwrap().count().await.unwrap(), rows, "{name}: {set}");
        assert_eq!(made.rows(), rows as u64, "{name}: {set}");
    }
    let run = store.ctas("kept", "SELECT zone, at FROM rides").await.unwrap();
    assert_eq!(run.dataframe().await.unwrap().count().await.unwrap(), 5, "{name}");
    let again = format!("SELECT * FROM {}", run.table());
    assert_eq!(store.ctas("again", &again).await.unwrap().rows(), 5, "{name}");

    // A spine and a table of others', which lie beside the sources.
    let spine = data.join(name).join("spine.parquet");
    let rows = store.sql("SELECT zone, at FROM rides", as_of).await.unwrap();
    rows.clone().write_parquet(Url::from_file_path(&spine).unwrap().as_ref(), Default::default(), None).await.unwrap();
    let spine = store.read_parquet(spine.to_str().unwrap()).await.unwrap();
    assert_eq!(spine.clone().count().await.unwrap(), 5, "{name}");
    let trained = store.training_set("zones_v1", Spine::new(spine, "at")).await.unwrap().dataframe().await.unwrap();
    assert_eq!(trained.count().await.unwrap(), 5, "{name}");
    let others = data.join(name).join("others");
    let part = Url::from_file_path(others.join("month=1/part.parquet")).unwrap().to_string();
    std::fs::create_dir_all(others.join("month=1")).unwrap();
    rows.write_parquet(&part, Default::default(), None).await.unwrap();
    let declared = FactTable::new("at", KnownAt::after(chrono::TimeDelta::zero()));
    store.register_table("others", others.to_str().unwrap(), declared).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(cells(&store, "SELECT count(*) FROM others", as_of).await, ["5"], "{name}");
    assert!(store.repair("others").await.unwrap().is_noop(), "{name}");

    store.compact("rides", &CompactOptions::default()).await.unwrap();
    let report = store.gc(&Gc::delete().grace(chrono::TimeDelta::zero())).await.unwrap();
    assert!(report.unknown.is_empty(), "{name}: {report}");
    assert_eq!(cells(&store, "SELECT count(*) FROM rides", as_of).await, ["5"], "{name}");
    store.online("zones_v1").await.unwrap().materialization().verify().await.unwrap();
}

fn encoded(name: &str) -> String {
    let mut url = Url::parse("x://y/").unwrap();
    url.path_segments_mut().unwrap().push(name);
    url.path().trim_start_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_on_the_disk_may_have_any_name() {
    let top = temp_dir();
    for name in NAMES {
        let root = top.path().join(name).join("root");
        use_all(name, root.to_str().unwrap(), Locations::default(), top.path()).await;
        // The folder is the one that was meant, and as a URL it is the same.
        assert!(root.join("asof.json").exists() && root.join("facts/default/rides").is_dir(), "{name}");
        let url = Url::from_file_path(&root).unwrap();
        let again = FeatureStore::open_with(url.as_str(), StoreOptions::default().cache_in_memory()).await.unwrap();
        assert_eq!(again.describe("rides").await.unwrap().rows(), 5, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_in_an_object_store_may_have_any_name() {
    let data = temp_dir();
    for name in NAMES {
        let memory = Locations::default().mount("memory://bucket", Arc::new(InMemory::new())).unwrap();
        use_all(name, &format!("memory://bucket/{}/root", encoded(name)), memory, data.path()).await;
    }
    let server = S3Server::start("lab").await.unwrap();
    for name in ["a#b", "a%41b", "a b", "a?b"] {
        use_all(name, &format!("s3://lab/{}/root", encoded(name)), reaching(&server), temp_dir().path()).await;
    }
}

#[tokio::test]
async fn a_url_that_would_mean_another_folder_is_refused() {
    for (root, word) in [("memory://bucket/a#b", "%23"), ("s3://bucket/a?b", "%3F")] {
        let error = FeatureStore::open(root).await.unwrap_err();
        assert!(matches!(error, Error::InvalidLocation { .. }) && error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_for_temporary_files_may_have_any_name() {
    let (data, top) = (temp_dir(), temp_dir());
    let source =
        write_text(data.path(), "rides.csv", "at,zone,miles,fare\n2014-01-05 10:00:00,1,2,3\n2014-01-06 10:00:00,1,2,3\n");
    for name in ["a#b", "a?b", "a%41b", "a[b]", "a*b"] {
        let (root, temporary) = (temp_dir(), top.path().join(name));
        std::fs::create_dir(&temporary).unwrap();
        let mut load = child_command(&[], "rides_unique", root.path(), Path::new(&source));
        assert!(load.env("TMPDIR", &temporary).status().unwrap().success(), "{name}");
    }
}

/// What cannot be looked at is not taken for what is not there: nothing is collected, loaded or registered of a half.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_can_be_listed_and_not_entered_is_an_error() {
    use std::{
        fs,
        os::unix::{
            fs::{MetadataExt, PermissionsExt, chown},
            process::CommandExt,
        },
    };
    const NOBODY: u32 = 65_534;
    let dir = temp_dir();
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    let is_privileged = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let store = crate::support::store(&root).await;
    for file in rides(dir.path()) {
        store.ingest(&load_of(&file)).await.unwrap();
    }
    write_text(&data, "m1/a.csv", "at,zone,miles,fare\n2014-01-07 10:00:00,1,2.5,11\n");
    write_text(&data, "m2/b.csv", "at,zone,miles,fare\n2014-02-07 10:00:00,1,2.5,11\n");
    drop(store);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(dir.path(), 0o755);
    let hand_over = || {
        let mut left = vec![root.clone(), data.clone()];
        while let Some(path) = left.pop() {
            if is_privileged {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            if path.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    };
    hand_over();
    // Whether another user can run this binary at all.
    let run = |job: &str, data: &Path| {
        let mut command = child_command(&[], job, &root, data);
        if is_privileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.status().is_ok_and(|status| status.success())
    };
    if !run("gc", &data) {
        println!("no other user can run the tests here: not tried");
        return;
    }
    let facts = || crate::support::files_below(&root.join("facts"));
    let before = facts();
    assert!(!before.is_empty());
    for hidden in [root.join("catalog"), root.join("catalog/default"), root.join("catalog/default/rides")] {
        mode(&hidden, 0o644);
        let is_done = run("gc", &data);
        mode(&hidden, 0o755);
        assert!(!is_done, "{}", hidden.display());
        assert_eq!(facts(), before);
    }
    mode(&data.join("m2"), 0o644);
    assert!(!run("load_rides", &data), "half of a folder was loaded");
    mode(&data.join("m2"), 0o755);
    assert!(run("load_rides", &data));
}

/// A pipe under the name of a file that every process reads first: nobody waits for whoever might write into it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_the_marker_is_told_of() {
    let root = temp_dir();
    let marker = root.path().join("asof.json");
    assert!(std::process::Command::new("mkfifo").arg(&marker).status().unwrap().success());
    let opened = FeatureStore::open_with(root.path().to_str().unwrap(), StoreOptions::default().cache_in_memory());
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), opened).await.unwrap().unwrap_err().to_string();
    assert!(told.contains("asof.json") && told.contains("not a regular file"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_a_file_or_lies_below_one_says_so() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for root in [file.clone(), file.join("below"), file.join("far/below")] {
        let error = FeatureStore::open(root.to_str().unwrap()).await.unwrap_err();
        assert!(matches!(&error, Error::InvalidLocation { reason, .. } if reason.contains("file` is a file")), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}
