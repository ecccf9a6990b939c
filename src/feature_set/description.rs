//! What a definition says about itself for people: an owner, a description, and a unit, a text and tags for each of its columns.
//! None of it is part of the fingerprint, so correcting a comment makes no new version.

use serde::Serialize;

/// What people should know about a feature or a label. It changes no value and is not part of the fingerprint.
///
/// ```
/// use asof::feature_set::Description;
/// let distance = Description::new().unit("miles").text("By the taximeter").tag("geo");
/// assert_eq!(distance.unit.as_deref(), Some("miles"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[must_use]
#[non_exhaustive]
pub struct Description {
    /// The unit of the values: "miles", "USD", "trips".
    pub unit: Option<String>,
    /// What the values mean.
    pub text: Option<String>,
    /// Words by which people group features, in the order in which they were added.
    pub tags: Vec<String>,
}

impl Description {
    /// A description that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The unit of the values. The last one that is given counts.
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// What the values mean. The last text that is given counts.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Adds a tag. A tag that is there already is not added again.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self
    }
}

/// All that a definition says for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) owner: Option<String>,
    pub(crate) text: Option<String>,
    /// By feature or label.
    pub(crate) columns: Vec<(String, Description)>,
}

impl Notes {
    /// The description of a feature or label.
    pub(crate) fn of(&self, column: &str) -> Option<&Description> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, description)| description)
    }

    /// Columns that are described and do not exist, or are described twice. `known` are the features and labels.
    pub(super) fn mistakes(&self, known: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for (i, (name, _)) in self.columns.iter().enumerate() {
            if self.columns[..i].iter().any(|(before, _)| before == name) {
                found.push(format!("`{name}` is described twice: describe it once, with all that there is to say"));
            } else if !known.contains(name) {
                let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let all = if known.is_empty() { "it has none".to_owned() } else { format!("these are {known}") };
                found.push(format!("it describes `{name}`, which is neither a feature nor a label of it: {all}"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unit_and_text_count_and_a_tag_is_added_once() {
        let described = Description::new().unit("km").unit("miles").text("a").text("b").tag("geo").tag("trip").tag("geo");
        assert_eq!(described.unit.as_deref(), Some("miles"));
        assert_eq!(described.text.as_deref(), Some("b"));
        assert_eq!(described.tags, ["geo", "trip"]);
    }

    #[test]
    fn only_columns_that_exist_can_be_described_and_each_once() {
        let columns = ["fare", "fares", "fare"].map(|name| (name.to_owned(), Description::new()));
        let notes = Notes { columns: columns.into(), ..Notes::default() };
        let found = notes.mistakes(&["fare".to_owned(), "tip".to_owned()]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`fares`") && found[0].contains("`fare`, `tip`"), "{found:?}");
        assert!(found[1].contains("`fare` is described twice"), "{found:?}");
        assert!(notes.of("fare").is_some() && notes.of("tip").is_none());
    }
}
