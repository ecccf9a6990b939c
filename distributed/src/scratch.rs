//! The scratch folder of an executor: its own folder for shuffle files and spilled rows.

use std::{
    fs::DirBuilder,
    io,
    path::{Path, PathBuf},
};

use ballista_core::error::{BallistaError, Result};
use tempfile::TempDir;

/// A folder within the one that the user names. It is removed when the executor stops.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes it in `parent`, or in the folder for temporary files.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
        let made = ensure(&parent).and_then(|()| tempfile::Builder::new().prefix("asof-executor-").tempdir_in(&parent));
        let folder = made.map_err(|error| {
            BallistaError::Configuration(format!(
                "the scratch folder {} (`--scratch`) cannot be used: {error}; name a folder that this process may write to",
                parent.display()
            ))
        })?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes it; that somebody else has done so is no error.
    pub(crate) fn close(self) -> io::Result<()> {
        match self.folder.close() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Makes a folder if it is not there: a cleaner of temporary folders may have removed it while the executor runs.
pub(crate) fn ensure(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_gone_is_made_again_and_may_be_gone_at_the_end() {
        let Ok(parent) = tempfile::tempdir() else { unreachable!() };
        let below = parent.path().join("a/b");
        let Ok(scratch) = Scratch::new(Some(&below)) else { unreachable!() };
        assert!(std::fs::remove_dir_all(parent.path().join("a")).is_ok());
        assert!(ensure(scratch.path()).is_ok() && scratch.path().is_dir());
        assert!(std::fs::remove_dir_all(&below).is_ok());
        assert!(scratch.close().is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let Ok(file) = tempfile::NamedTempFile::new() else { unreachable!() };
        let error = Scratch::new(Some(&file.path().join("x"))).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(&file.path().display().to_string()) && error.contains("--scratch"), "{error}");
    }
}
