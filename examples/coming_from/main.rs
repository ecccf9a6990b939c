//! Definitions of Chronon's, OpenMLDB's and Kaskada's kind, on generated data: loaded, registered, materialized, made into
//! training sets and read online. Each value is compared with a plain computation over the same facts.
//!
//! ```text
//! cargo run --example coming_from
//! ```
//!
//! The pages `docs/coming-from-*.md` have the definitions side by side, and say what differs and why.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod check;
mod chronon;
mod facts;
mod kaskada;
mod openmldb;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use asof::{FeatureStore, StoreOptions};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    chronon::run(&store(dir.path(), "chronon").await?, &folder(dir.path(), "chronon")?).await?;
    openmldb::run(&store(dir.path(), "openmldb").await?, &folder(dir.path(), "openmldb")?).await?;
    kaskada::run(&store(dir.path(), "kaskada").await?, &folder(dir.path(), "kaskada")?).await
}

/// A store of its own for each system.
async fn store(dir: &Path, name: &str) -> asof::Result<FeatureStore> {
    let root = dir.join(format!("{name}_store"));
    FeatureStore::open_with(&root.to_string_lossy(), StoreOptions::default().cache_in_memory()).await
}

/// A folder for the files that are loaded.
fn folder(dir: &Path, name: &str) -> std::io::Result<PathBuf> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
