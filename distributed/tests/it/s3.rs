//! Files behind a real S3 protocol. Executors get credentials by their environment; nobody else has them.

use asof::{
    cluster::{Runner, object_stores},
    storage::Locations,
};
use asof_distributed::{Cluster, LocalOptions};
use datafusion::{
    execution::runtime_env::RuntimeEnvBuilder,
    prelude::{SessionConfig, SessionContext},
};
use object_store::{ObjectStoreExt, aws::AmazonS3Builder, path::Path as Key};

use crate::{
    s3_server::S3Server,
    support::{FILES, QUERIES, alone, assert_same, cluster_error, file_of, on, quick, session, shown, tables, temp, write_table},
};

pub(crate) const PLACE: &str = "s3://lab/t/";

/// A server with the files of the table `t`.
pub(crate) async fn server() -> S3Server {
    let server = S3Server::start("lab").await.unwrap();
    let bucket = AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("lab")
        .with_access_key_id(server.access_key())
        .with_secret_access_key(server.secret_key())
        .build()
        .unwrap();
    for number in 0..FILES {
        let key = Key::from(format!("t/part-{number}.parquet"));
        bucket.put(&key, file_of(number).into()).await.unwrap();
    }
    server
}

/// What an executor needs in its environment to read from the server.
pub(crate) fn credentials(server: &S3Server) -> Vec<(String, String)> {
    let secrets = [("AWS_ACCESS_KEY_ID", server.access_key()), ("AWS_SECRET_ACCESS_KEY", server.secret_key())];
    let secrets = secrets.map(|(key, value)| (key.to_owned(), value.to_owned()));
    secrets.into_iter().chain(endpoint(server)).collect()
}

/// As [`credentials`], of somebody whom the server does not know: not those of the machine that the test runs on, and not those of an
/// instance in a cloud.
pub(crate) fn strangers(server: &S3Server) -> Vec<(String, String)> {
    let nobody = [("AWS_ACCESS_KEY_ID", "AKIANOBODY"), ("AWS_SECRET_ACCESS_KEY", "no-secret")];
    nobody.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().chain(endpoint(server)).collect()
}

fn endpoint(server: &S3Server) -> Vec<(String, String)> {
    let place = [("AWS_ENDPOINT", server.endpoint()), ("AWS_REGION", "us-east-1".into()), ("AWS_ALLOW_HTTP", "true".into())];
    place.map(|(key, value)| (key.to_owned(), value)).into()
}

/// How the client reaches the server. Nothing of it travels.
pub(crate) fn locations(server: &S3Server) -> Locations {
    Locations::default()
        .option("aws_endpoint", server.endpoint())
        .option("aws_allow_http", "true")
        .option("aws_region", "us-east-1")
        .option("aws_access_key_id", server.access_key())
        .option("aws_secret_access_key", server.secret_key())
}

/// A session of the client, which plans with credentials of its own.
pub(crate) async fn client(server: &S3Server, partitions: usize) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(object_stores(locations(server))).build_arc().unwrap();
    let config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_round_robin_repartition(false)
        .set_bool("datafusion.execution.enable_file_stream_work_stealing", false)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false)
        .set_bool("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false);
    let context = SessionContext::new_with_config_rt(config, runtime);
    tables(&context, PLACE).await;
    context
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_over_s3_have_the_rows_of_one_process() {
    let (server, data) = (server().await, temp());
    write_table(data.path());
    let expected = session(data.path().to_str().unwrap(), 1).await;
    for executors in [1, 2, 4] {
        let options = LocalOptions { executor_environment: credentials(&server), ..quick(executors) };
        let cluster = Cluster::local_with(options).await.unwrap();
        let context = client(&server, cluster.partitions()).await;
        for sql in QUERIES {
            let rows = on(&cluster, &context, sql).await.unwrap();
            assert_same(&rows, &shown(&alone(&expected, sql).await), &format!("{executors} executors: {sql}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_cannot_read_its_part_of_a_plan_names_itself_and_says_why() {
    let server = server().await;
    let mut environment = credentials(&server);
    environment.push(("AWS_ALLOW_HTTP".into(), "perhaps".into()));
    let cluster = Cluster::local_with(LocalOptions { executor_environment: environment, ..quick(1) }).await.unwrap();
    let context = client(&server, cluster.partitions()).await;
    let error = on(&cluster, &context, QUERIES[0]).await.unwrap_err();
    let text = cluster_error(&error).to_string();
    assert!(text.starts_with("executor executor-1 (127.0.0.1:"), "{text}");
    assert!(text.contains("it cannot read its part of the plan: ") && text.contains("perhaps"), "{text}");
    assert!(!text.contains(server.secret_key()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_without_credentials_names_itself_and_the_place() {
    let server = server().await;
    let cluster = Cluster::local_with(LocalOptions { executor_environment: strangers(&server), ..quick(1) }).await.unwrap();
    let context = client(&server, cluster.partitions()).await;
    let error = on(&cluster, &context, QUERIES[0]).await.unwrap_err();
    let text = cluster_error(&error).to_string();
    assert!(text.starts_with("executor executor-1 (127.0.0.1:"), "{text}");
    assert!(text.contains("s3://lab/t/part-"), "{text}");
    assert!(!text.contains(server.secret_key()) && !text.contains("no-secret"), "{text}");
}
