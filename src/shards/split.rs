//! Divides files, in their order, into shards of the same number of bytes.
//! Only sizes matter here; the reader decides between which row groups a file is divided.

/// A piece of a file: the file's index, its first byte, and the byte after its last.
pub(super) type FileRange = (usize, u64, u64);

/// `count` shards whose sizes differ by a byte at most; together they hold every byte once.
pub(super) fn even(sizes: &[u64], count: usize) -> Vec<Vec<FileRange>> {
    let total: u64 = sizes.iter().sum();
    let edge = |shard: usize| (u128::from(total) * shard as u128 / count as u128) as u64;
    let piece_of = |first: u64, last: u64| {
        let mut before = 0_u64;
        let pieces = sizes.iter().enumerate().filter_map(move |(file, &size)| {
            let (start, end) = (first.max(before) - before, last.min(before + size).saturating_sub(before));
            before += size;
            (start < end).then_some((file, start, end))
        });
        pieces.collect::<Vec<_>>()
    };
    (0..count).map(|shard| piece_of(edge(shard), edge(shard + 1))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_in_one_shard_and_shards_are_even(sizes in prop::collection::vec(0_u64..1_000, 0..20), count in 1_usize..12) {
            let shards = even(&sizes, count);
            prop_assert_eq!(shards.len(), count);
            let lengths: Vec<u64> = shards.iter().map(|pieces| pieces.iter().map(|(_, start, end)| end - start).sum()).collect();
            prop_assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
            let bytes: Vec<(usize, u64)> = shards.iter().flatten().flat_map(|&(file, start, end)| (start..end).map(move |byte| (file, byte))).collect();
            let all: Vec<(usize, u64)> = sizes.iter().enumerate().flat_map(|(file, &size)| (0..size).map(move |b| (file, b))).collect();
            prop_assert_eq!(bytes, all);
        }
    }
}
