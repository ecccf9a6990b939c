//! The disk cache behind bulk reads: never stale, within its limit, and whole under threads, damage and kills.

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use asof::{
    Error,
    storage::{BulkReader, DiskCache, Locations, ObjectMeta, ReadStatistics},
};
use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    bulk_reads::{fill, is_same, noise, one_by_one, small, watched},
    object_stores::{Place, places, reaching, replace},
    s3_server::S3Server,
    support::{files_below, temp_dir},
};

pub(crate) async fn read_all(reader: &BulkReader, objects: &[ObjectMeta]) -> (Vec<(ObjectMeta, Bytes)>, ReadStatistics) {
    let mut read = reader.get_many(objects.to_vec());
    let found = (&mut read).try_collect().await.unwrap();
    (found, read.statistics())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_not_asked_for_again_and_never_stale() {
    let server = S3Server::start("lab").await.unwrap();
    let at = reaching(&server).open("s3://lab/place").unwrap();
    let objects = fill(&at, &[0, 10, 3_000, 100_000]).await;
    let (kept, settings) = (temp_dir(), small(4, 4, 10_000, 1 << 20));
    let open = || {
        let cache = DiskCache::open(kept.path(), 1 << 20).unwrap();
        BulkReader::new(&reaching(&server).open("s3://lab/place").unwrap()).settings(settings.clone()).cache(cache)
    };
    let (expected, first) = read_all(&open(), &objects).await;
    assert_eq!((first.cached_bytes, first.request_count), (0, 13));
    let before = server.requests();
    let (found, again) = read_all(&open(), &objects).await;
    assert!(is_same(&found, &expected));
    assert_eq!((again.cached_bytes, again.bytes, again.request_count), (103_010, 103_010, 0));
    assert_eq!(server.requests(), before);

    // Another version of the same size: what the old listing names is still served, as what it was; the new one is read.
    replace(&at, "0002", &noise(99, 3_000)).await;
    let listed = at.list().await.unwrap();
    let (found, statistics) = read_all(&open(), &listed).await;
    assert!(found[2].1 == noise(99, 3_000));
    assert_eq!((statistics.request_count, statistics.cached_bytes), (1, 100_010));
    let (found, statistics) = read_all(&open(), &objects).await;
    assert!(is_same(&found, &expected) && statistics.request_count == 0);

    // The same names at another endpoint are other objects.
    let other = S3Server::start("lab").await.unwrap();
    let there = reaching(&other).open("s3://lab/place").unwrap();
    let elsewhere = fill(&there, &[0, 10, 3_000, 100_000]).await;
    let reader = BulkReader::new(&there).cache(DiskCache::open(kept.path(), 1 << 20).unwrap());
    assert_eq!(read_all(&reader, &elsewhere).await.1.cached_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_without_a_lasting_tag_are_not_cached() {
    let kept = temp_dir();
    let cache = DiskCache::open(kept.path(), 1 << 20).unwrap();
    for Place { kind, at, .. } in &places().await {
        let mut objects = fill(at, &[1_000]).await;
        if *kind == "s3" {
            objects[0].e_tag = None;
        }
        for _ in 0..2 {
            let (read, statistics) = read_all(&BulkReader::new(at).cache(cache.clone()), &objects).await;
            assert!(read[0].1 == noise(0, 1_000));
            assert_eq!((statistics.request_count, statistics.cached_bytes), (1, 0), "{kind}");
        }
    }
    assert_eq!(cache.used_bytes().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_forgets_what_was_used_least_recently() {
    let (_, at, _) = watched(64);
    let objects = fill(&at, &[1_000; 40]).await;
    let kept = temp_dir();
    let cache = DiskCache::open(kept.path(), 12_000).unwrap();
    let reader = BulkReader::new(&at).settings(small(1, 1, 10_000, 1 << 20)).cache(cache.clone());
    for object in &objects {
        read_all(&reader, std::slice::from_ref(object)).await;
        // The first is used all the time.
        let (_, statistics) = read_all(&reader, &objects[..1]).await;
        assert_eq!(statistics.request_count, 0, "{}", object.location);
        assert!(cache.used_bytes().unwrap() <= 12_000);
    }
    let (_, statistics) = read_all(&reader, &objects[37..]).await;
    assert_eq!(statistics.request_count, 0, "the newest are there");
    let (_, statistics) = read_all(&reader, &objects[1..5]).await;
    assert_eq!(statistics.cached_bytes, 0, "the oldest are not");
    // A smaller limit is kept from the start on; what is larger than the cache is not kept.
    assert!(DiskCache::open(kept.path(), 3_000).unwrap().used_bytes().unwrap() <= 3_000);
    let tiny = BulkReader::new(&at).cache(DiskCache::open(kept.path(), 900).unwrap());
    assert_eq!(read_all(&tiny, &objects[..1]).await.1.request_count, 1);
    assert_eq!(DiskCache::open(kept.path(), 900).unwrap().used_bytes().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_share_a_cache_stay_within_its_limit_and_read_what_is_there() {
    let (_, at, _) = watched(64);
    let objects = fill(&at, &[700; 60]).await;
    let expected = one_by_one(&at, &objects).await;
    let kept = temp_dir();
    let most = AtomicI64::new(0);
    let watch = DiskCache::open(kept.path(), 15_000).unwrap();
    // Each opens it for itself, as processes do.
    let readers = (0..6).map(|i| {
        let cache = DiskCache::open(kept.path(), 15_000).unwrap();
        let reader = BulkReader::new(&at).settings(small(8, 8, 300, 1 << 20)).cache(cache);
        let (objects, expected, most, watch) = (objects.clone(), &expected, &most, &watch);
        async move {
            for round in 0..3 {
                let rotated = [&objects[i * 7 + round..], &objects[..i * 7 + round]].concat();
                let (mut found, _) = read_all(&reader, &rotated).await;
                found.sort_by(|a, b| a.0.location.cmp(&b.0.location));
                assert!(is_same(&found, expected));
                most.fetch_max(watch.used_bytes().unwrap() as i64, Ordering::SeqCst);
            }
        }
    });
    join_all(readers).await;
    let most = most.into_inner();
    assert!((5_000..=15_000).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_entries_and_garbage_are_passed_over() {
    let (_, at, _) = watched(64);
    let objects = fill(&at, &[0, 50, 4_000]).await;
    let expected = one_by_one(&at, &objects).await;
    let kept = temp_dir();
    let open =
        || BulkReader::new(&at).settings(small(2, 2, 1_500, 1 << 20)).cache(DiskCache::open(kept.path(), 1 << 20).unwrap());
    read_all(&open(), &objects).await;
    let entries: Vec<String> = files_below(kept.path()).into_iter().filter(|name| name.starts_with("entries")).collect();
    assert_eq!(entries.len(), 5);
    let mut chance = StdRng::seed_from_u64(3);
    for round in 0..120 {
        let entry = kept.path().join(&entries[chance.random_range(0..entries.len())]);
        let mut bytes = fs::read(&entry).unwrap();
        let at_byte = chance.random_range(0..bytes.len());
        match round % 5 {
            0 => bytes[at_byte] ^= 1 << chance.random_range(0..8),
            1 => bytes.truncate(at_byte),
            2 => bytes.push(0),
            3 => bytes = noise(round, bytes.len()),
            // Another entry whole, under this one's name.
            _ => bytes = fs::read(kept.path().join(&entries[chance.random_range(0..entries.len())])).unwrap(),
        }
        fs::write(&entry, bytes).unwrap();
        let (found, statistics) = read_all(&open(), &objects).await;
        assert!(is_same(&found, &expected), "round {round}");
        assert!(statistics.request_count <= 1);
        assert_eq!(read_all(&open(), &objects).await.1.request_count, 0, "mended");
    }

    // A folder that is full of other things: no read fails, and the limit holds for them too.
    let kept = temp_dir();
    drop(DiskCache::open(kept.path(), 8_000).unwrap());
    for i in 0..300 {
        let folder = kept.path().join(format!("entries/{:02x}", i % 256));
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join(format!("deep/{i}")), noise(i, 40)).unwrap();
        fs::write(folder.join(format!("{i}.1-2")), noise(i, 40)).unwrap();
    }
    fs::write(kept.path().join("ledger"), noise(1, 5_000)).unwrap();
    let cache = DiskCache::open(kept.path(), 8_000).unwrap();
    assert!(cache.used_bytes().unwrap() <= 8_000);
    let reader = BulkReader::new(&at).settings(small(2, 2, 1_500, 1 << 20)).cache(cache.clone());
    for _ in 0..2 {
        assert!(is_same(&read_all(&reader, &objects).await.0, &expected));
    }
    assert_eq!(read_all(&reader, &objects).await.1.request_count, 0);
    assert!(cache.used_bytes().unwrap() <= 8_000);
    // Folders where entries should be, and a folder that goes away.
    for name in &entries {
        let entry = kept.path().join(name);
        fs::remove_file(&entry).unwrap();
        fs::create_dir_all(entry.join("x")).unwrap();
    }
    assert!(is_same(&read_all(&reader, &objects).await.0, &expected));
    fs::remove_dir_all(kept.path().join("entries")).unwrap();
    assert!(is_same(&read_all(&reader, &objects).await.0, &expected));
    let file = kept.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(DiskCache::open(&file, 1).unwrap_err(), Error::Cache { .. }));
}

const CHILD: &str = "ASOF_TEST_BULK_CHILD";

/// The other process of the next test: reads by way of the cache until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_child() {
    let Ok(job) = std::env::var(CHILD) else { return };
    let [endpoint, key, secret, folder] = job.split('|').collect::<Vec<_>>()[..] else { panic!("{job}") };
    let locations = Locations::default().option("aws_endpoint", endpoint).option("aws_access_key_id", key);
    let at = locations.option("aws_secret_access_key", secret).open("s3://lab/place").unwrap();
    let cache = DiskCache::open(folder, 3_000_000).unwrap();
    let reader = BulkReader::new(&at).settings(small(4, 4, 200_000, 1 << 20)).cache(cache);
    let objects = at.list().await.unwrap();
    loop {
        read_all(&reader, &objects).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_writers_are_killed_serves_right_bytes_within_its_limit() {
    let server = S3Server::start("lab").await.unwrap();
    let at = reaching(&server).open("s3://lab/place").unwrap();
    let objects = fill(&at, &[500_000; 12]).await;
    let expected = one_by_one(&at, &objects).await;
    let kept = temp_dir();
    let job = format!("{}|{}|{}|{}", server.endpoint(), server.access_key(), server.secret_key(), kept.path().display());
    let (mut chance, mut half_written, mut rounds) = (StdRng::seed_from_u64(4), 0, 0);
    // At least one of the killed was writing.
    while rounds < 12 || half_written == 0 && rounds < 100 {
        rounds += 1;
        let spawn = || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "bulk_cache::bulk_child", "--nocapture"])
                .env(CHILD, &job)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut children = [spawn(), spawn()];
        let before = server.gets().len();
        while server.gets().len() < before + 30 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
        for child in &mut children {
            child.kill().unwrap();
        }
        for mut child in children {
            assert!(!child.wait().unwrap().success());
        }
        half_written += files_below(kept.path()).iter().filter(|name| name.contains('.')).count();
        let cache = DiskCache::open(kept.path(), 3_000_000).unwrap();
        assert!(cache.used_bytes().unwrap() <= 3_000_000);
        let reader = BulkReader::new(&at).settings(small(4, 4, 200_000, 1 << 20)).cache(cache.clone());
        assert!(is_same(&read_all(&reader, &objects).await.0, &expected));
        assert!(cache.used_bytes().unwrap() <= 3_000_000);
    }
    println!("{half_written} entries were half written");
    assert!(half_written > 0);
}
