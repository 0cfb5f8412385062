//! The SDK's client over our own HTTP client: one TLS stack, one place for timeouts and pacing, no retries but ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::options::{AccessKey, S3Address};
use crate::Result;
use crate::http::{Connector, HttpSettings};

/// How long the search for credentials may take (an instance's metadata service that does not answer).
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// The region of a store that has none of its own; every one but Amazon's takes what its documentation says.
const REGION_DEFAULT: &str = "us-east-1";

/// hyper's client as the SDK wants it.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: legacy::Client<Connector, SdkBody>,
    clock: StoreClock,
}

/// How far the store's clock is ahead of ours, in seconds: as the last answer's `Date` said.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreClock(Arc<AtomicI64>);

impl StoreClock {
    /// The time by the store's clock.
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.0.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        if ahead < 0 { now.checked_sub(by).unwrap_or(UNIX_EPOCH) } else { now.checked_add(by).unwrap_or(now) }
    }

    fn saw(&self, headers: &http::HeaderMap) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let parsed = date.and_then(|date| {
            aws_smithy_types::DateTime::from_str(date, aws_smithy_types::date_time::Format::HttpDate).ok()
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        if let (Some(date), Ok(now)) = (parsed, i64::try_from(now)) {
            self.0.store(date.secs().saturating_sub(now), Ordering::Relaxed);
        }
    }
}

impl Transport {
    pub(super) fn new(connector: Connector, settings: &HttpSettings) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .build(connector);
        Self { client, clock: StoreClock::default() }
    }

    pub(super) fn clock(&self) -> StoreClock {
        self.clock.clone()
    }

    async fn send(self, request: HttpRequest) -> std::result::Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
        let response = self.client.request(request).await.map_err(|e| ConnectorError::io(e.into()))?;
        self.clock.saw(response.headers());
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|e| ConnectorError::other(e.into(), None))
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Transport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The SDK's client for a store.
///
/// # Errors
/// `Misconfigured` if no region or no credentials are known.
pub(super) async fn build(
    address: &S3Address,
    access_key: Option<&AccessKey>,
    transport: &Transport,
) -> Result<aws_sdk_s3::Client> {
    let region = region(address).await;
    let credentials = match access_key {
        Some(key) => SharedCredentialsProvider::new(Credentials::new(
            &key.id,
            &key.secret,
            key.session_token.clone(),
            None,
            "lifeboat configuration",
        )),
        None => {
            let config = ProviderConfig::without_region()
                .with_http_client(transport.clone())
                .with_region(Some(region.clone()));
            let mut chain = DefaultCredentialsChain::builder().configure(config);
            if let Some(profile) = &address.profile {
                chain = chain.profile_name(profile);
            }
            SharedCredentialsProvider::new(chain.build().await)
        }
    };
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(transport.clone())
        .sleep_impl(TokioSleep::new())
        .region(region)
        .credentials_provider(credentials)
        .identity_cache(aws_sdk_s3::config::IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        // A slow line is no reason to give up; a silent one is noticed by the transport and the timeout layer.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(address.path_style);
    if let Some(endpoint) = &address.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Ok(aws_sdk_s3::Client::from_conf(config.build()))
}

/// The region of the URL, of the AWS configuration, or the one that stands for none.
async fn region(address: &S3Address) -> Region {
    if let Some(region) = &address.region {
        return Region::new(region.clone());
    }
    let mut files = ProfileFileRegionProvider::builder();
    if let Some(profile) = &address.profile {
        files = files.profile_name(profile);
    }
    let known = match EnvironmentVariableRegionProvider::new().region().await {
        Some(region) => Some(region),
        None => files.build().region().await,
    };
    known.unwrap_or(Region::from_static(REGION_DEFAULT))
}
