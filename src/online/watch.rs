//! Following what is published: a task that refreshes a live group again and again, until its guard is dropped.

use std::{io, panic::catch_unwind, time::Duration};

use tokio::{runtime::Handle, task::JoinHandle};

use super::live::LiveGroup;
use crate::error::{Error, Result};

/// Keeps a live handle refreshed. Dropping it stops that; what is served then stays. See [`LiveGroup::watch`].
#[derive(Debug)]
#[must_use = "dropping it stops the refreshes"]
pub struct Watch(JoinHandle<()>);

/// Less would only list the root, without a pause.
const AT_LEAST: Duration = Duration::from_millis(1);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    pub(super) fn start(group: LiveGroup, every: Duration) -> Result<Self> {
        let subject = || "watching feature sets".to_owned();
        if every < AT_LEAST {
            let reason = format!("{every:?} between two refreshes is too little; give a second or more");
            return Err(Error::Definition { subject: subject(), reason });
        }
        let unsuited = |cause: &str| Error::System { subject: subject(), cause: io::Error::other(cause.to_owned()) };
        let runtime = Handle::try_current().map_err(|_| unsuited("it needs a Tokio runtime: call it inside of one"))?;
        // A runtime tells in no other way whether it has timers.
        let has_timers = catch_unwind(|| drop(tokio::time::sleep(every))).is_ok();
        if !has_timers {
            return Err(unsuited("it needs a Tokio runtime with timers: build the runtime with `enable_all`"));
        }
        Ok(Self(runtime.spawn(follow(group, every))))
    }
}

/// Refreshes for ever. Each change between success and failure is logged once.
async fn follow(group: LiveGroup, every: Duration) {
    let mut is_failing = false;
    loop {
        tokio::time::sleep(every).await;
        match group.refresh().await {
            Ok(refresh) => {
                if is_failing {
                    tracing::warn!(sets = ?group, "feature sets are refreshed again");
                }
                if refresh.has_moved() {
                    tracing::info!(%refresh, "feature sets were refreshed");
                }
                is_failing = false;
            }
            Err(error) => {
                if !is_failing {
                    tracing::warn!(sets = ?group, %error, "feature sets cannot be refreshed; what was served before is served on");
                }
                is_failing = true;
            }
        }
    }
}
