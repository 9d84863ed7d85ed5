//! What the AWS services share: one SDK configuration and one HTTP client.
//!
//! Everything comes from the SDK's own chain (environment, profile, container and instance metadata); a
//! sink may set its region, endpoint and profile. `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`
//! are honoured; where instance metadata gives the credentials, `NO_PROXY` must name 169.254.169.254, as
//! for every SDK. Retries are off: the delivery machine owns backoff and breaker, so that one place decides.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnectorSettings, SharedHttpClient},
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};

use super::traced_client::TracedClient;

/// How long a connection may take to open, name resolution and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a service may take until its answer begins, the sending of the request included.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one attempt may take in all.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(45);

/// What a sink may set beside the SDK's own chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// Instead of `AWS_REGION` and the profile's.
    pub region: Option<String>,
    /// Instead of the service's own address; plain `http://` works too.
    pub endpoint_url: Option<String>,
    /// Instead of `AWS_PROFILE`.
    pub profile: Option<String>,
}

/// What a sink writes to, and how its service is reached. The configuration has checked the name's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A topic's ARN, a queue's URL, or the name of a stream, bus or table.
    pub name: String,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Loads the SDK's configuration for one sink. Never fails: what is missing shows when sending.
pub async fn load_sdk_config(settings: &AwsSettings) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint_url) = &settings.endpoint_url {
        loader = loader.endpoint_url(endpoint_url);
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    Box::pin(loader.load()).await
}

/// An HTTP client for one sink: pools are not shared, because a pooled connection lives and dies with the
/// runtime that opened it, and a stuck sink is to harm no other.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    TracedClient(Builder::new().build_with_connector_fn(connector)).into_shared()
}

/// Connections through the proxy of the environment, if any, with TLS by rustls and ring and the system's roots.
/// The time-outs of `settings` need the clock of `components`.
#[must_use]
pub fn connector(
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
) -> Connector {
    let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
    connector.set_connector_settings(settings.cloned());
    connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
    connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
}

/// The time-outs of a request of ordinary size.
#[must_use]
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(ATTEMPT_TIMEOUT)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sinks_own_settings_win_and_retries_are_off() {
        let settings = AwsSettings {
            region: Some("eu-north-1".to_owned()),
            endpoint_url: Some("http://127.0.0.1:9".to_owned()),
            profile: None,
        };
        let loaded = Box::pin(load_sdk_config(&settings)).await;
        assert_eq!(loaded.region().map(Region::as_ref), Some("eu-north-1"));
        assert_eq!(loaded.endpoint_url(), Some("http://127.0.0.1:9"));
        assert_eq!(loaded.retry_config().map(RetryConfig::max_attempts), Some(1));
        let timeouts = loaded.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(CONNECT_TIMEOUT));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT_TIMEOUT));
    }
}
