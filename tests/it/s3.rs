//! The S3 provider on real and on faulty stores.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_providers::conformance::{self, Options};
use lifeboat_providers::http::HttpSettings;
use lifeboat_providers::layer::retry::{RetryPolicy, RetryProvider};
use lifeboat_providers::layer::timeout::{TimeoutPolicy, TimeoutProvider};
use lifeboat_providers::layer::{self, StackOptions};
use lifeboat_providers::s3::{Abilities, AccessKey, S3Address, S3Options, S3Provider};
use lifeboat_providers::{
    Body, ErrorKind, Key, Prefix, Proof, Provider, ProviderExt as _, PutMode, Sha256, SharedProvider,
};
use lifeboat_tests::faulty_s3::{self, Behaviour, Checksums, Fault, FaultyS3, Operation, Refusal, Rule};
use lifeboat_tests::garage::{self, Garage};
use lifeboat_tests::moto::Moto;
use lifeboat_tests::random::Random;
use tokio::runtime::Runtime;

/// Quick to give up, so that a test of what fails does not wait.
fn persistent() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 12,
        delay_min: Duration::from_millis(5),
        delay_max: Duration::from_millis(50),
        jitter_seed: Some(1),
        ..RetryPolicy::default()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn connect(runtime: &Runtime, url: &str, id: &str, secret: &str, options: S3Options) -> S3Provider {
    let key = AccessKey { id: id.to_owned(), secret: secret.to_owned(), session_token: None };
    let options = S3Options { access_key: Some(key), ..options };
    let address = S3Address::parse(url).unwrap();
    runtime.block_on(S3Provider::connect(address, options, &HttpSettings::default())).unwrap()
}

fn faulty(runtime: &Runtime, server: &FaultyS3) -> S3Provider {
    with_options(runtime, server, S3Options::default())
}

fn with_options(runtime: &Runtime, server: &FaultyS3, options: S3Options) -> S3Provider {
    connect(runtime, &server.url("prefix"), faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY, options)
}

fn retried(provider: S3Provider) -> SharedProvider {
    Arc::new(RetryProvider::new(Arc::new(provider), persistent()))
}

fn conforms(runtime: &Runtime, provider: SharedProvider, options: Options) {
    let report = runtime.block_on(conformance::run(provider, options));
    assert!(report.passed(), "{report}");
    assert_eq!(report.left_behind, Vec::<String>::new());
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Stores bytes without pattern and gives them back with their digest.
fn object(len: usize) -> (Bytes, Sha256) {
    let bytes = Random::new(len as u64).bytes(len);
    let digest = Sha256::of(&bytes);
    (bytes.into(), digest)
}

#[test]
fn garage_conforms() {
    if !Garage::is_available() {
        return;
    }
    let (runtime, garage) = (runtime(), Garage::start());
    let provider =
        connect(&runtime, &garage.url("x"), garage::ACCESS_KEY, garage::SECRET_KEY, S3Options::default());
    let found = runtime.block_on(provider.abilities()).unwrap();
    assert!(found.checksum && found.states_checksum && found.signed_payload, "{found:?}");
    assert!(!found.conditional_create, "Garage has learnt If-None-Match: {found:?}");
    conforms(&runtime, Arc::new(provider), Options::default());
}

#[test]
fn moto_conforms_and_locks() {
    if !Moto::is_available() {
        return;
    }
    let (runtime, moto) = (runtime(), Moto::start());
    let provider = connect(&runtime, &moto.url("x"), "k", "s", S3Options::default());
    let found = runtime.block_on(provider.abilities()).unwrap();
    assert!(found.conditional_create, "{found:?}");
    // It looks neither at checksums nor at signatures: only reading back proves anything there.
    assert_eq!(found.proof(), Proof::ReadBack);
    // Of two who write one object at once, one reads back what the other wrote, which proves nothing: it puts its own again.
    conforms(&runtime, retried(provider), Options { listed_objects: 1001, ..Options::default() });
    // Retention: extended, never shortened, and put with every object where the URL asks for it.
    let url = format!("{}&lock=30d", moto.locked_url("x"));
    let locked = connect(&runtime, &url, "k", "s", S3Options::default());
    let (bytes, digest) = object(100);
    let name = key("packs/aa/locked");
    runtime.block_on(async {
        locked.put(&name, bytes.into(), digest, PutMode::Replace).await.unwrap();
        locked.retain(&name, Duration::from_secs(60 * 24 * 3600)).await.unwrap();
        locked.retain(&name, Duration::from_secs(3600)).await.unwrap();
    });
}

#[test]
fn a_server_of_our_own_conforms_in_one_put_and_in_parts() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = faulty(&runtime, &server);
    let found = runtime.block_on(provider.abilities()).unwrap();
    assert!(found.checksum && found.states_checksum && found.conditional_create, "{found:?}");
    conforms(&runtime, Arc::new(provider), Options::default());
    let parts = S3Options { single_put_bytes_max: 1 << 20, part_bytes: 5 << 20, ..S3Options::default() };
    let large = Options { large_bytes: (11 << 20) + 3, listed_objects: 10, ..Options::default() };
    let in_parts = Arc::new(with_options(&runtime, &server, parts));
    conforms(&runtime, in_parts.clone(), large);
    // The suite abandons some puts; what they leave is swept.
    runtime.block_on(in_parts.sweep_uploads(Duration::ZERO)).unwrap();
    assert_eq!(server.uploads(), Vec::<String>::new());
}

#[test]
fn every_seventh_request_failing_in_some_way_is_not_noticed() {
    for (seed, fault) in [
        Fault::Refuse(Refusal::internal_error()),
        Fault::RefuseAfter(Refusal::internal_error()),
        Fault::RefuseAfter(Refusal::slow_down()),
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::CutAnswer(10),
    ]
    .into_iter()
    .enumerate()
    {
        let (runtime, server) = (runtime(), FaultyS3::start());
        let provider = retried(faulty(&runtime, &server));
        // What the store does is found out undisturbed.
        let (bytes, digest) = object(10);
        runtime.block_on(provider.put(&key("first"), bytes.into(), digest, PutMode::Replace)).unwrap();
        for nth in 0..400 {
            server.fault(Rule::always(fault.clone()).after(nth * 7 + seed).once());
        }
        let options = Options { listed_objects: 50, large_bytes: 300_000, ..Options::default() };
        let report = runtime.block_on(conformance::run(provider, options));
        // The one call that cannot be told from its own repetition: the same bytes created again after an unknown outcome.
        let failed = report.failures().filter(|(name, _)| *name != "create_new_refuses_existing");
        assert_eq!(failed.count(), 0, "{fault:?}\n{report}");
    }
}

#[test]
fn what_each_answer_means() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = faulty(&runtime, &server);
    runtime.block_on(provider.abilities()).unwrap();
    let put = |name: &str| {
        let (bytes, digest) = object(1000);
        runtime.block_on(provider.put(&key(name), bytes.into(), digest, PutMode::Replace))
    };
    for (refusal, kind) in [
        (Refusal::internal_error(), ErrorKind::Transient),
        (Refusal::slow_down(), ErrorKind::Throttled),
        (Refusal::service_unavailable(), ErrorKind::Transient),
        (Refusal::access_denied(), ErrorKind::Denied),
        (Refusal::invalid_access_key(), ErrorKind::Denied),
        (Refusal::expired_token(), ErrorKind::Denied),
        (Refusal::time_too_skewed(), ErrorKind::Denied),
        (Refusal::request_timeout(), ErrorKind::Transient),
        (Refusal::conditional_conflict(), ErrorKind::Transient),
    ] {
        server.fault(Rule::on(Operation::Put, Fault::Refuse(refusal.clone())).once());
        let error = put("refused").unwrap_err();
        assert_eq!(error.kind(), kind, "{refusal:?}: {error}");
    }
    for refusal in Refusal::quotas() {
        server.fault(Rule::on(Operation::Put, Fault::Refuse(refusal.clone())).once());
        let error = put("full").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Quota, "{refusal:?}: {error}");
    }
    server.fault(Rule::on(Operation::Put, Fault::Refuse(Refusal::slow_down().retry_after(7))).once());
    assert_eq!(put("slow").unwrap_err().retry_after(), Some(Duration::from_secs(7)));
    // Nothing of it was stored.
    assert_eq!(runtime.block_on(provider.list_all(&Prefix::all())).unwrap(), []);
}

#[test]
fn a_store_that_states_another_hash_is_not_believed() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = faulty(&runtime, &server);
    runtime.block_on(provider.abilities()).unwrap();
    server.fault(Rule::on(Operation::Put, Fault::WrongChecksum).once());
    let (bytes, digest) = object(5000);
    let name = key("a");
    let put = provider.put(&name, bytes.clone().into(), digest, PutMode::Replace);
    assert_eq!(runtime.block_on(put).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!runtime.block_on(provider.exists(&key("a"))).unwrap());
    // A digest that is not the body's is refused by the store itself.
    let wrong = provider.put(&name, bytes.into(), Sha256::of(b"x"), PutMode::Replace);
    assert_eq!(runtime.block_on(wrong).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_store_without_checksums_is_read_back() {
    let behaviour = Behaviour { checksums: Checksums::Ignored, conditional: false, ..Behaviour::default() };
    let (runtime, server) = (runtime(), FaultyS3::with(behaviour));
    let provider = faulty(&runtime, &server);
    let found = runtime.block_on(provider.abilities()).unwrap();
    assert!(!found.checksum && !found.conditional_create, "{found:?}");
    let (bytes, digest) = object(5000);
    let receipt =
        runtime.block_on(provider.put(&key("a"), bytes.clone().into(), digest, PutMode::Replace)).unwrap();
    assert_eq!(receipt.proof, found.proof());
    assert_ne!(receipt.proof, Proof::Server);
    if found.proof() == Proof::ReadBack {
        server.fault(Rule::on(Operation::Put, Fault::StoreFlipped).once());
        let name = key("b");
        let put = provider.put(&name, bytes.into(), digest, PutMode::Replace);
        assert_eq!(runtime.block_on(put).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// A provider of a store that is known to do nothing by itself: all is read back.
fn reading_back(runtime: &Runtime, server: &FaultyS3, state: &Path) -> S3Provider {
    let options = || S3Options { state_dir: Some(state.to_owned()), ..S3Options::default() };
    runtime.block_on(with_options(runtime, server, options()).abilities()).unwrap();
    for record in fs::read_dir(state).unwrap() {
        let path = record.unwrap().path();
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("true", "false")).unwrap();
    }
    let provider = with_options(runtime, server, options());
    assert_eq!(runtime.block_on(provider.abilities()).unwrap(), Abilities::LEAST);
    provider
}

#[test]
fn an_object_of_another_tag_is_read_back_all_the_same() {
    let behaviour = Behaviour { checksums: Checksums::Ignored, conditional: false, ..Behaviour::default() };
    let (runtime, server, state) = (runtime(), FaultyS3::with(behaviour), tempfile::tempdir().unwrap());
    let provider = reading_back(&runtime, &server, state.path());
    let (bytes, digest) = object(5000);
    let name = key("a");
    let put = || runtime.block_on(provider.put(&name, bytes.clone().into(), digest, PutMode::Replace));
    server.fault(Rule::on(Operation::Put, Fault::OtherTag));
    assert_eq!(put().unwrap().proof, Proof::ReadBack);
    // Whose bytes are damaged nobody knows: they are neither believed nor removed.
    server.fault(Rule::on(Operation::Get, Fault::FlipAnswer(70)).after(1).once());
    assert_eq!(put().unwrap_err().kind(), ErrorKind::Transient);
    assert!(server.objects().contains_key("prefix/a"));
    assert_eq!(put().unwrap().proof, Proof::ReadBack);
}

#[test]
fn what_a_store_does_is_told_as_soon_as_it_is_known() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = layer::stack(Arc::new(faulty(&runtime, &server)), StackOptions::default());
    // Nothing was found out yet: nothing is claimed.
    assert_eq!(provider.capabilities().proof, Proof::Transport);
    let (bytes, digest) = object(100);
    let name = key("a");
    let put = provider.put(&name, bytes.into(), digest, PutMode::Replace);
    assert_eq!(runtime.block_on(put).unwrap().proof, Proof::Server);
    assert_eq!(provider.capabilities().proof, Proof::Server);
    assert!(provider.capabilities().conditional_create);
}

#[test]
fn short_and_damaged_answers_are_never_given_as_data() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = faulty(&runtime, &server);
    let (bytes, digest) = object(100_000);
    let name = key("packs/aa/x");
    runtime.block_on(provider.put(&name, bytes.clone().into(), digest, PutMode::Replace)).unwrap();
    let get = |range| runtime.block_on(provider.get(&name, range));
    assert_eq!(get(None).unwrap(), bytes);
    server.fault(Rule::on(Operation::Get, Fault::CutAnswer(50_000)).once());
    assert_eq!(get(None).unwrap_err().kind(), ErrorKind::Transient);
    server.fault(Rule::on(Operation::Get, Fault::CutAnswer(100)).once());
    assert_eq!(get(Some(10..5000)).unwrap_err().kind(), ErrorKind::Transient);
    server.fault(Rule::on(Operation::Get, Fault::ShortAnswer(100)).once());
    assert!(get(Some(10..5000)).is_err());
    server.fault(Rule::on(Operation::Get, Fault::FlipAnswer(70)).once());
    let flipped = runtime.block_on(provider.get_verified(&name, digest)).unwrap_err();
    assert_eq!(flipped.kind(), ErrorKind::Corrupt);
    assert_eq!(get(Some(10..5000)).unwrap(), bytes.slice(10..5000));
}

#[test]
fn listings_end_with_an_error_or_are_complete() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    for number in 0..2500 {
        server.insert(&format!("prefix/packs/{number:04}"), Bytes::from_static(b"x"));
    }
    server.insert("prefix/packs/Foreign File", Bytes::from_static(b"x"));
    server.insert("prefix-2/packs/0000", Bytes::from_static(b"x"));
    let provider = retried(faulty(&runtime, &server));
    let packs = Prefix::folder("packs").unwrap();
    let list = || runtime.block_on(provider.list_all(&packs));
    assert_eq!(list().unwrap().len(), 2500);
    // A page that fails is asked for again, and no page is lost or repeated for it.
    server.forget_requests();
    server.fault(Rule::on(Operation::List, Fault::Refuse(Refusal::internal_error())).after(1).once());
    server.fault(Rule::on(Operation::List, Fault::EmptyPage).after(2).once());
    assert_eq!(list().unwrap().len(), 2500);
    server.heal();
    server.fault(Rule::on(Operation::List, Fault::SayNothingOfMore));
    assert_eq!(list().unwrap().len(), 2500);
    server.heal();
    server.fault(Rule::on(Operation::List, Fault::RepeatPage).after(1).times(3));
    let error = list().unwrap_err();
    assert!(error.to_string().contains("repeats a page"), "{error}");
}

#[test]
fn a_batch_of_deletes_tells_what_failed() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    for name in ["a", "b", "c"] {
        server.insert(&format!("prefix/{name}"), Bytes::from_static(b"x"));
    }
    let provider = faulty(&runtime, &server);
    server.fault(
        Rule::on(Operation::DeleteMany, Fault::FailKeys("b".to_owned(), Refusal::access_denied())).once(),
    );
    let keys = [key("a"), key("b"), key("c"), key("never-there")];
    let results = runtime.block_on(provider.delete_many(&keys));
    let kinds: Vec<_> = results.into_iter().map(|result| result.err().map(|e| e.kind())).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::Denied), None, None]);
    assert_eq!(server.objects().into_keys().collect::<Vec<_>>(), ["prefix/b"]);
}

#[test]
fn uploads_that_were_cut_off_are_swept() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let state = tempfile::tempdir().unwrap();
    let options = || S3Options {
        state_dir: Some(state.path().to_owned()),
        single_put_bytes_max: 1 << 20,
        part_bytes: 5 << 20,
        ..S3Options::default()
    };
    let (bytes, digest) = object(11 << 20);
    // The process dies while the second part hangs.
    server.fault(Rule::on(Operation::UploadPart, Fault::HangBefore).after(1).once());
    let dying = with_options(&runtime, &server, options());
    let body = Body::from(bytes.clone());
    let put = runtime.spawn(async move { dying.put(&key("large"), body, digest, PutMode::Replace).await });
    server.wait_for_request(|request| request.fault.is_some());
    put.abort();
    assert!(runtime.block_on(put).unwrap_err().is_cancelled());
    assert_eq!(server.uploads().len(), 1);
    assert!(server.objects().keys().all(|name| name != "prefix/large"));
    server.heal();
    let next = with_options(&runtime, &server, options());
    let (removed, _) = runtime.block_on(next.sweep_uploads(Duration::ZERO)).unwrap();
    assert_eq!((removed, server.uploads().len()), (1, 0));
    runtime.block_on(next.put(&key("large"), Body::from(bytes), digest, PutMode::CreateNew)).unwrap();
    assert_eq!(server.uploads(), Vec::<String>::new());
}

#[test]
fn a_hung_server_is_given_up() {
    let (runtime, server) = (runtime(), FaultyS3::start());
    let provider = faulty(&runtime, &server);
    runtime.block_on(provider.abilities()).unwrap();
    server.fault(Rule::on(Operation::Head, Fault::HangBefore).once());
    let policy = TimeoutPolicy { attempt: Duration::from_millis(300), ..TimeoutPolicy::default() };
    let bounded = Arc::new(TimeoutProvider::new(Arc::new(provider), &policy));
    let patient = RetryProvider::new(bounded, persistent());
    let error = runtime.block_on(patient.head(&key("missing"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
