//! What a double is like from the start.

use std::time::Duration;

/// The narrow scope: only what the app made.
pub const SCOPE_FILE: &str = "https://www.googleapis.com/auth/drive.file";
/// The wide scope: all files.
pub const SCOPE_DRIVE: &str = "https://www.googleapis.com/auth/drive";
/// Reading all files.
pub const SCOPE_READONLY: &str = "https://www.googleapis.com/auth/drive.readonly";

/// The options of a double. The defaults are Google's limits and an account without a storage limit.
#[derive(Debug, Clone)]
pub struct Options {
    /// The TCP port on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// Ids and tokens follow from it; a different one for each double if `None`.
    pub seed: Option<u64>,
    /// Whether [`crate::Double::folder`] lies on a shared drive.
    pub shared_drive: bool,
    /// Whether tokens may delete on the shared drive; a content manager may only trash there.
    pub may_delete_on_shared_drive: bool,
    /// The scopes of [`crate::Double::refresh_token`].
    pub scopes: Vec<String>,
    /// The account's storage in bytes; unlimited if `None`.
    pub quota_bytes: Option<u64>,
    /// Bytes that may be uploaded until [`crate::Double::next_day`].
    pub upload_bytes_per_day: u64,
    /// Items in a folder, trash included.
    pub items_per_folder: u64,
    /// Items on a shared drive, trash included.
    pub items_per_drive: u64,
    /// Calls per span of time before 403 `userRateLimitExceeded`; unlimited if `None`.
    pub rate: Option<Rate>,
    /// How long access tokens live.
    pub token_life: Duration,
    /// Whether service accounts have storage of their own, as they had until 2025.
    pub service_account_has_storage: bool,
    /// How often the device flow answers `authorization_pending` before the user approves.
    pub device_pending: u32,
    /// The interval in seconds that the device flow asks for.
    pub device_interval_seconds: u64,
    /// Whether `/device/code` refuses clients of the kind `installed`, as Google does.
    pub strict_device_client: bool,
    /// Whether chunks that are no multiple of 256 KiB (and not the last) are refused; else the whole 256 KiB
    /// of them are kept, which has been seen of Drive too.
    pub refuse_unaligned_chunks: bool,
    /// The largest body of a request in bytes.
    pub body_bytes: u64,
}

/// Calls per span of time.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Calls in a span.
    pub calls: u64,
    /// The span.
    pub per: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            seed: None,
            shared_drive: false,
            may_delete_on_shared_drive: true,
            scopes: vec![SCOPE_FILE.to_owned()],
            quota_bytes: None,
            upload_bytes_per_day: 750_000_000_000,
            items_per_folder: 500_000,
            items_per_drive: 500_000,
            rate: None,
            token_life: Duration::from_secs(3599),
            service_account_has_storage: false,
            device_pending: 0,
            device_interval_seconds: 5,
            strict_device_client: false,
            refuse_unaligned_chunks: true,
            body_bytes: 1 << 30,
        }
    }
}
