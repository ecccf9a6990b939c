//! Staging files: a file is written under a random name before it gets its final one. A staging file is always new. An existing
//! one is never opened for writing: after a crash it may be a second link to a published file.

use std::{
    fs::{File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::layout::staging_suffix;

/// Two writers do not draw the same 128 bits in practice; a writer that finds an existing file draws again.
const ATTEMPTS: usize = 16;

/// 128 random bits as 39 decimal digits. Processes with equal ids, as in containers, draw different ones.
pub(crate) fn chance() -> String {
    // The standard library takes these keys from the operating system for each thread, and increments them.
    let half = || u128::from(RandomState::new().hash_one("asof"));
    format!("{:039}", (half() << 64) | half())
}

/// Creates a new file, under a name that `name` makes of some digits.
pub(crate) fn create_new(name: impl Fn(&str) -> PathBuf) -> std::io::Result<(File, PathBuf)> {
    create_drawn(name, chance)
}

fn create_drawn(name: impl Fn(&str) -> PathBuf, draw: impl Fn() -> String) -> std::io::Result<(File, PathBuf)> {
    for _ in 0..ATTEMPTS {
        let path = name(&draw());
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (file, path)),
        }
    }
    Err(std::io::Error::new(ErrorKind::AlreadyExists, "no unused name was found for a new file"))
}

/// Creates the staging file of a target.
pub(super) fn stage(target: &Path) -> std::io::Result<(File, PathBuf)> {
    create_new(|digits| {
        let mut path = target.as_os_str().to_owned();
        path.push(staging_suffix(digits));
        path.into()
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn names_differ() {
        let drawn: BTreeSet<String> = (0..1_000).map(|_| chance()).collect();
        assert_eq!(drawn.len(), 1_000);
        assert!(drawn.iter().all(|digits| digits.len() == 39 && digits.bytes().all(|b| b.is_ascii_digit())));
    }

    #[test]
    fn a_file_that_is_there_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let name = |digits: &str| dir.path().join(digits);
        std::fs::write(name("0"), "published").unwrap();
        // A source of names that begins with one that is taken.
        let count = AtomicU32::new(0);
        let (_, path) = create_drawn(name, || count.fetch_add(1, Ordering::Relaxed).to_string()).unwrap();
        assert_eq!((path, std::fs::read(name("0")).unwrap()), (name("1"), b"published".to_vec()));
        assert!(create_drawn(name, || "0".into()).is_err());
        assert_eq!(std::fs::read(name("0")).unwrap(), b"published");
    }
}
