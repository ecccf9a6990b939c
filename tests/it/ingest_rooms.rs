//! The rooms of `src/ingest`: a file imports only from its own room and from the rows above it.

use std::{fs, path::Path};

/// From the bottom up. Modules of one row do not use each other, except in the first row.
const ROWS: &[&[&str]] = &[
    &[
        "excerpt",
        "fact_files",
        "limits",
        "load",
        "mode",
        "names",
        "options",
        "queue",
        "read_back",
        "rejects",
        "row_check",
        "sources",
        "target",
        "time_format",
    ],
    &["read", "check", "write"],
    &["plan"],
    &["outcome"],
    &["commit"],
    &["compact", "expectations", "run"],
];

fn row_of(room: &str) -> usize {
    ROWS.iter().position(|row| row.contains(&room)).unwrap_or_else(|| panic!("`ingest::{room}` is in no row; give it one"))
}

/// The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expanded(tree: &str, before: &[&str], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((path, group)) = tree.split_once('{') else {
        found.push(before.iter().copied().chain(tree.split("::")).map(|part| part.trim().to_owned()).collect());
        return;
    };
    let path: Vec<&str> = before.iter().copied().chain(path.split("::").map(str::trim).filter(|part| !part.is_empty())).collect();
    let (mut depth, mut start) = (0, 0);
    let group = &group[..group.rfind('}').unwrap()];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expanded(&group[start..at], &path, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        expanded(&group[start..], &path, found);
    }
}

/// The modules of `ingest` that a file imports from; `own` is its path below `src`, as modules.
fn imported(text: &str, own: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let is_import = matches!(text[line..at].trim(), "" | "pub" | "pub(crate)" | "pub(super)");
        if let Some(end) = text[at..].find(';').filter(|_| is_import) {
            expanded(&text[at + "use ".len()..at + end], &[], &mut paths);
        }
    }
    let below_ingest = |path: Vec<String>| {
        let mut parts = path.iter().map(String::as_str).peekable();
        let mut module: Vec<&str> = match parts.peek() {
            Some(&"crate") => {
                parts.next();
                Vec::new()
            }
            Some(&"super") => own.to_vec(),
            _ => return None,
        };
        while parts.next_if_eq(&"super").is_some() {
            module.pop();
        }
        module.extend(parts);
        (module.len() > 2 && module[0] == "ingest").then(|| module[1].to_owned())
    };
    paths.into_iter().filter_map(below_ingest).collect()
}

fn sources(dir: &Path, own: &[&str], found: &mut Vec<(Vec<String>, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let own: Vec<&str> = own.iter().copied().chain((stem != "mod").then_some(stem.as_str())).collect();
        if path.is_dir() {
            sources(&path, &own, found);
        } else {
            found.push((own.iter().map(|part| (*part).to_owned()).collect(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn rooms_of_ingest_use_what_is_below_them_and_not_each_other() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/ingest"), &["ingest"], &mut files);
    let mut wrong = Vec::new();
    for (own, text) in files.iter().filter(|(own, _)| own.len() > 1) {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        // Imports of a test module count from the file; `super` there is the file itself.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for used in imported(text, &own).iter().filter(|used| *used != own[1]) {
            let (own_row, row) = (row_of(own[1]), row_of(used));
            if row > own_row || (row == own_row && row > 0) {
                wrong.push(format!("{} uses `ingest::{used}`", own.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_groups_and_behind_super() {
    let text = "use super::{load::Ingest, read::{open::a, tokens::b}};\nuse crate::{error::Result, ingest::{queue::Sink}};\n";
    assert_eq!(imported(text, &["ingest", "run"]), ["load", "read", "read", "queue"]);
    assert_eq!(imported("use super::open::a;\n", &["ingest", "read", "reader"]), ["read"]);
}
