//! The cache of materializations in the key-value store: manifests, and rows by key of those that are served.
//! What is missing or damaged is rebuilt from the root, and never reported as an absent key.
//!
//! ```text
//! <layout>/manifest/<id>
//! <layout>/rows/<id>/<group>/<block>          consecutive rows in the order of their keys
//! <layout>/directory/<id>/<group>/<piece>     the first key of each block; written when all blocks are there
//! <layout>/directory/<id>/<group>             the number of pieces; written last
//! <layout>/kept                               the materializations with rows, the most recently opened one last
//! ```
//!
//! Every value begins with a checksum of its name and content. A group is the rows under one key: it is filled and read on its
//! own, and removed with its materialization. Everything depends on the id alone, so writing it twice writes the same bytes.

mod blocks;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

pub(crate) use blocks::Directory;
use blocks::{BlocksWriter, InBlock, find_in_block};

use crate::{
    error::Result,
    kv::KeyValue,
    name::{ContentId, SetName},
};

/// Part of every key. Other versions of the library may encode rows in another way.
const LAYOUT: &str = concat!("asof2-", env!("CARGO_PKG_VERSION"));
/// How many materializations of a set keep their rows, besides those that are pinned.
const KEPT_OF_A_SET: usize = 8;
const CHECKSUM_BYTES: usize = 8;
/// Values of a few kilobytes suit the store.
const PIECE_BYTES: usize = 4 << 10;
const BATCH_BYTES: usize = 1 << 20;

/// The cache of one store.
#[derive(Debug, Clone)]
pub(crate) struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn KeyValue>,
    /// The materializations that are served. Locked while the rows to be removed are chosen.
    pins: Mutex<BTreeMap<ContentId, Weak<Pin>>>,
}

/// Held by every server of a materialization. Its rows stay in the cache, and one server at a time fills them in.
#[derive(Debug, Default)]
pub(crate) struct Pin {
    /// Locked while rows are filled in before they are served.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Locked, by threads of their own, while lost rows are filled in again.
    pub(crate) refilling: Mutex<()>,
}

/// A group of rows of a materialization: all keys are group 0, partial rows follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedRows {
    pub(crate) id: ContentId,
    pub(crate) index: usize,
}

/// The result of looking up a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CachedRow {
    /// Its row.
    Row(Vec<u8>),
    /// The group has no such key.
    Nothing,
    /// The block that would hold it is missing or damaged.
    Lost,
}

impl Cache {
    /// The cache in this store. Entries of another layout are removed.
    pub(crate) fn new(store: Arc<dyn KeyValue>) -> Result<Self> {
        if store.get(b"layout")?.as_deref() != Some(LAYOUT.as_bytes()) {
            store.remove_prefix(b"")?;
            store.put_all(&[(b"layout".to_vec(), LAYOUT.into())])?;
        }
        Ok(Self(Arc::new(Inner { store, pins: Mutex::default() })))
    }

    /// The manifest of a materialization, as JSON.
    pub(crate) fn manifest(&self, id: ContentId) -> Result<Option<Vec<u8>>> {
        self.get(&manifest_name(id))
    }

    pub(crate) fn put_manifest(&self, id: ContentId, json: &[u8]) -> Result<()> {
        self.put(manifest_name(id), json)
    }

    /// Keeps the rows of a materialization in the cache as long as the pin lives.
    pub(crate) fn pin(&self, id: ContentId) -> Arc<Pin> {
        let mut pins = self.0.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = pins.get(&id).and_then(Weak::upgrade) {
            return pin;
        }
        pins.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(Pin::default());
        pins.insert(id, Arc::downgrade(&pin));
        pin
    }

    /// Records that the rows of a materialization of this set are opened, and removes the rows of the set's least recently opened
    /// materializations that are not pinned, beyond [`KEPT_OF_A_SET`].
    pub(crate) fn note_opened(&self, set: &SetName, id: ContentId) -> Result<()> {
        let pins = self.0.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.get(&kept_name())?.and_then(|bytes| parse_kept(&bytes));
        let mut kept = match &known {
            Some(kept) => kept.clone(),
            // Without the list it is not known what is there, so all rows are removed; servers fill theirs in again.
            None => {
                self.remove_all(&["rows", "directory"], "")?;
                Vec::new()
            }
        };
        kept.retain(|(_, other)| *other != id);
        kept.push((set.clone(), id));
        let mut excess = kept.iter().filter(|(of, _)| of == set).count().saturating_sub(KEPT_OF_A_SET);
        let mut gone = Vec::new();
        kept.retain(|(of, id)| {
            let is_held = pins.get(id).is_some_and(|pin| pin.strong_count() > 0);
            let goes = of == set && excess > 0 && !is_held;
            if goes {
                excess -= 1;
                gone.push(*id);
            }
            !goes
        });
        for id in gone {
            self.remove_all(&["directory", "rows"], &format!("{id}/"))?;
        }
        if known.as_ref() == Some(&kept) {
            return Ok(());
        }
        let lines: String = kept.iter().map(|(of, id)| format!("{of} {id}\n")).collect();
        self.put(kept_name(), lines.as_bytes())
    }

    /// The directory of a group whose blocks have all been written.
    pub(crate) fn directory(&self, group: CachedRows) -> Result<Option<Directory>> {
        let name = name_of("directory", group);
        let Some(pieces) = self.get(&name)?.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        for piece in 0..pieces {
            match self.get(&numbered(&name, piece))? {
                Some(piece) => bytes.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
        Ok(Directory::parse(&bytes))
    }

    /// The row under an encoded key, of a group with this directory.
    pub(crate) fn find(&self, group: CachedRows, directory: &Directory, key: &[u8]) -> Result<CachedRow> {
        let Some(block) = directory.block_of(key) else { return Ok(CachedRow::Nothing) };
        let Some(bytes) = self.get(&numbered(&name_of("rows", group), block as u64))? else { return Ok(CachedRow::Lost) };
        Ok(match find_in_block(&bytes, key) {
            InBlock::Row(at) => CachedRow::Row(bytes[at].to_vec()),
            InBlock::Nothing => CachedRow::Nothing,
            InBlock::Damaged => CachedRow::Lost,
        })
    }

    /// Begins to fill a group.
    pub(crate) fn fill(&self, group: CachedRows) -> Filling {
        let blocks = BlocksWriter::default();
        Filling { cache: self.clone(), group, blocks, next_block: 0, waiting: Vec::new(), waiting_bytes: 0 }
    }

    fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut bytes) = self.0.store.get(name)? else { return Ok(None) };
        let is_whole = bytes.split_at_checked(CHECKSUM_BYTES).is_some_and(|(sum, value)| checksum(name, value) == sum);
        if !is_whole {
            tracing::warn!(name = %String::from_utf8_lossy(name), "a damaged value in the cache is ignored");
            return Ok(None);
        }
        bytes.drain(..CHECKSUM_BYTES);
        Ok(Some(bytes))
    }

    fn put(&self, name: Vec<u8>, value: &[u8]) -> Result<()> {
        self.0.store.put_all(&[sealed(name, value)])
    }

    fn remove_all(&self, kinds: &[&str], below: &str) -> Result<()> {
        kinds.iter().try_for_each(|kind| self.0.store.remove_prefix(format!("{LAYOUT}/{kind}/{below}").as_bytes()))
    }
}

/// Puts the rows of a group into the cache, in the order of their keys.
pub(crate) struct Filling {
    cache: Cache,
    group: CachedRows,
    blocks: BlocksWriter,
    next_block: u64,
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    waiting_bytes: usize,
}

impl Filling {
    pub(crate) fn push(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        if let Some(block) = self.blocks.push(key, row)? {
            self.add(&block);
        }
        if self.waiting_bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes the remaining rows, and the directory once everything else has been flushed.
    pub(crate) fn finish(mut self) -> Result<Directory> {
        let (last, directory) = std::mem::take(&mut self.blocks).finish();
        last.iter().for_each(|block| self.add(block));
        self.write()?;
        let name = name_of("directory", self.group);
        let bytes = directory.to_bytes();
        let pieces = bytes.chunks(PIECE_BYTES);
        let count = pieces.len() as u64;
        self.waiting = pieces.zip(0..).map(|(piece, i)| sealed(numbered(&name, i), piece)).collect();
        self.write()?;
        self.cache.0.store.flush()?;
        self.cache.put(name, &count.to_le_bytes())?;
        self.cache.0.store.flush()?;
        Ok(directory)
    }

    fn add(&mut self, block: &[u8]) {
        let entry = sealed(numbered(&name_of("rows", self.group), self.next_block), block);
        self.waiting_bytes += entry.0.len() + entry.1.len();
        self.waiting.push(entry);
        self.next_block += 1;
    }

    fn write(&mut self) -> Result<()> {
        self.waiting_bytes = 0;
        self.cache.0.store.put_all(&std::mem::take(&mut self.waiting))
    }
}

/// One line per materialization: the set and the id.
fn parse_kept(bytes: &[u8]) -> Option<Vec<(SetName, ContentId)>> {
    let line = |line: &str| {
        let (set, id) = line.split_once(' ')?;
        Some((set.parse().ok()?, id.parse().ok()?))
    };
    std::str::from_utf8(bytes).ok()?.lines().map(line).collect()
}

fn manifest_name(id: ContentId) -> Vec<u8> {
    format!("{LAYOUT}/manifest/{id}").into_bytes()
}

fn kept_name() -> Vec<u8> {
    format!("{LAYOUT}/kept").into_bytes()
}

fn name_of(kind: &str, group: CachedRows) -> Vec<u8> {
    format!("{LAYOUT}/{kind}/{}/{}", group.id, group.index).into_bytes()
}

fn numbered(name: &[u8], number: u64) -> Vec<u8> {
    [name, b"/", &number.to_be_bytes()].concat()
}

fn sealed(name: Vec<u8>, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let value = [&checksum(&name, value), value].concat();
    (name, value)
}

/// Covers the name too, so that a value under another name counts as damaged.
fn checksum(name: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(value).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::kv::{self, MemoryKv};

    /// Counts how often it is read.
    #[derive(Debug)]
    struct Counting(Arc<dyn KeyValue>, Arc<AtomicUsize>);

    impl KeyValue for Counting {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get(key)
        }

        fn put_all(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
            self.0.put_all(entries)
        }

        fn remove_prefix(&self, prefix: &[u8]) -> Result<()> {
            self.0.remove_prefix(prefix)
        }

        fn flush(&self) -> Result<()> {
            self.0.flush()
        }
    }

    /// A store of each kind.
    fn stores() -> [(TempDir, Arc<dyn KeyValue>); 2] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let stores = [
            Arc::new(MemoryKv::default()) as Arc<dyn KeyValue>,
            kv::open(dirs[1].path(), crate::claimed_dir::Owner::User).unwrap(),
        ];
        let [a, b] = dirs;
        let [memory, sled] = stores;
        [(a, memory), (b, sled)]
    }

    fn group(number: u64) -> CachedRows {
        CachedRows { id: ContentId::of(&number.to_le_bytes()), index: 0 }
    }

    fn filled(cache: &Cache, group: CachedRows, rows: u32) -> Directory {
        let mut filling = cache.fill(group);
        (0..rows).for_each(|i| filling.push(&(2 * i).to_be_bytes(), format!("row {i}").as_bytes()).unwrap());
        filling.finish().unwrap()
    }

    #[test]
    fn a_row_is_found_under_its_key_and_opening_does_not_read_the_rows() {
        for (_dir, store) in stores() {
            let reads = Arc::new(AtomicUsize::new(0));
            let cache = Cache::new(Arc::new(Counting(store, reads.clone()))).unwrap();
            for group in [group(1), CachedRows { index: 1, ..group(1) }] {
                let directory = filled(&cache, group, 10_000);
                reads.store(0, Ordering::Relaxed);
                assert_eq!(cache.directory(group).unwrap(), Some(directory.clone()));
                assert!(reads.load(Ordering::Relaxed) < 10);
                for i in (0..10_000_u32).step_by(77) {
                    let found = |key: u32| cache.find(group, &directory, &key.to_be_bytes()).unwrap();
                    assert_eq!(
                        (found(2 * i), found(2 * i + 1)),
                        (CachedRow::Row(format!("row {i}").into_bytes()), CachedRow::Nothing)
                    );
                }
            }
        }
    }

    #[test]
    fn the_rows_that_were_opened_last_stay_and_those_that_somebody_holds() {
        for (_dir, store) in stores() {
            let cache = Cache::new(store).unwrap();
            let (demand, other): (SetName, SetName) = ("demand_v1".parse().unwrap(), "other_v1".parse().unwrap());
            let open = |set: &SetName, number: u64| {
                let pin = cache.pin(group(number).id);
                cache.note_opened(set, group(number).id).unwrap();
                filled(&cache, group(number), 10);
                pin
            };
            let is_there = |number: u64| cache.directory(group(number)).unwrap().is_some();
            let held = open(&demand, 0);
            drop(open(&other, 100));
            (1..=12).for_each(|number| drop(open(&demand, number)));
            let there: Vec<u64> = (0..=12).filter(|number| is_there(*number)).collect();
            assert_eq!(there, [0, 6, 7, 8, 9, 10, 11, 12]);
            // Nothing of those that went is left, and another set has a number of its own.
            assert_eq!(cache.get(&numbered(&name_of("rows", group(5)), 0)).unwrap(), None);
            assert!(is_there(100) && cache.get(&numbered(&name_of("rows", group(6)), 0)).unwrap().is_some());
            // One that is opened again is among the last.
            drop(open(&demand, 6));
            drop(open(&demand, 13));
            assert!(is_there(6) && !is_there(7) && is_there(0));
            drop(held);
            drop(open(&demand, 14));
            assert!(!is_there(0));
        }
    }

    #[test]
    fn what_is_lost_or_damaged_is_never_taken_for_what_is_not_there() {
        for (_dir, store) in stores() {
            let cache = Cache::new(store.clone()).unwrap();
            let directory = filled(&cache, group(1), 1_000);
            let key = 2_u32.to_be_bytes();
            let name = numbered(&name_of("rows", group(1)), 0);
            let good = store.get(&name).unwrap().unwrap();
            let other = store.get(&numbered(&name_of("rows", group(1)), 1)).unwrap().unwrap();
            let mut flipped = good.clone();
            flipped[20] ^= 1;
            for damaged in [flipped, good[..40].to_vec(), Vec::new(), other] {
                store.put_all(&[(name.clone(), damaged)]).unwrap();
                assert_eq!(cache.find(group(1), &directory, &key).unwrap(), CachedRow::Lost);
            }
            store.remove_prefix(&name).unwrap();
            for key in [0, 1, 2, 3_u32] {
                assert_eq!(cache.find(group(1), &directory, &key.to_be_bytes()).unwrap(), CachedRow::Lost);
            }
            // A key after the last block's first one may only lie there.
            assert_eq!(cache.find(group(1), &directory, &u32::MAX.to_be_bytes()).unwrap(), CachedRow::Nothing);
            store.remove_prefix(&numbered(&name_of("directory", group(1)), 0)).unwrap();
            assert_eq!(cache.directory(group(1)).unwrap(), None);
            // A list that cannot be read makes nobody forget rows that nobody can find any more.
            store.put_all(&[(kept_name(), b"noise".to_vec())]).unwrap();
            cache.note_opened(&"demand_v1".parse().unwrap(), group(2).id).unwrap();
            assert_eq!(store.get(&numbered(&name_of("rows", group(1)), 1)).unwrap(), None);
        }
    }

    #[test]
    fn what_another_layout_has_left_is_removed() {
        for (_dir, store) in stores() {
            store.put_all(&[(b"asof1/row/x".to_vec(), b"old".to_vec()), (b"layout".to_vec(), b"asof1".to_vec())]).unwrap();
            let cache = Cache::new(store.clone()).unwrap();
            assert_eq!(store.get(b"asof1/row/x").unwrap(), None);
            filled(&cache, group(1), 10);
            let again = Cache::new(store).unwrap();
            assert!(again.directory(group(1)).unwrap().is_some());
        }
    }
}
