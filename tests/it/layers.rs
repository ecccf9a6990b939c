//! The layers of ARCHITECTURE.md: a module uses only those above it. What one file or room alone may name: two crates, the syntax
//! of SQL, the paths below a root, the system's clock.

use std::{fs, path::Path};

/// From the top down. A module uses only modules of the rows above it: modules of one row do not use each other.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["time", "numeric", "claimed_dir", "text_table"],
    &["name", "value", "kv"],
    &["layout"],
    &["storage"],
    &["engine", "served"],
    &["cache"],
    &["catalog"],
    &["ingest"],
    &["ddl", "workspace"],
    &["scan", "extract"],
    &["temporal"],
    &["sql", "encoder"],
    &["feature_set"],
    &["manifest"],
    &["materialize", "ctas", "lineage", "gc", "shards", "cluster"],
    &["training", "online"],
    &["backtest", "models"],
    &["parity"],
    &["report"],
    &["store"],
];

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
            match layer_of(&used) {
                _ if used == module => {}
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
fn sled_and_linfa_are_named_where_they_are_used() {
    let linfa = ["backtest/linfa_learner.rs", "encoder/k_means.rs", "encoder/pca.rs"];
    for (word, allowed) in [("sled::", ["kv/sled.rs"].as_slice()), ("linfa", &linfa)] {
        for (path, text) in library() {
            let inside = path.split("/src/").last().unwrap();
            let is_module_line = |line: &str| {
                line.contains("mod sled")
                    || line.contains("linfa_learner")
                    || line.contains("    sled::{Failure, SledKv},")
                    || line.trim() == "#[cfg(feature = \"linfa\")]"
            };
            let mut naming = text.lines().filter(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(allowed.contains(&inside) || naming.all(is_module_line), "{inside} names {word}");
        }
    }
}

/// What a path below a root, or the name of a temporary file, is told by. Only `src/layout.rs` spells it.
const PATH_PARTS: &[&str] = &[
    ".asof-cache",
    "asof-scratch-",
    "artifact.bin",
    "asof.json",
    "binding.json",
    "catalog",
    "definitions",
    "extract.json",
    "extracts",
    "facts",
    "manifest.json",
    "materialized",
    "model.json",
    "models",
    "partials",
    "quality",
    "quarantine",
    "rejects",
    "served",
    "training",
];

/// Texts that are such a word and no path: the file, the text, and what it is.
const OTHER_MEANINGS: &[(&str, &str, &str)] = &[
    ("catalog/expectation.rs", "quarantine", "how `OnViolation` is displayed"),
    ("ingest/check/unique.rs", "facts", "the name of a table in a session"),
    ("sql/trailing/text_arguments.rs", "facts", "a word of a window's length"),
    ("temporal/fact_input.rs", "facts", "the subject of a message"),
    ("temporal/length_text.rs", "facts", "a part of a definition"),
];

/// The library's code without comments, attributes of errors and test modules, as file and text.
fn code_without_tests() -> Vec<(String, String)> {
    let inside = |path: &str| path.split("/src/").last().unwrap().to_owned();
    let files = library().into_iter().map(|(path, text)| (inside(&path), text));
    let files = files.filter(|(path, _)| !path.ends_with("/tests.rs"));
    let code = |text: String| {
        let library = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        library.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    };
    files.map(|(path, text)| (path, code(text))).collect()
}

/// The string literals of a text, with escapes as they are written.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut chars) = (Vec::new(), code.chars().peekable());
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            // The quote of a `char`: '"', b'"', '\"'.
            '"' if before == '\'' && chars.peek() == Some(&'\'') => {}
            '\\' if before == '\'' => {
                chars.next();
            }
            '"' => {
                let mut literal = String::new();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    literal.push(c);
                    if c == '\\' {
                        literal.extend(chars.next());
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
        before = c;
    }
    found
}

/// Does a text spell the name of a file or folder below a root, alone or as a part of a path?
fn spells_a_path(literal: &str) -> bool {
    let is_version = literal.starts_with("v{") && literal.ends_with(".json");
    let is_part = literal.starts_with("part-") || literal.ends_with("}.parquet") || literal.ends_with("}.csv");
    is_version || is_part || literal.split('/').any(|part| PATH_PARTS.contains(&part))
}

#[test]
fn the_paths_below_a_root_are_spelled_in_one_file() {
    let mut wrong = Vec::new();
    let mut other_meanings = Vec::new();
    for (path, code) in code_without_tests().into_iter().filter(|(path, _)| path != "layout.rs") {
        for literal in literals(&code).into_iter().filter(|literal| spells_a_path(literal)) {
            match OTHER_MEANINGS.iter().find(|(file, text, _)| *file == path && *text == literal) {
                Some(known) => other_meanings.push(known),
                None => wrong.push(format!("{path} spells \"{literal}\"; use `crate::layout`")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> = OTHER_MEANINGS.iter().filter(|known| !other_meanings.contains(known)).collect();
    assert!(unused.is_empty(), "no longer needed: {unused:?}");
}

#[test]
fn spelled_paths_are_found() {
    let code = r#"let a = b'"'; f("x", 'y', "a \" b"); format!("facts/{}/{path}", 1); let c = ['\'', '\\']; "end""#;
    assert_eq!(literals(code), ["x", r#"a \" b"#, "facts/{}/{path}", "end"]);
    for path in ["facts/{}/{path}", "catalog", "v{version:0DIGITS$}.json", "{folder}/{}-{:05}.parquet", ".asof-cache/"] {
        assert!(spells_a_path(path), "{path}");
    }
    for text in ["the facts", ".parquet", "{}-catalog", "facts_rows"] {
        assert!(!spells_a_path(text), "{text}");
    }
}

/// The files that name the system's clock, and why.
const CLOCKS: &[(&str, &str)] = &[
    ("storage/disk_cache.rs", "`DiskCache::open` is given no clock"),
    ("storage/local_file.rs", "compares with times that the file system took from that clock"),
    ("store/mod.rs", "the default of `StoreOptions::clock`"),
    ("time/clock.rs", "reads it"),
    ("time/mod.rs", "makes it public"),
];

#[test]
fn the_time_comes_from_a_clock_that_was_given() {
    for (path, code) in code_without_tests() {
        for read in ["Utc::now", "Local::now", "SystemTime::now", "UNIX_EPOCH.elapsed"] {
            assert!(!code.contains(read) || path == "time/clock.rs", "{path} calls `{read}`: take a `Clock`, or the instant");
        }
        for measured in ["Instant::now", ".elapsed()"] {
            assert!(!code.contains(measured) || path == "storage/statistics.rs", "{path} calls `{measured}`");
        }
        let is_allowed = CLOCKS.iter().any(|(file, _)| *file == path);
        assert_eq!(code.contains("SystemClock"), is_allowed, "{path}: see `CLOCKS`");
        let may_allow = ["time/clock.rs", "storage/statistics.rs"].contains(&path.as_str());
        assert_eq!(code.contains("clippy::disallowed_methods"), may_allow, "{path} allows methods that clippy.toml disallows");
    }
}

#[test]
fn the_syntax_of_sql_is_named_in_sql_and_ddl_alone() {
    // Whoever gives the engine SQL bounds its depth first, `temporal` too.
    for (path, text) in library() {
        let inside = path.split("/src/").last().unwrap();
        let is_room = ["sql/", "ddl/", "engine/sql_depth.rs"].iter().any(|room| inside.starts_with(room));
        let names = |word: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        assert!(is_room || !names("sqlparser"), "{inside} names sqlparser");
        assert!(!inside.starts_with("temporal/") || !names("sql::"), "{inside} names SQL");
    }
}
