//! Secrets are in no plan, no setting, no log, and nothing that the scheduler tells.

use asof::cluster::Runner;
use asof_distributed::{Cluster, LocalOptions};
use datafusion::{
    config::{ConfigEntry, ConfigExtension, ExtensionOptions},
    execution::TaskContext,
};

use crate::{
    s3::{client, credentials, server},
    support::{QUERIES, plan, quick, run, temp},
};

const SECRET: &str = "SecretOfASession/42";

/// An extension of a session that holds a secret, as other libraries have them.
#[derive(Clone, Debug, Default)]
struct Cloud;

impl ConfigExtension for Cloud {
    const PREFIX: &'static str = "cloud";
}

impl ExtensionOptions for Cloud {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, _: &str, _: &str) -> datafusion::error::Result<()> {
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry { key: "cloud.secret_key".into(), value: Some(SECRET.into()), description: "" }]
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_are() {
    let (server, logs) = (server().await, temp());
    let mut options = LocalOptions { executor_environment: credentials(&server), logs: Some(logs.path().into()), ..quick(2) };
    // All that the processes of Ballista and asof log at all; of the transport, no frames, which hold everything that is sent.
    options
        .executor_environment
        .push(("ASOF_LOG".into(), "trace,h2=info,hyper=info,hyper_util=info,tower=info,tonic=info".into()));
    let cluster = Cluster::local_with(options).await.unwrap();
    let mut context = client(&server, cluster.partitions()).await;
    let config = context.copied_config().with_option_extension(Cloud);
    context = datafusion::prelude::SessionContext::new_with_config_rt(config, context.runtime_env());
    crate::support::tables(&context, crate::s3::PLACE).await;
    let shown = format!("{:?}", context.task_ctx().session_config().options().entries());
    assert!(shown.contains(SECRET), "the session holds it");

    let secrets = [server.access_key(), server.secret_key(), SECRET];
    for sql in QUERIES {
        let planned = plan(&context, sql).await;
        let bytes = cluster.encode(&planned).unwrap();
        run(&cluster, planned, context.task_ctx()).await.unwrap();
        for secret in secrets {
            assert!(!holds(&bytes, secret), "{sql}");
        }
    }
    // A wrong plan, whose error could tell more.
    let broken: std::sync::Arc<TaskContext> = context.task_ctx();
    let planned = plan(&context, "SELECT 1 / (v - v) FROM t").await;
    let error = run(&cluster, planned, broken).await.unwrap_err().to_string();
    let status = format!("{:?}", cluster.status().await.unwrap());
    let mut seen = vec![error.into_bytes(), status.into_bytes()];
    for log in std::fs::read_dir(logs.path()).unwrap() {
        let log = std::fs::read(log.unwrap().path()).unwrap();
        assert!(!log.is_empty());
        seen.push(log);
    }
    assert_eq!(seen.len(), 5);
    for bytes in seen {
        for secret in secrets {
            assert!(!holds(&bytes, secret), "{}", String::from_utf8_lossy(&bytes).chars().take(300).collect::<String>());
        }
    }
    // The environment of the scheduler's process has none either.
    let id = cluster.processes().unwrap().scheduler();
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    assert!(secrets.iter().all(|secret| !holds(&environment, secret)) && !holds(&environment, "AWS_"));
}
