//! The public surface: `public-api.txt` lists every public item of the library, so that a change of it is seen in review.
//!
//! ```text
//! cargo run --manifest-path .ci/public-api/Cargo.toml               compares, and says what has changed
//! cargo run --manifest-path .ci/public-api/Cargo.toml -- --record   records the surface as the sources have it now
//! ```

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode};

mod listing;
mod text;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (file, found) = (root.join("public-api.txt"), listing::listing(&root.join("src/lib.rs"), "asof"));
    if env::args().any(|arg| arg == "--record") {
        return match fs::write(&file, found) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("`{}` cannot be written: {error}", file.display())),
        };
    }
    let recorded = match fs::read_to_string(&file) {
        Ok(recorded) => recorded,
        Err(error) => return failed(&format!("`{}` cannot be read: {error}", file.display())),
    };
    if recorded == found {
        return ExitCode::SUCCESS;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (old, new) = (lines(&recorded), lines(&found));
    let gone: String = old.difference(&new).map(|line| format!("- {line}\n")).collect();
    let added: String = new.difference(&old).map(|line| format!("+ {line}\n")).collect();
    failed(&format!(
        "the public surface is not the one in public-api.txt:\n{gone}{added}If this is meant, say so in CHANGELOG.md and record it:\n  \
         cargo run --manifest-path .ci/public-api/Cargo.toml -- --record"
    ))
}

fn failed(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::{listing::listing, *};

    #[test]
    fn the_listing_follows_modules_and_imports() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "lib.rs",
            "mod inner;
             pub mod open { pub use super::inner::*; pub(crate) fn hidden() {} }
             #[cfg(feature = \"more\")] mod more { pub enum Choice { One, Two(u8), Three { x: Vec<u8> } } }
             #[cfg(feature = \"more\")] pub use more::Choice as Pick;
             pub use inner::deep::{self, Shape};
             pub use other::{self as another, Thing};
             made!(Shape);
             #[cfg(test)] mod tests { pub struct Test; }",
        );
        write(
            "inner/mod.rs",
            "pub mod deep;
             struct Private;
             pub use self::deep::Shape;
             impl From<Private> for Shape<u8> { fn from(_: Private) -> Self { unreachable!() } }
             impl<T> std::ops::Deref for Shape<T> where T: Clone { type Target = T; }
             impl From<Shape<u8>> for other::Thing { fn from(_: Shape<u8>) -> Self { unreachable!() } }",
        );
        write(
            "inner/deep.rs",
            "#[derive(Debug, Clone)] #[non_exhaustive] pub struct Shape<T = u8> { pub sides: Option<&'static [T]>, area: f64 }
             impl<T> Shape<T> {
                 #[must_use] pub fn with<'a, F>(mut self, mut f: F) -> Result<Box<dyn Fn(&'a mut [u8]) -> (u8, T) + Send>, ()>
                     where F: FnOnce() -> T { unreachable!() }
                 fn secret(&self) {}
                 #[cfg(feature = \"more\")] pub const SIDES: usize = 3;
             }
             pub trait Draw: Send + Sync { type Ink: Clone; fn draw(&self); async fn twice(&mut self) { } }
             impl Draw for Shape<u8> { fn draw(&self) {} }",
        );
        let expected = "\
            impl From<Shape<u8>> for other::Thing\n\
            pub mod it::deep\n\
            pub trait it::deep::Draw: Send + Sync\n\
            pub type it::deep::Draw::Ink: Clone\n\
            pub fn it::deep::Draw::draw(&self)\n\
            pub async fn it::deep::Draw::twice(&mut self) { .. }\n";
        let found = listing(&dir.path().join("lib.rs"), "it");
        for line in expected.lines().chain([
            "#[cfg(feature = \"more\")] pub enum it::Pick",
            "#[cfg(feature = \"more\")] pub it::Pick::One",
            "#[cfg(feature = \"more\")] pub it::Pick::Two(u8)",
            "#[cfg(feature = \"more\")] pub it::Pick::Three { x: Vec<u8> }",
            "#[non_exhaustive] pub struct it::Shape<T = u8> { .. }",
            "derive(Clone, Debug) for it::Shape",
            "pub it::Shape::sides: Option<&'static [T]>",
            "#[cfg(feature = \"more\")] pub const it::Shape::SIDES: usize",
            "#[must_use] pub fn it::Shape::with<'a, F>(self, f: F) -> Result<Box<dyn Fn(&'a mut [u8]) -> (u8, T) + Send>, ()> \
             where F: FnOnce() -> T",
            "impl Draw for it::Shape<u8>",
            "impl<T> std::ops::Deref for it::Shape<T> where T: Clone",
            "pub use it::Shape as it::deep::Shape",
            "pub use it::Shape as it::open::Shape",
            "pub mod it::open",
            "pub mod it::open::deep",
            "pub use other as it::another",
            "pub use other::Thing as it::Thing",
            "made!(Shape) in the root",
        ]) {
            assert!(found.lines().any(|l| l == line), "{line} is missing in:\n{found}");
        }
        for word in ["hidden", "secret", "Private", "area", "Test", "it::inner"] {
            assert!(!found.contains(word), "{word} in:\n{found}");
        }
    }
}
