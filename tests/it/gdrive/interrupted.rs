//! Calls whose outcome is unknown, uploads that are cut off, processes that are killed: nothing is made twice, nothing
//! is sent twice that arrived, nothing damaged is taken for stored.

use lifeboat_drive_double::{Call, Fault, When};
use lifeboat_providers::{ErrorKind, Proof, Provider as _, ProviderExt as _, PutMode, Sha256};

use super::scene::{CHUNK, Scene, key, large, noise, put, retrying};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_continues_where_it_was() {
    let scene = Scene::new();
    let body = large(1);
    scene.fault(Call::UploadChunk, When::Nth(10), Fault::Hang { after_commit: false });
    let provider = scene.machine("a").await;
    let sending = tokio::spawn({
        let (provider, body) = (provider.clone(), body.clone());
        async move { put(&*provider, "packs/aa", &body, PutMode::CreateNew).await }
    });
    scene.wait_for(Call::UploadChunk, 10);
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    drop(provider);
    scene.double.clear_faults();
    let before = scene.count(Call::UploadChunk);

    let restarted = scene.machine("a").await;
    let receipt = put(&*restarted, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(receipt.proof, Proof::Server);
    assert_eq!(scene.count(Call::StartUpload), 1, "a second session was begun");
    let sent: u64 =
        scene.requests(Call::UploadChunk).iter().skip(before).map(|request| request.bytes_in).sum();
    let held = 9 * CHUNK;
    assert_eq!(sent, body.len() as u64 - held, "bytes were sent again that Drive held");
    assert_eq!(scene.ids("packs/aa").len(), 1);
    assert_eq!(restarted.get(&key("packs/aa"), None).await.unwrap(), body);
    scene.double.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_never_continue_an_upload() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    scene.fault(Call::UploadChunk, When::Nth(3), Fault::NoResponse);
    let error = put(&*provider, "packs/aa", &large(1), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let other = large(2);
    put(&*provider, "packs/aa", &other, PutMode::CreateNew).await.unwrap();
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), other);
    assert_eq!(scene.ids("packs/aa").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drive_says_it_holds_is_what_counts() {
    for (name, fault) in [
        ("part", Fault::TakePart { bytes: CHUNK }),
        ("none", Fault::TakeNone),
        ("cut", Fault::CutRequest { after_bytes: CHUNK + 1000 }),
        ("lost-answer", Fault::NoResponse),
        ("error-before", Fault::Error { status: 503, after_commit: false }),
        ("error-after", Fault::Error { status: 500, after_commit: true }),
    ] {
        let scene = Scene::new();
        let mut options = scene.options("a");
        options.chunk_bytes = 4 * CHUNK;
        let provider = scene.try_connect(options).await.unwrap();
        scene.fault(Call::UploadChunk, When::EveryNth(2), fault);
        let body = large(3);
        let provider = retrying(provider, 1);
        let receipt = put(&*provider, "packs/aa", &body, PutMode::CreateNew).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((receipt.size, receipt.sha256), (body.len() as u64, Sha256::of(&body)), "{name}");
        let ids = scene.ids("packs/aa");
        assert_eq!(ids.len(), 1, "{name}");
        assert_eq!(scene.double.content(&ids[0]).unwrap(), body, "{name}");
        assert_eq!(scene.count(Call::StartUpload), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_begins_anew_under_the_same_id() {
    for status in [404, 410] {
        let scene = Scene::new();
        let provider = scene.machine("a").await;
        scene.fault(Call::UploadChunk, When::Nth(5), Fault::SessionGone { status });
        let body = large(4);
        put(&*retrying(provider, 1), "packs/aa", &body, PutMode::CreateNew).await.unwrap();
        assert_eq!(scene.count(Call::StartUpload), 2);
        assert_eq!(scene.count(Call::GenerateIds), 1);
        assert_eq!(scene.ids("packs/aa").len(), 1);
    }
    // A week later, after a restart.
    let scene = Scene::new();
    scene.fault(Call::UploadChunk, When::Nth(5), Fault::NoResponse);
    let body = large(5);
    assert!(put(&*scene.machine("a").await, "packs/aa", &body, PutMode::CreateNew).await.is_err());
    scene.double.expire_sessions();
    put(&*scene.machine("a").await, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(scene.ids("packs/aa").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_failed_after_its_effect_makes_no_second_file() {
    for (name, fault) in [
        ("error", Fault::Error { status: 500, after_commit: true }),
        ("no-answer", Fault::NoResponse),
        ("cut-answer", Fault::CutResponse { after_bytes: 20 }),
        ("half-answer", Fault::TruncatedJson),
    ] {
        for restarts in [false, true] {
            let scene = Scene::new();
            let mut provider = scene.machine("a").await;
            // The folder exists, so that the create of the file is the next one.
            put(&*provider, "packs/other", &noise(10, 0), PutMode::CreateNew).await.unwrap();
            scene.fault(Call::Create, When::Nth(1), fault.clone());
            let body = noise(1000, 1);
            let error = put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{name}");
            if restarts {
                drop(provider);
                provider = scene.machine("a").await;
            }
            let receipt = put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
            assert_eq!(receipt.proof, Proof::Server);
            assert_eq!(scene.ids("packs/aa").len(), 1, "{name}");
            // Now it is an object as any other.
            let again = put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::Exists);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_an_area_is_made_once_whatever_happens() {
    let scene = Scene::new();
    let provider = retrying(scene.machine("a").await, 1);
    scene.fault(Call::Create, When::First(2), Fault::Error { status: 500, after_commit: true });
    put(&*provider, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    let puts = (0..12).map(|number| {
        let provider = provider.clone();
        async move { put(&*provider, &format!("meta/{number}"), &noise(10, number), PutMode::CreateNew).await }
    });
    for result in futures_util::future::join_all(puts).await {
        result.unwrap();
    }
    assert_eq!((scene.ids("packs").len(), scene.ids("meta").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_upload_is_no_object() {
    for body in [noise(1000, 1), large(1)] {
        let scene = Scene::new();
        let provider = scene.machine("a").await;
        put(&*provider, "packs/other", &noise(10, 0), PutMode::CreateNew).await.unwrap();
        let call = if body.len() < 2000 { Call::Create } else { Call::UploadChunk };
        scene.fault(call, When::Always, Fault::CorruptUpload);
        let error = put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(scene.ids("packs/aa"), Vec::<String>::new());
        assert_eq!(provider.head(&key("packs/aa")).await.unwrap_err().kind(), ErrorKind::NotFound);
        scene.double.clear_faults();
        put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
        assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), body);
    }
}

/// The upload is damaged, its answer is lost, the process ends: the next one does not take it for the object.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_upload_of_unknown_outcome_is_replaced() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    put(&*provider, "packs/other", &noise(10, 0), PutMode::CreateNew).await.unwrap();
    scene.fault(Call::Create, When::Nth(1), Fault::CorruptUpload);
    scene.fault(Call::Create, When::Nth(1), Fault::NoResponse);
    let body = noise(1000, 1);
    put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap_err();
    drop(provider);
    let restarted = scene.machine("a").await;
    put(&*restarted, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(restarted.get(&key("packs/aa"), None).await.unwrap(), body);
    assert_eq!(scene.ids("packs/aa").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_digest_or_with_a_wrong_one_is_not_the_last_word() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    put(&*provider, "packs/other", &noise(10, 0), PutMode::CreateNew).await.unwrap();
    let body = noise(1000, 1);
    for (number, fault) in [Fault::MissingDigest, Fault::WrongDigest].into_iter().enumerate() {
        scene.fault(Call::Create, When::Nth(1), fault);
        let name = format!("packs/once-{number}");
        assert_eq!(put(&*provider, &name, &body, PutMode::CreateNew).await.unwrap().proof, Proof::Server);
        scene.double.clear_faults();
    }
    // Drive never states one: the bytes themselves are asked for, and the receipt says so.
    scene.fault(Call::Any, When::Always, Fault::MissingDigests);
    let receipt = put(&*provider, "packs/never", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(receipt.proof, Proof::ReadBack);
    scene.double.clear_faults();
    // Drive insists on another one.
    scene.fault(Call::Any, When::Always, Fault::WrongDigest);
    let error = put(&*provider, "packs/wrong", &body, PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(scene.ids("packs/wrong"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_object_keeps_its_file_and_is_healed_in_place() {
    for (old, new) in [(noise(1000, 1), noise(2000, 2)), (large(1), large(2)), (noise(10, 1), noise(0, 0))] {
        let scene = Scene::new();
        let (writer, reader) = (scene.machine("a").await, scene.machine("b").await);
        put(&*writer, "packs/aa", &old, PutMode::CreateNew).await.unwrap();
        assert_eq!(reader.get(&key("packs/aa"), None).await.unwrap(), old);
        let ids = scene.ids("packs/aa");
        put(&*writer, "packs/aa", &new, PutMode::Replace).await.unwrap();
        assert_eq!(scene.ids("packs/aa"), ids);
        // By the id it remembers, whatever listings say.
        assert_eq!(reader.get(&key("packs/aa"), None).await.unwrap(), new);
        // A byte rots at rest while Drive states the old digest.
        if scene.double.flip_byte(&ids[0]) && !new.is_empty() {
            let found = reader.get_verified(&key("packs/aa"), Sha256::of(&new)).await;
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Corrupt);
            put(&*writer, "packs/aa", &new, PutMode::Replace).await.unwrap();
            assert_eq!(reader.get_verified(&key("packs/aa"), Sha256::of(&new)).await.unwrap(), new);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_of_unknown_outcome_can_be_repeated() {
    let scene = Scene::new();
    let provider = retrying(scene.machine("a").await, 1);
    put(&*provider, "packs/aa", &noise(1000, 1), PutMode::CreateNew).await.unwrap();
    scene.fault(Call::Update, When::First(2), Fault::Error { status: 500, after_commit: true });
    put(&*provider, "packs/aa", &noise(1000, 2), PutMode::Replace).await.unwrap();
    scene.fault(Call::Update, When::Nth(1), Fault::CorruptUpload);
    put(&*provider, "packs/aa", &noise(1000, 3), PutMode::Replace).await.unwrap();
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), noise(1000, 3));
    assert_eq!(scene.ids("packs/aa").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_exact_or_an_error() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    let body = noise(100_000, 1);
    put(&*provider, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    let faults =
        [Fault::ShortDownload { bytes: 50 }, Fault::CutResponse { after_bytes: 50 }, Fault::NoResponse];
    for fault in faults {
        for range in [None, Some(1000..90_000)] {
            scene.fault(Call::Media, When::Nth(1), fault.clone());
            let error = provider.get(&key("packs/aa"), range.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transient, "{fault:?} {range:?}: {error}");
            scene.double.clear_faults();
        }
    }
    let id = scene.ids("packs/aa").remove(0);
    assert!(scene.double.mark_abusive(&id));
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), body);
    assert_eq!(provider.get(&key("packs/aa"), Some(5..10)).await.unwrap(), body.slice(5..10));
}
