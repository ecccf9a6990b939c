//! The definition that made a materialization, as far as a store knows it. Rows are read without it; serving needs it.

use std::sync::Arc;

use serde_json::Value;

use super::binding;
use crate::{
    error::{Error, Result},
    feature_set::{FeatureSet, Fingerprint, difference},
    manifest::{EngineVersions, Manifest},
    name::SetName,
    workspace::Workspace,
};

/// The definition that made a materialization.
#[derive(Clone)]
pub(crate) enum Definition {
    Known(Box<FeatureSet>),
    /// No set of the name is registered; these are.
    NotRegistered {
        registered: Vec<String>,
    },
    /// The one that is registered under the name is another one. It differs in these parts, if they are known.
    Other {
        differs: Option<String>,
    },
}

impl Definition {
    /// The definition of a materialization that this set has made.
    pub(crate) fn of(set: &FeatureSet) -> Self {
        Self::Known(Box::new(set.clone()))
    }

    /// The definition of a published materialization, which is `registered` if that has its fingerprint. `names` are those of all
    /// registered sets.
    pub(crate) async fn find(
        workspace: &Workspace,
        manifest: &Manifest,
        registered: Option<FeatureSet>,
        names: Vec<String>,
    ) -> Result<Self> {
        Ok(match registered {
            None => Self::NotRegistered { registered: names },
            Some(set) if set.fingerprint == manifest.fingerprint => Self::Known(Box::new(set)),
            Some(set) => {
                let declared = DeclaredThen::read(workspace, &manifest.set).await?;
                Self::Other { differs: declared.difference(&manifest.fingerprint, &set) }
            }
        })
    }

    /// The definition.
    ///
    /// # Errors
    /// [`Error::UnknownFeatureSet`] and [`Error::MadeOtherwise`] when it is not known.
    pub(crate) fn set(&self, manifest: &Manifest) -> Result<&FeatureSet> {
        match self {
            Self::Known(set) => Ok(set),
            Self::NotRegistered { registered } => {
                Err(Error::UnknownFeatureSet { name: manifest.set.to_string(), known: registered.clone() })
            }
            Self::Other { differs } => Err(Error::MadeOtherwise {
                subject: shown(manifest),
                reason: format!(
                    "was made by another definition than the one that is registered{}; its rows can be read, and to serve or to \
                     replay it, register the definition that made it with another handle of the store",
                    differs.as_ref().map_or_else(String::new, |parts| format!(": {parts}")),
                ),
            }),
        }
    }
}

/// A materialization as messages name it.
pub(super) fn shown(manifest: &Manifest) -> String {
    format!("the materialization {} of `{}` as of {}", manifest.id, manifest.set, manifest.as_of)
}

/// Refuses a materialization that another engine has made.
///
/// # Errors
/// [`Error::MadeOtherwise`] names both engines.
pub(super) fn check_engine(manifest: &Manifest) -> Result<()> {
    let now = EngineVersions::current();
    match manifest.engine == now {
        true => Ok(()),
        false => Err(Error::MadeOtherwise {
            subject: shown(manifest),
            reason: format!(
                "was made by another engine ({}) than that of this program ({now}), which may yield other bits; its rows can be read, \
                 and to replay it, use a program with the engine that made it",
                manifest.engine
            ),
        }),
    }
}

/// What the root holds as the definition of a set's name; nothing if the name is free or the file is damaged.
pub(super) struct DeclaredThen(Option<(Fingerprint, Arc<Value>)>);

impl DeclaredThen {
    pub(super) async fn read(workspace: &Workspace, set: &SetName) -> Result<Self> {
        match binding::declared(workspace, set).await {
            Ok(found) => Ok(Self(found)),
            Err(error @ (Error::Corrupt { .. } | Error::Format { .. })) => {
                tracing::warn!(%error, "how two definitions differ cannot be told");
                Ok(Self(None))
            }
            Err(other) => Err(other),
        }
    }

    /// The parts in which the definition with this fingerprint and this set differ, if that definition is known.
    pub(super) fn difference(&self, then: &Fingerprint, now: &FeatureSet) -> Option<String> {
        let (_, declared) = self.0.as_ref().filter(|(known, _)| known == then)?;
        let code = "on fixed inputs the code of its steps yields other values under the same revisions";
        Some(difference(declared, &now.declared).unwrap_or_else(|| code.into()))
    }
}
