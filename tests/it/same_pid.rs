//! Writers that know nothing of each other: processes of equal ids, a collection beside them, links that crashes left, folders
//! of temporary files of the dead, a disk that is full, a root that is read only.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use asof::{Error, FeatureStore, StoreOptions};

use crate::{
    crash::{RIDES_SEEN, load_of, rides},
    support::{cells, child, child_command, files_below, temp_dir, write_text},
};

/// Makes a process the first of its own numbering, where the system lets a test do that.
const FIRST_OF_ITS_KIND: [&str; 4] = ["unshare", "--pid", "--fork", "--kill-child"];

fn behind() -> &'static [&'static str] {
    let [program, arguments @ ..] = FIRST_OF_ITS_KIND;
    let can = Command::new(program).args(arguments).arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    println!("processes have {} ids", if can { "equal" } else { "different" });
    if can { &FIRST_OF_ITS_KIND } else { &[] }
}

/// A process that goes on until the test has ended, however it ends.
struct Going(Child);

impl Going {
    fn is_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn open(root: &Path) -> asof::Result<FeatureStore> {
    FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_one_id_lose_nothing_of_each_other() {
    const WRITERS: usize = 4;
    const LOADS: usize = 12;
    let (root, behind) = (temp_dir(), behind());
    open(root.path()).await.unwrap();
    let sources: Vec<_> = (0..WRITERS).map(|_| temp_dir()).collect();
    for (writer, source) in sources.iter().enumerate() {
        for load in 0..LOADS {
            let row = format!("2014-01-{:02} 10:00:{:02},{writer},{load},11", load + 1, writer);
            write_text(source.path(), &format!("{writer}-{load}.csv"), format!("at,zone,miles,fare\n{row}\n"));
        }
    }
    let spawn = |job, data: &Path| child_command(behind, job, root.path(), data).spawn().unwrap();
    let mut collecting = Going(spawn("gc_each", root.path()));
    let writers: Vec<_> = sources.iter().map(|source| spawn("rides_each", source.path())).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    assert!(collecting.is_on(), "the collection has failed");
    drop(collecting);
    let store = open(root.path()).await.unwrap();
    let version = store.describe("rides").await.unwrap();
    assert_eq!((version.loads().len(), version.rows()), (WRITERS * LOADS, (WRITERS * LOADS) as u64));
    let count = "SELECT count(*), count(DISTINCT zone * 100 + miles) FROM rides";
    let all = (WRITERS * LOADS).to_string();
    assert_eq!(cells(&store, count, RIDES_SEEN.parse().unwrap()).await, [format!("{all} {all}")]);
    assert_eq!(store.quality("rides").await.unwrap().reports.len(), WRITERS * LOADS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_as_a_second_link_is_not_written_through() {
    let (data, root) = (temp_dir(), temp_dir());
    let [january, february] = rides(data.path());
    let store = open(root.path()).await.unwrap();
    store.ingest(&load_of(&january)).await.unwrap();
    // Killed between the link and the removal of the other name, whatever number that had.
    let content = |name: &str| fs::read(root.path().join(name)).unwrap();
    let published: Vec<(String, Vec<u8>)> =
        files_below(root.path()).into_iter().map(|name| (name.clone(), content(&name))).collect();
    let links: Vec<String> =
        [1, 2, std::process::id()].iter().flat_map(|pid| (0..50).map(move |n| format!("{pid}{n:06}"))).collect();
    for (name, _) in &published {
        for link in (1..20).map(|n| n.to_string()).chain(links.iter().cloned()) {
            fs::hard_link(root.path().join(name), root.path().join(format!("{name}#{link}"))).unwrap();
        }
    }
    let both = child_command(behind(), "rides_each", root.path(), data.path()).status().unwrap();
    assert!(both.success());
    store.ingest(&load_of(&february)).await.unwrap();
    for (name, bytes) in &published {
        assert_eq!(content(name), *bytes, "{name}");
    }
    assert_eq!(store.describe("rides").await.unwrap().loads().len(), 2);
}

/// Bytes in the files below a folder in which a process works: what it removes meanwhile does not count.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().map_or(0, |file| file.len()) }
            },
        )
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_processes_left_among_the_temporary_files_is_collected() {
    let (data, root, temporary) = (temp_dir(), temp_dir(), temp_dir());
    // A load whose rows are set aside, so that there is something to leave.
    let rows: String = (0..200_000).map(|i| format!("2014-01-{:02} 10:00:00,{i},1,11\n", i % 28 + 1)).collect();
    let source = write_text(data.path(), "rides.csv", format!("at,zone,miles,fare\n{rows}"));
    let run = |job, data: &Path| child_command(&[], job, root.path(), data).env("TMPDIR", temporary.path()).spawn().unwrap();
    let mut killed = 0;
    for _ in 0..20 {
        let mut loading = run("rides_unique", Path::new(&source));
        while bytes_below(temporary.path()) == 0 && loading.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = loading.kill();
        killed += usize::from(!loading.wait().unwrap().success() && bytes_below(temporary.path()) > 0);
        if killed > 1 {
            break;
        }
    }
    assert!(killed > 1, "no process was killed while it held temporary files");
    // A file of somebody else's stays.
    fs::write(temporary.path().join("asof-scratch-mine"), "mine").unwrap();
    assert!(run("gc", root.path()).wait().unwrap().success());
    let own = files_below(temporary.path());
    assert_eq!(fs::read(temporary.path().join("asof-scratch-mine")).unwrap(), b"mine");
    assert_eq!(bytes_below(temporary.path()), 4, "{own:?}");
}

/// A file system of its own, of a few bytes, where the system lets a test mount one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let dir = temp_dir();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "asof-test"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        let can = mount.is_ok_and(|status| status.success());
        if !can {
            println!("nothing can be mounted here: not tried");
        }
        can.then_some(Self(dir))
    }

    fn remount(&self, options: &str) -> bool {
        Command::new("mount").args(["-o", options]).arg(self.0.path()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_that_leaves_what_there_was() {
    let Some(disk) = Mounted::new("size=1m") else { return };
    let (data, root) = (temp_dir(), disk.0.path().join("root"));
    let [january, february] = rides(data.path());
    let store = open(&root).await.unwrap();
    store.ingest(&load_of(&january)).await.unwrap();
    let before = files_below(&root);
    // From a disk without a free page to one that has room for half of the writes, and then for all of them.
    let (filler, mut failed) = (disk.0.path().join("filler"), 0);
    fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    loop {
        match store.ingest(&load_of(&february)).await {
            Ok(report) => {
                assert_eq!(report.rows, 2);
                break;
            }
            Err(error) => {
                assert!(matches!(error, Error::Io { .. } | Error::Storage(_)), "{error}");
                failed += 1;
                let fresh = open(&root).await.unwrap();
                assert_eq!(fresh.describe("rides").await.unwrap().rows(), 3);
                assert!(files_below(&root).iter().all(|name| !name.contains('#')), "a staging file stays");
                assert!(before.iter().all(|name| files_below(&root).contains(name)));
                let length = fs::metadata(&filler).unwrap().len();
                fs::File::options().write(true).open(&filler).unwrap().set_len(length - 4096).unwrap();
            }
        }
    }
    assert!(failed > 1);
    assert_eq!(open(&root).await.unwrap().describe("rides").await.unwrap().rows(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_root_answers_and_refuses_to_change() {
    let Some(disk) = Mounted::new("size=4m") else { return };
    let (data, root) = (temp_dir(), disk.0.path().join("root"));
    let [january, february] = rides(data.path());
    open(&root).await.unwrap().ingest(&load_of(&january)).await.unwrap();
    assert!(disk.remount("remount,ro"));
    let store = open(&root).await.unwrap();
    assert_eq!(cells(&store, "SELECT count(*) FROM rides", RIDES_SEEN.parse().unwrap()).await, ["3"]);
    for error in [
        store.ingest(&load_of(&february)).await.unwrap_err(),
        store.ctas("x", "SELECT zone FROM rides").await.unwrap_err(),
        store.create_database("sales").await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    assert!(disk.remount("remount,rw"));
    store.ingest(&load_of(&february)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_killed_beside_a_collection_is_completed_by_a_rerun() {
    let (data, root) = (temp_dir(), temp_dir());
    rides(data.path());
    open(root.path()).await.unwrap();
    let mut collecting = Going(child("gc_each", root.path(), root.path()));
    for delay in [0, 5, 20, 60, 120] {
        let mut loading = child_command(behind(), "rides_each", root.path(), data.path()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = loading.kill();
        loading.wait().unwrap();
    }
    assert!(child("rides_each", root.path(), data.path()).wait().unwrap().success());
    assert!(collecting.is_on(), "the collection has failed");
    drop(collecting);
    let store = open(root.path()).await.unwrap();
    assert_eq!(store.describe("rides").await.unwrap().rows(), 5);
    assert_eq!(store.quality("rides").await.unwrap().lost, []);
}
