//! The conformance suite on Drive as it should be, and on Drive as it is on a bad day.

use lifeboat_drive_double::{Call, Fault, Options, Rule, When};
use lifeboat_providers::conformance::{self, Report};
use lifeboat_providers::{Prefix, Proof, Provider as _};

use super::scene::{CHUNK, Scene, retrying};

fn suite(listed_objects: usize) -> conformance::Options {
    conformance::Options {
        folder: Prefix::folder("provider-check/suite").unwrap(),
        large_bytes: (5 << 20) + 1,
        listed_objects,
        writers: 8,
        retention: false,
    }
}

fn require_passed(report: &Report, scene: &Scene) {
    assert!(report.passed(), "{report}");
    assert_eq!(report.left_behind, Vec::<String>::new());
    let left: Vec<_> = scene.double.files().into_iter().filter(|file| file.size > 0).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drive_keeps_the_contract() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    let report = conformance::run(provider.clone(), suite(1100)).await;
    require_passed(&report, &scene);
    assert_eq!(provider.capabilities().proof, Proof::Server);
    let agents: Vec<_> =
        scene.double.requests().into_iter().filter_map(|request| request.user_agent).collect();
    assert!(agents.iter().any(|agent| agent.starts_with("lifeboat/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_drive_of_which_one_is_content_manager_keeps_the_contract() {
    let options = Options { shared_drive: true, may_delete_on_shared_drive: false, ..Options::default() };
    let scene = Scene::with(options);
    let report = conformance::run(scene.machine("a").await, suite(50)).await;
    assert!(report.passed(), "{report}");
    assert!(scene.double.files().iter().all(|file| file.trashed || file.size == 0), "something is left");
}

/// The calls of a provider; those for tokens have tests of their own.
const CALLS: [Call; 11] = [
    Call::About,
    Call::List,
    Call::Get,
    Call::Media,
    Call::Create,
    Call::StartUpload,
    Call::UploadChunk,
    Call::UploadStatus,
    Call::Update,
    Call::Delete,
    Call::GenerateIds,
];

/// Every call may fail before or after its effect, answers break off, listings lag: above the retry layer nothing of
/// that is to be seen.
async fn bad_day(seed: u64) {
    let scene = Scene::new();
    let mut options = scene.options("a");
    options.chunk_bytes = 4 * CHUNK;
    let provider = scene.try_connect(options).await.unwrap();
    let mut number = 0;
    let mut often = |call, calls: u32, fault| {
        number += 1;
        let seed = seed * 1000 + number;
        scene.double.fault(Rule::new(call, When::PerMille { calls, seed }, fault));
    };
    for call in CALLS {
        often(call, 12, Fault::Error { status: 500, after_commit: true });
        often(call, 12, Fault::Error { status: 503, after_commit: false });
        often(call, 10, Fault::NoResponse);
        often(call, 8, Fault::CutResponse { after_bytes: 40 });
        often(call, 8, Fault::TooManyRequests { retry_after_seconds: None });
        often(call, 8, Fault::Forbidden { reason: "userRateLimitExceeded".to_owned() });
        if call != Call::Media {
            often(call, 6, Fault::TruncatedJson);
        }
    }
    often(Call::UploadChunk, 100, Fault::TakePart { bytes: 300_000 });
    often(Call::UploadChunk, 50, Fault::TakeNone);
    often(Call::UploadChunk, 30, Fault::CutRequest { after_bytes: 500_000 });
    often(Call::UploadChunk, 15, Fault::SessionGone { status: 404 });
    often(Call::UploadStatus, 50, Fault::SessionGone { status: 410 });
    often(Call::Create, 20, Fault::CutRequest { after_bytes: 300 });
    often(Call::Create, 15, Fault::CorruptUpload);
    often(Call::Media, 60, Fault::ShortDownload { bytes: 10 });
    often(Call::List, 200, Fault::ShortPages { items: 3 });
    often(Call::List, 50, Fault::EmptyPage);
    often(Call::List, 30, Fault::IncompleteSearch);
    // Never twice in a row: a second refusal would mean that the login is no longer accepted.
    scene.fault(Call::Get, When::EveryNth(41), Fault::Unauthorized);
    scene.fault(Call::Create, When::EveryNth(47), Fault::Unauthorized);
    scene.fault(Call::List, When::Always, Fault::ListRemoved);
    let report = conformance::run(retrying(provider, seed), suite(60)).await;
    assert!(report.passed(), "seed {seed}\n{report}");
    assert_eq!(report.left_behind, Vec::<String>::new(), "seed {seed}");
    let faults = scene.double.requests().iter().filter(|request| !request.faults.is_empty()).count();
    assert!(faults > 100, "only {faults} faults happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_layer_makes_up_for_a_bad_day_1() {
    bad_day(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_layer_makes_up_for_a_bad_day_2() {
    bad_day(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_layer_makes_up_for_a_bad_day_3() {
    bad_day(3).await;
}
