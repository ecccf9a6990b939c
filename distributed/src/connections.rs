//! Connections of an executor to the others. At most one to each waits for its next use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use ballista_core::{
    client::BallistaClient,
    client_pool::{BallistaClientPool, PooledClient},
    error::Result,
    extension::BallistaConfigGrpcEndpoint,
    utils::GrpcClientConfig,
};

/// The connections that wait.
#[derive(Default)]
pub(crate) struct Connections {
    open: Arc<Mutex<HashMap<Key, BallistaClient>>>,
}

type Key = (String, u16, GrpcClientConfig);

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connections")
    }
}

#[async_trait]
impl BallistaClientPool for Connections {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_owned(), port, config.clone());
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let client = match open {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        // What fails is not given back.
        let open = self.open.clone();
        let give_back = move |client| {
            open.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client);
        };
        Ok(PooledClient::new(client, Box::new(give_back)))
    }

    /// No more connections wait than there are executors, so none is closed for being idle.
    async fn evict_idle(&self) {}
}
