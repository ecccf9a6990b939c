//! Processes of another version are refused, whichever side is the older one.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use asof_distributed::{Cluster, ClusterError, version};
use ballista_core::{
    BALLISTA_PROTOCOL_VERSION,
    serde::protobuf::{
        ExecuteQueryParams, ExecutorRegistration, RegisterExecutorParams, execute_query_params::Query,
        scheduler_grpc_client::SchedulerGrpcClient,
    },
    version::insert_version_header,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{Code, Request, transport::Endpoint};

use crate::support::cluster;

/// A scheduler that says this of itself.
async fn scheduler_that_says(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("df://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 512];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(status.as_bytes()).await;
        }
    });
    url
}

const OTHER: &str = "HTTP/1.0 200 OK\r\n\r\n{\"version\":\"9.9.9 with DataFusion 77.0.0\",\"new\":1}";
const BALLISTA: &str = "HTTP/1.0 404 Not Found\r\n\r\n{}";

#[tokio::test]
async fn a_client_refuses_a_scheduler_of_another_version() {
    let error = Cluster::connect(&scheduler_that_says(OTHER).await).await.unwrap_err();
    assert!(matches!(error, ClusterError::Version { .. }));
    let text = error.to_string();
    assert!(text.contains("9.9.9 with DataFusion 77.0.0") && text.contains(version()), "{text}");
    let error = Cluster::connect(&scheduler_that_says(BALLISTA).await).await.unwrap_err().to_string();
    assert!(error.contains("perhaps a scheduler of Ballista itself"), "{error}");
}

#[tokio::test]
async fn an_address_where_nothing_answers_is_an_error_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Cluster::connect(&format!("df://{address}")).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }) && error.to_string().contains(&address.to_string()), "{error}");
    assert!(matches!(Cluster::connect("https://h:1").await.unwrap_err(), ClusterError::InvalidUrl { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_does_not_start_for_a_scheduler_of_another_version() {
    let url = scheduler_that_says(OTHER).await;
    let started = Instant::now();
    let ended = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_asof-executor"));
        command.args(["--bind-host=127.0.0.1", "--port=0", "--task-port=0"]).arg(format!("--scheduler={url}"));
        command.stdin(Stdio::null()).output().unwrap()
    });
    let ended = ended.await.unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success());
    assert!(log.contains("9.9.9 with DataFusion 77.0.0") && log.contains(version()), "{log}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_refuses_executors_and_clients_of_another_version() {
    let cluster = cluster(1).await;
    let registration = ExecutorRegistration {
        id: "stranger".into(),
        host: Some("127.0.0.1".into()),
        port: 1,
        grpc_port: 2,
        specification: Some(Default::default()),
        os_info: Some(Default::default()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    };
    for agent in ["asof/9.9.9 with DataFusion 77.0.0", "ballista"] {
        let endpoint = Endpoint::from_shared(cluster.url().replace("df:", "http:")).unwrap().user_agent(agent).unwrap();
        let mut client = SchedulerGrpcClient::new(endpoint.connect().await.unwrap());
        let refused =
            client.register_executor(RegisterExecutorParams { metadata: Some(registration.clone()) }).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().starts_with("an executor of asof") && refused.message().contains(version()), "{refused}");

        let query = ExecuteQueryParams { query: Some(Query::PhysicalPlan(vec![])), ..Default::default() };
        let mut request = Request::new(query);
        insert_version_header(request.metadata_mut());
        let refused = client.execute_query(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().starts_with("a client of asof") && refused.message().contains(version()), "{refused}");
    }
    let known: Vec<String> = cluster.status().await.unwrap().executors.into_iter().map(|executor| executor.id).collect();
    assert_eq!(known, ["executor-1"]);
}
