//! Pictures as PNG files, each written in one step.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use plotters::backend::{BitMapBackend, DrawingBackend};

/// Why a picture was not written; [`fmt::Display`] names the file.
#[derive(Debug)]
pub struct PlotError {
    path: PathBuf,
    reason: String,
}

impl PlotError {
    pub(super) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        let (path, reason) = (path.to_path_buf(), reason.to_string());
        Self { path, reason }
    }
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plot {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for PlotError {}

/// Writes pixels (red, green, blue; row by row) as a PNG of this size, replacing `path` in one step.
pub(super) fn blit(path: &Path, size: (u32, u32), picture: &[u8]) -> Result<(), PlotError> {
    let fail = |reason: String| PlotError::new(path, reason);
    let name = path.file_name().ok_or_else(|| fail("the path names no file".to_owned()))?;
    let parent = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        let dir = parent.display();
        return Err(fail(format!("directory {dir} does not exist")));
    }
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp.png", crate::storage::chance()));
    let temporary = parent.join(temporary);
    let saved = save(&temporary, size, picture);
    saved.and_then(|()| std::fs::rename(&temporary, path).map_err(|e| e.to_string())).map_err(|reason| {
        // The write has failed already; a leftover that cannot be removed adds nothing.
        let _ = std::fs::remove_file(&temporary);
        fail(reason)
    })
}

fn save(path: &Path, size: (u32, u32), picture: &[u8]) -> Result<(), String> {
    let mut backend = BitMapBackend::new(path, size);
    backend.blit_bitmap((0, 0), size, picture).map_err(text_of)?;
    backend.present().map_err(text_of)?;
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(text_of)
}

pub(super) fn text_of(error: impl fmt::Display) -> String {
    error.to_string()
}
