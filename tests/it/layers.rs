//! The layers of ARCHITECTURE.md: a module uses only those above it, and which crates are named in one file or room.

use std::{fs, path::Path};

/// From the top down. A module uses only modules of the rows above it: modules of one row do not use each other.
const LAYERS: &[&[&str]] = &[
    &["error", "time"],
    &["name", "value", "kv"],
    &["storage"],
    &["engine", "cache"],
    &["catalog", "ingest"],
    &["ddl", "workspace"],
    &["scan", "extract"],
    &["temporal"],
    &["sql", "encoder"],
    &["feature_set"],
    &["manifest"],
    &["materialize", "ctas", "lineage", "gc", "shards"],
    &["training", "online"],
    &["backtest"],
    &["report"],
    &["store"],
];

/// Modules that use each other all the same. The list may only become shorter.
const CIRCLES: &[[&str; 2]] = &[["error", "time"], ["catalog", "ingest"]];

fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn library() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut found);
    found
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every module named in `crate::…` paths of a text, whether in a `use` or in an expression.
fn used_modules(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        // `pub(crate)` is no path, and `$crate` none of ours.
        let rest = &code[at + "crate::".len()..];
        let mut depth_one = Vec::new();
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if depth == 0 && start && (c.is_alphabetic() || c == '_') => {
                        depth_one.push(&group[i..]);
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            depth_one.push(rest);
        }
        for path in depth_one {
            used.push(path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used
}

#[test]
fn a_module_uses_only_the_layers_above_its_own() {
    let mut wrong = Vec::new();
    for (path, text) in library() {
        let inside = path.split("/src/").last().unwrap();
        let module = inside.split(['/', '.']).next().unwrap();
        if module == "lib" {
            continue;
        }
        let own = layer_of(module).unwrap_or_else(|| panic!("{inside}: `{module}` is in no layer; give it one"));
        for used in used_modules(&text) {
            let is_circle = CIRCLES.iter().any(|circle| circle.contains(&module) && circle.contains(&used.as_str()));
            match layer_of(&used) {
                _ if used == module || is_circle => {}
                Some(layer) if layer < own => {}
                Some(layer) if layer == own => wrong.push(format!("{inside} uses `{used}`, which lies beside it")),
                Some(_) => wrong.push(format!("{inside} uses `{used}`, which lies below it")),
                None => wrong.push(format!("{inside} uses `crate::{used}`; name it by its module")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_what_it_should() {
    let text = "use crate::{\n    catalog::{Catalog, Column},\n    error::Result,\n};\nuse crate::time::AsOf;\nlet x = crate::name::A;\n// crate::store\n";
    assert_eq!(used_modules(text), ["catalog", "error", "time", "name"]);
}

#[test]
fn sled_and_linfa_are_each_named_in_one_file() {
    for (word, allowed) in [("sled::", "kv/sled.rs"), ("linfa", "backtest/linfa_learner.rs")] {
        for (path, text) in library() {
            let inside = path.split("/src/").last().unwrap();
            let names_it = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            let is_module_line = |line: &str| {
                line.contains("mod sled")
                    || line.contains("linfa_learner")
                    || line.contains("    sled::{Failure, SledKv},")
                    || line.trim() == "#[cfg(feature = \"linfa\")]"
            };
            let only_modules = text.lines().filter(|l| !l.trim_start().starts_with("//") && l.contains(word)).all(is_module_line);
            assert!(!names_it || inside == allowed || only_modules, "{inside} names {word}");
        }
    }
}

#[test]
fn the_syntax_of_sql_is_named_in_sql_and_ddl_alone() {
    for (path, text) in library() {
        let inside = path.split("/src/").last().unwrap();
        let is_room = ["sql/", "ddl/"].iter().any(|room| inside.starts_with(room));
        let names = |word: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        assert!(is_room || !names("sqlparser"), "{inside} names sqlparser");
        assert!(!inside.starts_with("temporal/") || !names("sql::"), "{inside} names SQL");
    }
}
