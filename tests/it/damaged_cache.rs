//! A cache that is damaged, or held by another process: every answer is right, or an error names the way out.

use std::{fs, panic::AssertUnwindSafe, path::Path, time::Duration};

use asof::{
    Error, FeatureSet, FeatureStore, StoreOptions, Value,
    catalog::{FactTable, KnownAt},
    ingest::Ingest,
};
use chrono::TimeDelta;
use futures::{FutureExt, future::join_all};

use crate::{
    bad_input::{Bench, march, open, says},
    support::{bits, child, copy_dir, files_below, temp_dir, write_text},
};

/// All rows of the zones, through the cache.
async fn zones_served(store: &FeatureStore) -> asof::Result<String> {
    let made = store.materialize("zones_v1", march()).await?;
    let online = store.online("zones_v1").await?;
    let rows: Vec<_> = (0..5).map(|zone| online.get(&[Value::Int(zone)])).collect::<asof::Result<_>>()?;
    Ok(format!("{} {:?} {rows:?}", made.id(), bits(&made).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_is_set_aside_or_mended_and_every_answer_is_right() {
    let bench = Bench::new().await;
    let cache = temp_dir();
    let in_cache = |dir: &Path| open(bench.root.path(), StoreOptions::default().cache_dir(dir));
    let expected = zones_served(&in_cache(cache.path()).await.unwrap()).await.unwrap();
    let (mut wrong, mut right, mut aside) = (Vec::new(), 0, 0);
    for name in files_below(cache.path()) {
        let good = fs::read(cache.path().join(&name)).unwrap();
        let used = good.iter().rposition(|b| *b != 0).unwrap_or(0).max(1);
        let mut damages: Vec<(String, Vec<u8>)> = vec![
            ("emptied".into(), Vec::new()),
            ("cut".into(), good[..used / 2].to_vec()),
            ("all noise".into(), vec![0xa5; good.len()]),
        ];
        for sixth in 0..6 {
            let (mut damaged, at) = (good.clone(), used * sixth / 6);
            let end = (at + 16).min(damaged.len());
            damaged[at..end].iter_mut().for_each(|b| *b ^= 0x5a);
            damages.push((format!("bytes {at}..{end} flipped"), damaged));
        }
        for (what, damaged) in damages {
            let dir = temp_dir();
            let damaged_cache = dir.path().join("cache");
            copy_dir(cache.path(), &damaged_cache);
            fs::write(damaged_cache.join(&name), damaged).unwrap();
            // Opened twice: what was built anew is a cache like any other.
            for _ in 0..2 {
                let attempt =
                    AssertUnwindSafe(async { zones_served(&in_cache(&damaged_cache).await?).await }).catch_unwind().await;
                match attempt {
                    Ok(Ok(served)) if served == expected => right += 1,
                    Ok(Ok(served)) => wrong.push(format!("{name}, {what}: wrong values: {served}")),
                    Ok(Err(error)) => wrong.push(format!("{name}, {what}: {error:?}")),
                    Err(panic) => wrong.push(format!("{name}, {what}: panic: {:?}", panic.downcast_ref::<String>())),
                }
            }
            // One at most is kept of what was set aside.
            let beside: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            assert!(beside.len() <= 2 && beside.iter().all(|b| b == "cache" || b.starts_with("cache.damaged-")), "{beside:?}");
            aside += usize::from(beside.len() == 2);
        }
    }
    println!("{right} right, {} wrong; {aside} were set aside", wrong.len());
    // I9: the way out is always the same.
    assert_eq!(zones_served(&in_cache(temp_dir().path()).await.unwrap()).await.unwrap(), expected);
    assert!(wrong.is_empty() && aside > 0, "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_has_lost_some_of_many_rows_does_not_serve_the_rest_as_all() {
    const SHOPS: i64 = 2_000;
    let (data, root, cache) = (temp_dir(), temp_dir(), temp_dir());
    let note = |shop: i64| -> String {
        let mut hash = blake3::Hasher::new().update(&shop.to_le_bytes()).finalize_xof();
        let mut bytes = [0; 400];
        hash.fill(&mut bytes);
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    };
    let rows: String = (0..SHOPS).map(|shop| format!("2014-01-05 10:00:00,{shop},{}\n", note(shop))).collect();
    let file = write_text(data.path(), "shops.csv", format!("at,shop,note\n{rows}"));
    let in_cache = async |dir: &Path| -> asof::Result<FeatureStore> {
        let store = FeatureStore::open_with(root.path().to_str().unwrap(), StoreOptions::default().cache_dir(dir)).await?;
        store.register(FeatureSet::entities("shops_v1", "shops").key("shop").lookup("note", "note_of").build()?)?;
        Ok(store)
    };
    let store = in_cache(cache.path()).await.unwrap();
    let table = FactTable::new("at", KnownAt::after(TimeDelta::zero())).zone("UTC".parse().unwrap());
    store.ingest(&Ingest::new("shops", table).unwrap().from(file)).await.unwrap();
    let made = store.materialize("shops_v1", march()).await.unwrap();
    // The first wrong answer.
    let wrong_answer = async |store: FeatureStore| -> asof::Result<Option<String>> {
        let online = store.online_for(&store.materialize("shops_v1", march()).await?).await?;
        for shop in 0..SHOPS {
            let found = online.get(&[shop.into()])?.value("note_of")?;
            if found != Value::Text(note(shop)) {
                return Ok(Some(format!("shop {shop} is {}", if found == Value::Null { "missing" } else { "another" })));
            }
        }
        Ok(None)
    };
    assert_eq!((made.rows(), wrong_answer(store).await.unwrap()), (2_000, None));
    drop(made);

    let mut wrong = Vec::new();
    let served = files_below(cache.path()).into_iter().find(|name| name.ends_with(".rows")).unwrap();
    let good = fs::read(cache.path().join(&served)).unwrap();
    for part in 0..16 {
        let dir = temp_dir();
        copy_dir(cache.path(), dir.path());
        let (mut damaged, at) = (good.clone(), good.len() * part / 16 + 1_000);
        let end = (at + 64).min(damaged.len());
        damaged[at..end].iter_mut().for_each(|b| *b ^= 0x5a);
        fs::write(dir.path().join(&served), damaged).unwrap();
        match AssertUnwindSafe(async { wrong_answer(in_cache(dir.path()).await?).await }).catch_unwind().await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => wrong.push(format!("bytes {at}..{end} of {}: {answer}", good.len())),
            Ok(Err(error)) => wrong.push(format!("bytes {at}..{end}: {error:?}")),
            Err(panic) => wrong.push(format!("bytes {at}..{end}: panic: {:?}", panic.downcast_ref::<String>())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever finds it damaged first sets it aside, and the others find the new one in use. None of them renames it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_damaged_cache_that_several_open_at_once_is_held_by_one() {
    let (dir, roots) = (temp_dir(), [(); 6].map(|()| temp_dir()));
    let cache = dir.path().join("cache");
    drop(open(roots[0].path(), StoreOptions::default().cache_dir(&cache)).await.unwrap());
    for round in 0..30 {
        fs::remove_file(cache.join("db")).unwrap();
        fs::create_dir(cache.join("db")).unwrap();
        let opened = roots.iter().map(|root| {
            let (root, options) = (root.path().to_path_buf(), StoreOptions::default().cache_dir(&cache));
            tokio::spawn(async move { open(&root, options).await })
        });
        // All are kept until the last one has tried.
        let opened: Vec<_> = join_all(opened).await.into_iter().map(Result::unwrap).collect();
        let (held, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert!(refused.iter().all(|error| matches!(error, Err(Error::CacheLocked { .. }))), "round {round}: {refused:?}");
        assert!(held.len() <= 1, "round {round}: {} hold it", held.len());
        drop(held);
        drop(open(roots[0].path(), StoreOptions::default().cache_dir(&cache)).await.unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the cache and one that was damaged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_another_process_holds_is_named_with_the_way_out() {
    let (root, flag, own) = (temp_dir(), temp_dir(), temp_dir());
    let opened = flag.path().join("opened");
    let mut holder = child("hold", root.path(), &opened);
    let mut waited = 0;
    while !opened.exists() {
        assert!(holder.try_wait().unwrap().is_none() && waited < 6_000, "the child does not open the store");
        std::thread::sleep(Duration::from_millis(10));
        waited += 1;
    }
    let held = open(root.path(), StoreOptions::default()).await;
    let elsewhere = open(root.path(), StoreOptions::default().cache_dir(own.path())).await;
    let in_memory = open(root.path(), StoreOptions::default().cache_in_memory()).await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    let dir = root.path().join(".asof-cache");
    says!(held.unwrap_err(), Error::CacheLocked { .. }, dir.to_str().unwrap(), "StoreOptions::cache_dir");
    assert!(elsewhere.is_ok() && in_memory.is_ok());
    // The lock goes with its holder.
    open(root.path(), StoreOptions::default()).await.unwrap();
}
