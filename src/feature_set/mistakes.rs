//! Collects all mistakes of a definition, so that `build` reports them at once.
//! What kind of mistake there is, the builders, sources and steps say.

use std::collections::BTreeMap;

use crate::{
    error::{Error, Result},
    name::{SetName, TableName, shown},
};

/// The mistakes that were found so far.
pub(super) struct Mistakes {
    /// The set's name as it was given, which may be a mistake itself.
    set: String,
    /// Names that cannot be used.
    names: Vec<Error>,
    /// What contradicts itself or is missing.
    reasons: Vec<String>,
    /// Steps that fail on the fixed inputs, and views that cannot be read.
    steps: Vec<Error>,
}

impl Mistakes {
    /// Begins with the set's name and the tables that it reads.
    pub(super) fn of<'a>(set: &str, tables: impl IntoIterator<Item = &'a String>) -> Self {
        let mut found = Self { set: shown(set), names: Vec::new(), reasons: Vec::new(), steps: Vec::new() };
        found.names.extend(set.parse::<SetName>().err());
        let mut seen: Vec<&String> = Vec::new();
        for table in tables {
            if !seen.contains(&table) {
                seen.push(table);
                found.names.extend(table.parse::<TableName>().err().map(|e| of_set(e, &found.set)));
            }
        }
        found
    }

    /// The set's name, for errors.
    pub(super) fn set(&self) -> &str {
        &self.set
    }

    /// Adds something that contradicts itself or is missing.
    pub(super) fn add(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    /// Adds several of them.
    pub(super) fn extend(&mut self, reasons: impl IntoIterator<Item = String>) {
        self.reasons.extend(reasons);
    }

    /// Adds errors of steps and views.
    pub(super) fn steps(&mut self, errors: Vec<Error>) {
        self.steps.extend(errors);
    }

    /// Adds each name that several columns have. Columns are pairs of a name and of what has it.
    pub(super) fn named_twice(&mut self, columns: impl IntoIterator<Item = (String, String)>) {
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, what) in columns {
            by_name.entry(name).or_default().push(what);
        }
        for (name, what) in by_name.into_iter().filter(|(_, what)| what.len() > 1) {
            let count = if what.len() == 2 { "two".to_owned() } else { what.len().to_string() };
            let each = if what.len() == 2 { "give one of them another name" } else { "give each a name of its own" };
            self.add(format!("{count} of its columns are called `{name}` ({}); {each}", what.join(" and ")));
        }
    }

    /// Refuses the set with all of its mistakes.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::Definition`] with everything that contradicts itself or is missing, or [`Error::Step`];
    /// [`Error::Mistakes`] if there are several of them.
    pub(super) fn refuse(self) -> Result<()> {
        let subject = format!("feature set `{}`", self.set);
        let mut all = self.names;
        if !self.reasons.is_empty() {
            all.push(Error::Definition { subject: subject.clone(), reason: self.reasons.join("; and ") });
        }
        all.extend(self.steps);
        Error::all(&subject, all)
    }
}

/// The error of a table's name, with the set that reads the table.
fn of_set(error: Error, set: &str) -> Error {
    match error {
        Error::InvalidName { what, value, reason } => {
            Error::InvalidName { what, value, reason: format!("{reason} (feature set `{set}` reads it)") }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_is_itself_and_several_kinds_are_listed() {
        assert!(Mistakes::of("a_v1", &["t".to_owned()]).refuse().is_ok());

        let bad = Mistakes::of("a_v1", &["-".to_owned(), "-".to_owned()]).refuse().unwrap_err();
        assert!(matches!(&bad, Error::InvalidName { what: "table", .. }), "{bad:?}");
        assert!(bad.to_string().contains("feature set `a_v1` reads it"), "{bad}");

        let mut reasons = Mistakes::of("a_v1", &[]);
        reasons.add("x");
        reasons.extend(["y".to_owned()]);
        let told = reasons.refuse().unwrap_err();
        assert!(matches!(told, Error::Definition { .. }) && told.to_string() == "feature set `a_v1`: x; and y", "{told}");

        let mut all = Mistakes::of("a", &["-".to_owned()]);
        all.add("x");
        all.steps(vec![Error::Step { set: "a".into(), step: "log".into(), reason: "z".into(), cause: None }]);
        let all = all.refuse().unwrap_err();
        let Error::Mistakes { subject, mistakes } = &all else { panic!("{all:?}") };
        assert_eq!((subject.as_str(), mistakes.len()), ("feature set `a`", 4), "{all}");
    }

    #[test]
    fn columns_of_one_name_are_all_named() {
        let mut found = Mistakes::of("a_v1", &[]);
        let columns = [("x", "a label"), ("y", "a key"), ("x", "the event time"), ("z", "a"), ("z", "b"), ("z", "c")];
        found.named_twice(columns.map(|(name, what)| (name.to_owned(), what.to_owned())));
        assert_eq!(
            found.reasons,
            [
                "two of its columns are called `x` (a label and the event time); give one of them another name",
                "3 of its columns are called `z` (a and b and c); give each a name of its own",
            ]
        );
    }
}
