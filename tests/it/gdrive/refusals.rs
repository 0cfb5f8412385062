//! What Google refuses, and what Lifeboat makes of it: the right kind, and words that say what to do.

use std::time::Duration;

use lifeboat_drive_double::{Call, Fault, Options, When};
use lifeboat_providers::gdrive::{Credentials, KeySource, create_folder};
use lifeboat_providers::{ErrorKind, Provider as _, PutMode};
use zeroize::Zeroizing;

use super::scene::{Scene, key, noise, plain, put};

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_calls_for_the_right_action() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    put(&*provider, "packs/other", &noise(10, 0), PutMode::CreateNew).await.unwrap();
    let forbidden = |reason: &str| Fault::Forbidden { reason: reason.to_owned() };
    let cases = [
        (forbidden("userRateLimitExceeded"), ErrorKind::Throttled, "fewer requests"),
        (forbidden("rateLimitExceeded"), ErrorKind::Throttled, "fewer requests"),
        (forbidden("storageQuotaExceeded"), ErrorKind::Quota, "empty the trash"),
        (forbidden("teamDriveFileLimitExceeded"), ErrorKind::Quota, "500,000"),
        (forbidden("numChildrenInNonRootLimitExceeded"), ErrorKind::Quota, "500,000"),
        (forbidden("activeItemCreationLimitExceeded"), ErrorKind::Quota, "delete"),
        (forbidden("dailyLimitExceeded"), ErrorKind::Quota, "midnight"),
        (forbidden("insufficientFilePermissions"), ErrorKind::Denied, "content manager"),
        (Fault::TooManyRequests { retry_after_seconds: None }, ErrorKind::Throttled, "429"),
        (Fault::Error { status: 503, after_commit: false }, ErrorKind::Transient, "503"),
        (Fault::CutRequest { after_bytes: 10 }, ErrorKind::Transient, "no answer"),
    ];
    for (number, (fault, kind, words)) in cases.into_iter().enumerate() {
        scene.fault(Call::Create, When::Always, fault.clone());
        let error = put(&*provider, &format!("packs/{number}"), &noise(1000, 1), PutMode::CreateNew)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(error.to_string().contains(words), "{fault:?}: {error}");
        scene.double.clear_faults();
    }
    scene.fault(Call::Create, When::Always, Fault::TooManyRequests { retry_after_seconds: Some(7) });
    let error = put(&*provider, "packs/z", &noise(10, 1), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    scene.double.clear_faults();
    scene.fault(Call::List, When::Always, Fault::TooManyRequests { retry_after_seconds: Some(9) });
    let error = provider.head(&key("packs/not-there")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(9))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_account_is_no_reason_to_try_again() {
    let scene = Scene::with(Options { quota_bytes: Some(5_000), ..Options::default() });
    let provider = scene.machine("a").await;
    put(&*provider, "packs/aa", &noise(3_000, 1), PutMode::CreateNew).await.unwrap();
    let usage = provider.usage().await.unwrap();
    assert_eq!(
        (usage.used_bytes, usage.limit_bytes, usage.available_bytes),
        (Some(3_000), Some(5_000), Some(2_000))
    );
    let error = put(&*provider, "packs/bb", &noise(3_000, 1), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    scene.double.set_quota(None);
    put(&*provider, "packs/bb", &noise(3_000, 1), PutMode::CreateNew).await.unwrap();
    let usage = provider.usage().await.unwrap();
    assert_eq!((usage.used_bytes, usage.limit_bytes, usage.available_bytes), (Some(6_000), None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed_once_for_all_who_wait() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    for number in 0..8 {
        put(&*provider, &format!("packs/{number}"), &noise(100, number), PutMode::CreateNew).await.unwrap();
    }
    assert_eq!(scene.count(Call::Token), 1);
    scene.double.revoke_tokens();
    let gets = (0..8).map(|number| {
        let provider = provider.clone();
        async move { provider.get(&key(&format!("packs/{number}")), None).await }
    });
    for result in futures_util::future::join_all(gets).await {
        result.unwrap();
    }
    assert_eq!(scene.count(Call::Token), 2, "every one who waited asked for a token");
    // The generated client's calls, too.
    scene.double.revoke_tokens();
    provider.head(&key("packs/1")).await.unwrap();
    provider.delete(&key("packs/1")).await.unwrap();
    assert_eq!(scene.count(Call::Token), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_login_says_which_command_renews_it() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    put(&*provider, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    scene.double.revoke_grant();
    for error in [
        provider.get(&key("packs/aa"), None).await.unwrap_err(),
        provider.head(&key("packs/aa")).await.unwrap_err(),
        put(&*provider, "packs/bb", &noise(10, 1), PutMode::CreateNew).await.unwrap_err(),
        scene.try_connect(scene.options("b")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("lifeboat provider login gdrive"), "{error}");
        assert!(!error.to_string().contains(&scene.double.refresh_token()), "{error}");
    }
    assert_eq!(scene.count(Call::Unknown), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_is_down_is_waited_for() {
    let scene = Scene::new();
    for fault in [
        Fault::Error { status: 503, after_commit: false },
        Fault::NoResponse,
        Fault::TruncatedJson,
        Fault::TooManyRequests { retry_after_seconds: None },
    ] {
        scene.fault(Call::Token, When::Always, fault.clone());
        let error = scene.try_connect(scene.options("a")).await.unwrap_err();
        assert!(error.kind().is_retryable(), "{fault:?}: {error}");
        scene.double.clear_faults();
    }
    scene.machine("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_works_on_a_shared_drive_and_says_why_it_does_not_elsewhere() {
    let account = |scene: &Scene| Credentials::ServiceAccount {
        key: KeySource::Text(Zeroizing::new(scene.double.service_account())),
        subject: None,
    };
    let scene = Scene::with(Options { shared_drive: true, ..Options::default() });
    let mut options = scene.options("a");
    options.credentials = account(&scene);
    options.shared_drive = Some(scene.double.drive_id());
    let provider = scene.try_connect(options).await.unwrap();
    put(&*provider, "packs/aa", &noise(1000, 1), PutMode::CreateNew).await.unwrap();
    scene.double.revoke_tokens();
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), noise(1000, 1));
    provider.delete(&key("packs/aa")).await.unwrap();

    let scene = Scene::new();
    let mut options = scene.options("a");
    options.credentials = account(&scene);
    let provider = scene.try_connect(options).await.unwrap();
    let error = put(&*provider, "packs/aa", &noise(1000, 1), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    assert!(error.to_string().contains("shared drive"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_used_is_explained() {
    let scene = Scene::new();
    let file =
        scene.double.add_file(&scene.double.folder(), "a-file", bytes::Bytes::from_static(b"x")).unwrap();
    for (folder, words) in
        [("nowhere", "no folder nowhere"), (file.as_str(), "not a folder"), ("a b", "no id")]
    {
        let mut options = scene.options("a");
        options.folder = folder.to_owned();
        let error = scene.try_connect(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut options = scene.options("a");
    options.shared_drive = Some(scene.double.drive_id());
    let error = scene.try_connect(options).await.unwrap_err();
    assert!(error.to_string().contains("not in the shared drive"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_made_once_and_can_be_used() {
    let scene = Scene::new();
    let user = scene.user();
    let make = || create_folder(&user, Some(scene.double.url()), "It's \\ mine", None, plain());
    let id = make().await.unwrap();
    assert_eq!(make().await.unwrap(), id);
    let mut options = scene.options("a");
    options.folder = id;
    let provider = scene.try_connect(options).await.unwrap();
    put(&*provider, "config", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    let inner =
        create_folder(&user, Some(scene.double.url()), "inner", Some("nowhere"), plain()).await.unwrap_err();
    assert_eq!(inner.kind(), ErrorKind::Misconfigured, "{inner}");
}
