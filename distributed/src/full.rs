//! Executors whose scratch folder is full: for a while they get no tasks, if others can take them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long such an executor gets no tasks. Then it is tried again.
pub(crate) const REST: Duration = Duration::from_secs(60);

/// The executors that lately said that their scratch folder is full.
#[derive(Debug, Default)]
pub(crate) struct FullExecutors {
    until: Mutex<HashMap<String, Instant>>,
}

impl FullExecutors {
    pub(crate) fn add(&self, executor: &str) {
        log::warn!(
            "the scratch folder of executor {executor} is full; it gets no tasks for {} s if others can take them",
            REST.as_secs()
        );
        self.resting().insert(executor.to_owned(), Instant::now() + REST);
    }

    pub(crate) fn contains(&self, executor: &str) -> bool {
        self.resting().contains_key(executor)
    }

    /// The executors of these that get tasks: those with room, or all if none has.
    pub(crate) fn with_room(&self, executors: HashSet<String>) -> HashSet<String> {
        let resting = self.resting();
        let with_room: HashSet<String> = executors.iter().filter(|name| !resting.contains_key(*name)).cloned().collect();
        if with_room.is_empty() { executors } else { with_room }
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > Instant::now());
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_executor_gets_no_tasks_while_others_have_room() {
        let names = |names: &[&str]| -> HashSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let full = FullExecutors::default();
        assert_eq!(full.with_room(names(&["a", "b"])), names(&["a", "b"]));
        full.add("a");
        assert!(full.contains("a") && !full.contains("b"));
        assert_eq!(full.with_room(names(&["a", "b"])), names(&["b"]));
        assert_eq!(full.with_room(names(&["a"])), names(&["a"]));
        full.add("b");
        assert_eq!(full.with_room(names(&["a", "b"])), names(&["a", "b"]));
    }
}
