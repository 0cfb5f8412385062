//! What goes wrong, and at which call: rules, faults, and what real stores say when they refuse.

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `PutObject`.
    Put,
    /// `GetObject`.
    Get,
    /// `HeadObject`.
    Head,
    /// `ListObjectsV2`.
    List,
    /// `DeleteObject`.
    Delete,
    /// `DeleteObjects`: several keys in one request.
    DeleteMany,
    /// `CreateMultipartUpload`.
    CreateUpload,
    /// `UploadPart`.
    UploadPart,
    /// `CompleteMultipartUpload`.
    CompleteUpload,
    /// `AbortMultipartUpload`.
    AbortUpload,
    /// `ListMultipartUploads`.
    ListUploads,
    /// `HeadBucket`.
    HeadBucket,
    /// Anything else, which the store answers with `NotImplemented`.
    Other,
}

/// An error status with the words of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The S3 error code.
    pub code: String,
    /// The message.
    pub message: String,
    /// The header `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// An error with a status, a code and a message.
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned(), retry_after: None }
    }

    /// With the header `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 500: something in the store went wrong.
    pub fn internal_error() -> Self {
        Self::new(500, "InternalError", "We encountered an internal error. Please try again.")
    }

    /// 503: the store is overloaded; AWS says so without `Retry-After`, others with it.
    pub fn slow_down() -> Self {
        Self::new(503, "SlowDown", "Please reduce your request rate.")
    }

    /// 503 of a gateway in front of the store.
    pub fn service_unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "Service is unable to handle request.")
    }

    /// 403: the key may not do this, or no longer.
    pub fn access_denied() -> Self {
        Self::new(403, "AccessDenied", "Access Denied")
    }

    /// 403: the key was deleted.
    pub fn invalid_access_key() -> Self {
        Self::new(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        )
    }

    /// 400: temporary credentials ran out.
    pub fn expired_token() -> Self {
        Self::new(400, "ExpiredToken", "The provided token has expired.")
    }

    /// 403: the clocks are too far apart.
    pub fn time_too_skewed() -> Self {
        let message = "The difference between the request time and the current time is too large.";
        Self::new(403, "RequestTimeTooSkewed", message)
    }

    /// 400: the connection was too slow for the store.
    pub fn request_timeout() -> Self {
        let message =
            "Your socket connection to the server was not read from or written to within the timeout period.";
        Self::new(400, "RequestTimeout", message)
    }

    /// 409: two conditional writes at once; to be repeated.
    pub fn conditional_conflict() -> Self {
        let message =
            "The conditional request cannot succeed due to a conflicting operation against this resource.";
        Self::new(409, "ConditionalRequestConflict", message)
    }

    /// A full store, in the words of each that was found to say it in its own way: Ceph's gateway and Versity, MinIO
    /// with a full disk, MinIO with a full bucket, RustFS, Stowage, Hitachi's HCP, Garage.
    pub fn quotas() -> Vec<Self> {
        let garage = "Forbidden: Bucket size quota is reached, maximum total size of objects for this bucket: 1000. \
                      The bucket is already 990 bytes, and this object would add 20 bytes.";
        vec![
            Self::new(403, "QuotaExceeded", "Your request was denied due to quota exceeded."),
            Self::new(
                507,
                "XMinioStorageFull",
                "Storage backend has reached its minimum free drive threshold. Please delete a few objects to proceed.",
            ),
            Self::new(400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
            Self::new(403, "XRustfsQuotaExceeded", "Bucket quota exceeded"),
            Self::new(507, "EntityTooLarge", "bucket quota exceeded"),
            Self::new(
                413,
                "EntityTooLarge",
                "The object is too big for the amount of space left in the bucket.",
            ),
            Self::new(403, "AccessDenied", garage),
        ]
    }

    /// The XML that goes with the status.
    pub fn xml(&self) -> String {
        let Self { code, message, .. } = self;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <Error><Code>{code}</Code><Message>{message}</Message><RequestId>0123456789ABCDEF</RequestId></Error>"
        )
    }
}

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refused, and nothing happened. The request's body is read to its end first.
    Refuse(Refusal),
    /// It happened, and then the store says that it was refused.
    RefuseAfter(Refusal),
    /// The connection closes without an answer, before anything happened.
    DropBefore,
    /// The connection closes without an answer, and it happened.
    DropAfter,
    /// No answer ever comes, and nothing happened.
    HangBefore,
    /// No answer ever comes, and it happened.
    HangAfter,
    /// The connection closes when so many bytes of the request's body have come.
    CutUpload(usize),
    /// The connection closes when so many bytes of the answer's body have gone.
    CutAnswer(usize),
    /// The answer's body hangs when so many bytes of it have gone.
    StallAnswer(usize),
    /// The answer has only so many bytes, and a length and range that fit them: what a broken proxy makes of it.
    ShortAnswer(usize),
    /// A bit of that byte of the answer's body is flipped; what is stored is whole.
    FlipAnswer(usize),
    /// The answer states a SHA-256 of other bytes.
    WrongChecksum,
    /// The answer states no SHA-256.
    NoChecksum,
    /// Other bytes are stored than were sent (a bit in the middle), and the answer is that of a success.
    StoreFlipped,
    /// Nothing happens, and the answer is that of a success.
    Lose,
    /// Keys in a multi-delete that contain the text are refused; the others are deleted. The status is 200.
    FailKeys(String, Refusal),
    /// A listing says that there is more, and to continue from where this page began.
    RepeatPage,
    /// A listing has an empty page, and continues after it.
    EmptyPage,
    /// A listing ends in its middle and says that this was all.
    EndListing,
    /// A listing does not say whether there is more, and how to continue if there is.
    SayNothingOfMore,
    /// The answer to a PUT names another ETag than the object then has.
    OtherTag,
}

/// A fault and the calls that it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<Operation>,
    key_part: String,
    skipped: usize,
    times: usize,
    seen: usize,
    fault: Fault,
}

impl Rule {
    /// Strikes every call of that kind.
    pub fn on(operation: Operation, fault: Fault) -> Self {
        Self { operation: Some(operation), ..Self::always(fault) }
    }

    /// Strikes every call.
    pub fn always(fault: Fault) -> Self {
        Self { operation: None, key_part: String::new(), skipped: 0, times: usize::MAX, seen: 0, fault }
    }

    /// Strikes only where the key (in listings the prefix) contains the text.
    #[must_use]
    pub fn key(mut self, part: &str) -> Self {
        part.clone_into(&mut self.key_part);
        self
    }

    /// Lets the first calls pass.
    #[must_use]
    pub fn after(mut self, calls: usize) -> Self {
        self.skipped = calls;
        self
    }

    /// Strikes so many calls and no more.
    #[must_use]
    pub fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }

    /// Strikes one call.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Counts a call that it is about; whether it strikes.
    fn strikes(&mut self, operation: Operation, key: &str) -> bool {
        if self.operation.is_some_and(|own| own != operation) || !key.contains(&self.key_part) {
            return false;
        }
        self.seen += 1;
        self.seen > self.skipped && self.seen - self.skipped <= self.times
    }
}

/// The rules in force, in the order in which they were given.
#[derive(Debug, Default)]
pub struct Script {
    rules: Vec<Rule>,
}

impl Script {
    /// Adds a rule.
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault of the first rule that strikes this call. Every rule that is about the call counts it.
    pub fn next(&mut self, operation: Operation, key: &str) -> Option<Fault> {
        let mut chosen = None;
        for rule in &mut self.rules {
            if rule.strikes(operation, key) && chosen.is_none() {
                chosen = Some(rule.fault.clone());
            }
        }
        chosen
    }
}
