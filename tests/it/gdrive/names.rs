//! Names are not unique, listings lag, pages are short, people move things: which file is the object all the same.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lifeboat_drive_double::{Call, Fault, Options, When};
use lifeboat_providers::{ErrorKind, Prefix, Provider, ProviderExt as _, PutMode};

use super::scene::{Scene, key, noise, put, retrying};

async fn listed(provider: &dyn Provider, folder: &str) -> BTreeSet<String> {
    let prefix = if folder.is_empty() { Prefix::all() } else { Prefix::folder(folder).unwrap() };
    let objects = provider.list_all(&prefix).await.unwrap();
    let names: BTreeSet<String> = objects.iter().map(|info| info.key.as_str().to_owned()).collect();
    assert_eq!(names.len(), objects.len(), "a key is listed twice");
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lags_hides_nothing_from_its_writer() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    scene.fault(Call::List, When::Always, Fault::HideNew);
    let body = noise(1000, 1);
    for name in ["packs/aa", "packs/bb", "config"] {
        put(&*provider, name, &body, PutMode::CreateNew).await.unwrap();
        assert_eq!(provider.get(&key(name), None).await.unwrap(), body);
        assert_eq!(provider.head(&key(name)).await.unwrap().size, 1000);
    }
    assert_eq!(listed(&*provider, "").await.len(), 3);
    assert_eq!(listed(&*provider, "packs").await.len(), 2);
    // After a restart, too: nothing is made twice.
    drop(provider);
    let provider = scene.machine("a").await;
    for name in ["packs/aa", "packs/bb", "config"] {
        assert_eq!(provider.get(&key(name), None).await.unwrap(), body);
        let again = put(&*provider, name, &body, PutMode::CreateNew).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
    }
    put(&*provider, "packs/cc", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(scene.ids("packs").len(), 1);
    scene.double.release();
    assert_eq!(listed(&*scene.machine("b").await, "").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lags_does_not_bring_back_what_was_removed() {
    let scene = Scene::new();
    let (writer, other) = (scene.machine("a").await, scene.machine("b").await);
    for name in ["packs/aa", "packs/bb"] {
        put(&*writer, name, &noise(10, 1), PutMode::CreateNew).await.unwrap();
    }
    assert_eq!(listed(&*other, "packs").await.len(), 2);
    scene.fault(Call::List, When::Always, Fault::ListRemoved);
    writer.delete(&key("packs/aa")).await.unwrap();
    for provider in [&writer, &other] {
        assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(provider.head(&key("packs/aa")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(listed(&*writer, "packs").await, BTreeSet::from(["packs/bb".to_owned()]));
    let body = noise(20, 2);
    put(&*writer, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    assert_eq!(writer.get(&key("packs/aa"), None).await.unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_does_not_show_what_another_machine_removed() {
    let scene = Scene::new();
    let (writer, other) = (scene.machine("a").await, scene.machine("b").await);
    for number in 0..11 {
        put(&*writer, &format!("packs/{number}"), &noise(10, number), PutMode::CreateNew).await.unwrap();
    }
    scene.fault(Call::List, When::Always, Fault::HideNew);
    for number in 0..6 {
        put(&*writer, &format!("packs/new-{number}"), &noise(10, number), PutMode::CreateNew).await.unwrap();
    }
    assert_eq!(listed(&*other, "packs").await.len(), 11);
    for id in ["packs/0", "packs/new-3"].iter().flat_map(|name| scene.ids(name)) {
        assert!(scene.double.remove(&id));
    }
    // A question that fails is asked again, and none is answered twice.
    scene.fault(Call::Get, When::Nth(2), Fault::Error { status: 500, after_commit: false });
    let names = listed(&*retrying(writer.clone(), 1), "packs").await;
    assert_eq!(names.len(), 15);
    assert!(!names.contains("packs/0") && !names.contains("packs/new-3"), "{names:?}");
    let before = scene.count(Call::Get);
    listed(&*writer, "packs").await;
    // The five that are hidden still.
    assert_eq!(scene.count(Call::Get) - before, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_stands_still_says_nothing_of_what_is_there() {
    let scene = Scene::new();
    let body = noise(10, 1);
    put(&*scene.machine("a").await, "packs/aa", &body, PutMode::CreateNew).await.unwrap();
    let fresh = scene.machine("b").await;
    // The folder is found; of the search in it every page is empty, and the next one is the same.
    listed(&*fresh, "index").await;
    scene.fault(Call::List, When::Always, Fault::SamePage);
    let error = fresh.head(&key("packs/aa")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    scene.double.clear_faults();
    assert_eq!(fresh.get(&key("packs/aa"), None).await.unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_local_state_costs_requests_only() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    for number in 0..5 {
        put(&*provider, &format!("packs/{number}"), &noise(100, number), PutMode::CreateNew).await.unwrap();
    }
    drop(provider);
    std::fs::remove_dir_all(scene.path("a")).unwrap();
    let provider = scene.machine("a").await;
    for number in 0..5 {
        let name = format!("packs/{number}");
        assert_eq!(provider.get(&key(&name), None).await.unwrap(), noise(100, number));
        let again = put(&*provider, &name, &noise(100, number), PutMode::CreateNew).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
    }
    assert_eq!(scene.ids("packs").len(), 1);
    // What is known needs no listing.
    let before = scene.count(Call::List);
    for number in 0..5 {
        provider.get(&key(&format!("packs/{number}")), Some(0..10)).await.unwrap();
        provider.head(&key(&format!("packs/{number}"))).await.unwrap();
    }
    assert_eq!(scene.count(Call::List), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_machines_read_the_same_of_several_files() {
    let scene = Scene::new();
    let writer = scene.machine("a").await;
    let (first, second) = (noise(100, 1), noise(200, 2));
    put(&*writer, "packs/aa", &first, PutMode::CreateNew).await.unwrap();
    put(&*writer, "packs/bb", &first, PutMode::CreateNew).await.unwrap();
    // A copy of one, and a file of other bytes (with the properties of the first: not what its writer sent).
    scene.double.add_duplicate("packs/aa", None).unwrap();
    scene.double.add_duplicate("packs/bb", Some(second)).unwrap();
    for machine in ["a", "b", "c"] {
        let provider = scene.machine(&format!("fresh-{machine}")).await;
        for name in ["packs/aa", "packs/bb"] {
            assert_eq!(provider.get(&key(name), None).await.unwrap(), first, "{machine} {name}");
        }
        let objects = provider.list_all(&Prefix::folder("packs").unwrap()).await.unwrap();
        let sizes: Vec<u64> = objects.iter().map(|info| info.size).collect();
        assert_eq!(sizes, [100, 100]);
        let again = put(&*provider, "packs/aa", &first, PutMode::CreateNew).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
    }
    // Young copies stay: another machine may know no other.
    assert_eq!(scene.ids("packs/aa").len(), 2);
    writer.delete(&key("packs/bb")).await.unwrap();
    assert_eq!(scene.ids("packs/bb"), Vec::<String>::new());
    assert_eq!(writer.get(&key("packs/bb"), None).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A machine that looked before there was anything sees what another one then makes.
#[tokio::test(flavor = "multi_thread")]
async fn an_area_that_another_machine_makes_is_found_at_once() {
    let scene = Scene::new();
    let (writer, reader) = (scene.machine("a").await, scene.machine("b").await);
    assert_eq!(reader.head(&key("packs/aa")).await.unwrap_err().kind(), ErrorKind::NotFound);
    put(&*writer, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    assert_eq!(reader.get(&key("packs/aa"), None).await.unwrap(), noise(10, 1));
}

/// Two machines make the folder of an area before either sees the other's.
#[tokio::test(flavor = "multi_thread")]
async fn two_folders_of_one_area_are_both_read() {
    let scene = Scene::new();
    let (a, b) = (scene.machine("a").await, scene.machine("b").await);
    scene.fault(Call::List, When::Always, Fault::HideNew);
    put(&*a, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    put(&*b, "packs/bb", &noise(10, 2), PutMode::CreateNew).await.unwrap();
    scene.double.release();
    assert_eq!(scene.ids("packs").len(), 2);
    let all = BTreeSet::from(["packs/aa".to_owned(), "packs/bb".to_owned()]);
    for machine in ["a", "b", "c"] {
        let provider = scene.machine(machine).await;
        assert_eq!(listed(&*provider, "packs").await, all, "{machine}");
        assert_eq!(provider.get(&key("packs/bb"), None).await.unwrap(), noise(10, 2), "{machine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_and_empty_pages_end_no_listing() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    let names: BTreeSet<String> = (0..25).map(|number| format!("packs/{number:02}")).collect();
    for name in &names {
        put(&*provider, name, &noise(10, 1), PutMode::CreateNew).await.unwrap();
    }
    scene.fault(Call::List, When::EveryNth(3), Fault::EmptyPage);
    scene.fault(Call::List, When::Always, Fault::ShortPages { items: 4 });
    assert_eq!(listed(&*provider, "packs").await, names);
    assert_eq!(listed(&*scene.machine("b").await, "").await, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_failed_is_asked_for_again_and_no_other() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    for number in 0..12 {
        put(&*provider, &format!("packs/{number:02}"), &noise(10, 1), PutMode::CreateNew).await.unwrap();
    }
    for fault in
        [Fault::IncompleteSearch, Fault::Error { status: 500, after_commit: false }, Fault::TruncatedJson]
    {
        scene.fault(Call::List, When::Always, Fault::ShortPages { items: 3 });
        // The first request asks for folders, the next ones for pages.
        scene.fault(Call::List, When::Nth(3), fault.clone());
        let prefix = Prefix::folder("packs").unwrap();
        let mut listing = provider.list(&prefix);
        let (mut seen, mut errors) = (BTreeSet::new(), 0);
        while let Some(next) = listing.next().await {
            match next {
                Ok(info) => assert!(seen.insert(info.key), "listed twice"),
                Err(error) => {
                    assert!(error.is_resumable() && error.kind() == ErrorKind::Transient, "{error}");
                    errors += 1;
                }
            }
        }
        assert_eq!((seen.len(), errors), (12, 1), "{fault:?}");
        scene.double.clear_faults();
    }
}

/// Drive says that it did not look everywhere: that something is not in the answer then means nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_search_never_says_that_something_is_not_there() {
    let scene = Scene::new();
    put(&*scene.machine("a").await, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    let other = scene.machine("b").await;
    scene.fault(Call::List, When::Always, Fault::IncompleteSearch);
    for name in ["packs/aa", "packs/none"] {
        let error = other.head(&key(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{name}: {error}");
    }
    let error = put(&*other, "packs/aa", &noise(10, 2), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    let error = other.list_all(&Prefix::folder("packs").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    scene.double.clear_faults();
    assert_eq!(scene.ids("packs/aa").len(), 1);
    assert_eq!(other.get(&key("packs/aa"), None).await.unwrap(), noise(10, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_are_no_objects() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    put(&*provider, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    let packs = scene.ids("packs").remove(0);
    for name in ["Notes.txt", "packs/AA", "meta/aa", "packs/../x", "packs/", "", "it's \\ here", "packs"] {
        scene.double.add_file(&packs, name, Bytes::from_static(b"foreign")).unwrap();
        scene.double.add_foreign(&scene.double.folder(), name, Bytes::from_static(b"foreign")).unwrap();
    }
    scene.double.add_file(&scene.double.folder(), "packs/bb", Bytes::from_static(b"foreign")).unwrap();
    assert_eq!(listed(&*provider, "").await, BTreeSet::from(["packs/aa".to_owned()]));
    for name in ["packs/bb", "meta/aa"] {
        assert_eq!(provider.head(&key(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap(), noise(10, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_removes_is_noticed() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    for name in ["packs/aa", "packs/bb", "packs/cc"] {
        put(&*provider, name, &noise(10, 1), PutMode::CreateNew).await.unwrap();
    }
    assert!(scene.double.trash(&scene.ids("packs/aa")[0]) && scene.double.remove(&scene.ids("packs/bb")[0]));
    for name in ["packs/aa", "packs/bb"] {
        assert_eq!(provider.head(&key(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        put(&*provider, name, &noise(20, 2), PutMode::CreateNew).await.unwrap();
        assert_eq!(provider.get(&key(name), None).await.unwrap(), noise(20, 2), "{name}");
    }
    // The whole area.
    assert!(scene.double.remove(&scene.ids("packs")[0]));
    assert_eq!(provider.head(&key("packs/cc")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(listed(&*provider, "packs").await, BTreeSet::new());
    put(&*retrying(provider.clone(), 1), "packs/cc", &noise(30, 3), PutMode::CreateNew).await.unwrap();
    assert_eq!(provider.get(&key("packs/cc"), None).await.unwrap(), noise(30, 3));
    // Everything: that is no empty repository.
    assert!(scene.double.remove(&scene.double.folder()));
    let error = put(&*provider, "config", &noise(1, 1), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    let error = provider.list_all(&Prefix::all()).await.unwrap_err();
    assert!(!error.kind().is_retryable(), "{error}");
    let error = scene.try_connect(scene.options("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("drive.file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_on_a_shared_drive_falls_back_to_the_trash() {
    let options = Options { shared_drive: true, may_delete_on_shared_drive: false, ..Options::default() };
    let scene = Scene::with(options);
    let provider = scene.machine("a").await;
    put(&*provider, "packs/aa", &noise(10, 1), PutMode::CreateNew).await.unwrap();
    let id = scene.ids("packs/aa").remove(0);
    provider.delete(&key("packs/aa")).await.unwrap();
    assert!(scene.double.file(&id).unwrap().trashed);
    assert_eq!(provider.get(&key("packs/aa"), None).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(provider.usage().await.unwrap(), lifeboat_providers::Usage::default());
}
