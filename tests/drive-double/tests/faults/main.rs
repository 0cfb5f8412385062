//! Every fault is seen on the wire, and its effect in what is stored.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing loudly")]

mod client;

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use lifeboat_drive_double::{Call, Double, Fault, Options, Rate, Rule, SCOPE_DRIVE, When};
use serde_json::{Value, json};

use crate::client::{Answer, Client};

const QUANTUM: usize = 256 * 1024;

/// Never reached: what is waited for comes at once, on any machine.
const LONG: Duration = Duration::from_secs(120);

fn start(options: Options) -> (Double, Client) {
    let double = Double::start(options).unwrap();
    let client = Client::of(&double);
    (double, client)
}

fn started() -> (Double, Client) {
    start(Options::default())
}

fn named(double: &Double, name: &str) -> Value {
    json!({"name": name, "parents": [double.folder()]})
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn list(double: &Double, client: &Client, more: &str) -> Answer {
    let path = format!("/drive/v3/files?q='{}'+in+parents+and+trashed=false{more}", double.folder());
    let answer = client.get(&path);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn put(client: &Client, session: &str, range: &str, body: &[u8]) -> Answer {
    client.send("PUT", session, &[("Content-Range", range)], body)
}

#[test]
fn a_request_that_is_cut_leaves_whole_quanta_of_a_chunk() {
    let (double, client) = started();
    let content = noise(3 * QUANTUM + 5);
    let session = client.start_upload(&named(&double, "a"));
    double.fault(Rule::new(Call::UploadChunk, When::Nth(1), Fault::CutRequest { after_bytes: 600_000 }));
    let range = format!("bytes 0-{}/{}", content.len() - 1, content.len());
    assert!(client.try_send("PUT", &session, &[("Content-Range", &range)], &content).is_err());
    let status = put(&client, &session, &format!("bytes */{}", content.len()), b"");
    assert_eq!((status.status, status.header("range")), (308, Some("bytes=0-524287")));
    assert!(double.file(&double.folder()).is_some() && double.files().len() == 1);
    let rest = format!("bytes 524288-{}/{}", content.len() - 1, content.len());
    let done = put(&client, &session, &rest, &content[2 * QUANTUM..]);
    assert_eq!(done.status, 200);
    let id = done.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(double.content(&id).unwrap(), content);
    let cut = double.requests().into_iter().find(|request| request.call == Call::UploadChunk).unwrap();
    assert_eq!((cut.bytes_in, cut.status, cut.finished), (600_000, None, true));
    // Asked again, a session that is complete gives its answer again.
    assert_eq!(put(&client, &session, &format!("bytes */{}", content.len()), b"").json(), done.json());
}

#[test]
fn a_client_that_breaks_off_leaves_whole_quanta_too() {
    let (double, client) = started();
    let content = noise(2 * QUANTUM);
    let session = client.start_upload(&named(&double, "a"));
    let headers = [("Content-Range", "bytes 0-524287/524288")];
    let mut stream = client.begin("PUT", &session, &headers, content.len()).unwrap();
    stream.write_all(&content[..QUANTUM + 9]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    assert!(
        double.wait_until(LONG, |all| all.iter().any(|one| one.call == Call::UploadChunk && one.finished))
    );
    let status = put(&client, &session, "bytes */524288", b"");
    assert_eq!((status.status, status.header("range")), (308, Some("bytes=0-262143")));
}

#[test]
fn a_create_that_is_cut_leaves_nothing() {
    let (double, client) = started();
    double.fault(Rule::new(Call::Create, When::Always, Fault::CutRequest { after_bytes: 100 }));
    assert!(client.try_create(&named(&double, "a"), &noise(5000)).is_err());
    assert_eq!(double.files().len(), 1);
}

#[test]
fn a_call_without_an_answer_took_effect() {
    let (double, client) = started();
    for fault in [Fault::NoResponse, Fault::Error { status: 500, after_commit: true }] {
        let id = client.generate_id();
        let mut metadata = named(&double, "a");
        metadata["id"] = id.clone().into();
        double.fault(Rule::new(Call::Create, When::Nth(1), fault));
        let first = client.try_create(&metadata, b"hello");
        assert!(first.is_err() || first.is_ok_and(|answer| answer.status == 500));
        assert_eq!(double.content(&id).unwrap(), "hello");
        let again = client.create(&metadata, b"hello");
        assert_eq!((again.status, again.reason().as_str()), (409, "fileIdInUse"));
        double.clear_faults();
    }
    double.fault(Rule::new(Call::Create, When::Nth(1), Fault::Error { status: 503, after_commit: false }));
    let before = double.files().len();
    assert_eq!(client.create(&named(&double, "b"), b"x").status, 503);
    assert_eq!(double.files().len(), before);
}

#[test]
fn answers_break_off_and_json_ends_in_the_middle() {
    let (double, client) = started();
    let content = noise(1_000_000);
    let id = double.add_file(&double.folder(), "a", content.clone()).unwrap();
    let media = format!("/drive/v3/files/{id}?alt=media");
    double.fault(Rule::new(Call::Media, When::Nth(1), Fault::CutResponse { after_bytes: 1000 }));
    let cut = client.get(&media);
    assert_eq!((cut.status, cut.is_whole()), (200, false));
    assert_eq!(cut.body, content[..1000]);
    assert_eq!(client.get(&media).body, content);
    double.fault(Rule::new(Call::Get, When::Nth(1), Fault::TruncatedJson));
    let broken = client.get(&format!("/drive/v3/files/{id}"));
    assert!(broken.status == 200 && broken.is_whole());
    assert!(serde_json::from_slice::<Value>(&broken.body).is_err());
    double.fault(Rule::new(Call::Delete, When::Nth(1), Fault::CutResponse { after_bytes: 0 }));
    assert!(client.try_send("DELETE", &format!("/drive/v3/files/{id}"), &[], b"").is_err());
    assert!(double.file(&id).is_none());
}

#[test]
fn downloads_are_short_or_corrupt() {
    let (double, client) = started();
    let content = noise(1000);
    let id = double.add_file(&double.folder(), "a", content.clone()).unwrap();
    let media = format!("/drive/v3/files/{id}?alt=media");
    double.fault(Rule::new(Call::Media, When::Nth(1), Fault::ShortDownload { bytes: 10 }));
    let short = client.get(&media);
    assert!(short.status == 200 && short.is_whole() && short.body == content[..10]);
    double.clear_faults();
    double.fault(Rule::new(Call::Media, When::Nth(1), Fault::CorruptDownload));
    let corrupt = client.send("GET", &media, &[("Range", "bytes=100-299")], b"");
    assert_eq!((corrupt.status, corrupt.header("content-range")), (206, Some("bytes 100-299/1000")));
    assert!(corrupt.body.len() == 200 && corrupt.body != content[100..300]);
    assert_eq!(client.get(&media).body, content);
    // At rest: the bytes change, what is stated of them does not.
    let before = double.file(&id).unwrap();
    assert!(double.flip_byte(&id));
    assert_ne!(client.get(&media).body, content);
    assert_eq!(double.file(&id).unwrap().sha256, before.sha256);
    assert!(double.set_content(&id, "other"));
    assert_ne!(double.file(&id).unwrap().sha256, before.sha256);
}

#[test]
fn digests_are_wrong_or_missing_or_those_of_corrupt_bytes() {
    let (double, client) = started();
    let truth = client.create(&named(&double, "a"), b"hello").json();
    for (fault, sha256, md5) in [
        (Fault::WrongDigest, true, true),
        (Fault::MissingDigest, false, true),
        (Fault::MissingDigests, false, false),
    ] {
        double.fault(Rule::new(Call::Any, When::Always, fault));
        let told = client.create(&named(&double, "a"), b"hello").json();
        assert_eq!((told["sha256Checksum"].is_string(), told["md5Checksum"].is_string()), (sha256, md5));
        assert_ne!(told["sha256Checksum"], truth["sha256Checksum"]);
        let listed = list(&double, &client, "&fields=files(sha256Checksum)").json();
        assert!(listed["files"].as_array().unwrap().iter().all(|file| {
            file["sha256Checksum"].is_string() == sha256 && file["sha256Checksum"] != truth["sha256Checksum"]
        }
            || file.as_object().unwrap().is_empty()));
        double.clear_faults();
    }
    double.fault(Rule::new(Call::Create, When::Always, Fault::CorruptUpload));
    let told = client.create(&named(&double, "b"), b"hello").json();
    assert_eq!(told["size"], "5");
    assert_ne!(told["sha256Checksum"], truth["sha256Checksum"]);
}

#[test]
fn a_call_hangs_until_it_is_released() {
    let (double, client) = started();
    for after_commit in [false, true] {
        double.fault(Rule::new(Call::Create, When::Always, Fault::Hang { after_commit }));
        let before = double.files().len();
        let (other, metadata) = (client.clone(), named(&double, "a"));
        let call = std::thread::spawn(move || other.create(&metadata, b"x"));
        let hangs = |request: &lifeboat_drive_double::LoggedRequest| {
            request.call == Call::Create && !request.finished && request.bytes_in > 0
        };
        assert!(double.wait_until(LONG, |all| all.iter().any(hangs)));
        // Other calls are answered meanwhile; the lock shows the state after this one began to hang.
        assert_eq!(client.get("/drive/v3/about?fields=user").status, 200);
        assert_eq!(double.files().len() - before, usize::from(after_commit));
        double.release();
        assert_eq!(call.join().unwrap().status, 200);
        assert_eq!(double.files().len() - before, 1);
    }
}

#[test]
fn a_call_takes_effect_after_its_client_has_gone() {
    let (double, client) = started();
    double.fault(Rule::new(Call::Create, When::Always, Fault::Hang { after_commit: false }));
    let body = json!({"name": "late", "parents": [double.folder()]}).to_string();
    let mut stream = client.begin("POST", "/drive/v3/files", &[], body.len()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    assert!(
        double.wait_until(LONG, |all| all.iter().any(|one| one.call == Call::Create && one.bytes_in > 0))
    );
    drop(stream);
    // Another call lets the server see that this client has gone.
    assert_eq!(client.get("/drive/v3/about?fields=user").status, 200);
    assert_eq!(double.files().len(), 1);
    double.release();
    assert!(double.wait_until(LONG, |all| all.iter().any(|one| one.call == Call::Create && one.finished)));
    assert_eq!(double.files()[1].name, "late");
}

#[test]
fn listings_lag_and_come_in_strange_pages() {
    let (double, client) = started();
    let folder = double.folder();
    let ids: Vec<String> =
        (0..5).map(|number| double.add_file(&folder, &number.to_string(), "x").unwrap()).collect();
    double.fault(Rule::new(Call::List, When::Always, Fault::HideNewest { creates: 2 }));
    assert_eq!(list(&double, &client, "&orderBy=name").ids(), ids[..3]);
    // Every further create shows one more.
    double.add_file(&double.root(), "elsewhere", "x").unwrap();
    assert_eq!(list(&double, &client, "&orderBy=name").ids(), ids[..4]);
    double.release();
    double.fault(Rule::new(Call::List, When::Always, Fault::HideNew));
    let late = double.add_file(&folder, "9", "x").unwrap();
    assert_eq!(list(&double, &client, "&orderBy=name").ids(), ids);
    assert_eq!(client.get(&format!("/drive/v3/files/{late}")).status, 200);
    double.release();
    assert_eq!(list(&double, &client, "").ids().len(), 6);
    double.remove(&late);
    double.fault(Rule::new(Call::List, When::Always, Fault::ListRemoved));
    assert!(list(&double, &client, "").ids().contains(&late));
    double.release();
    assert!(!list(&double, &client, "").ids().contains(&late));

    double.fault(Rule::new(Call::List, When::EveryNth(2), Fault::EmptyPage));
    double.fault(Rule::new(Call::List, When::Always, Fault::ShortPages { items: 2 }));
    let (mut found, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = list(&double, &client, &format!("&orderBy=name&pageToken={token}"));
        sizes.push(page.ids().len());
        found.extend(page.ids());
        match page.json()["nextPageToken"].as_str() {
            Some(next) => token = next.replace('!', "%21"),
            None => break,
        }
    }
    assert_eq!((found, sizes), (ids, vec![2, 0, 2, 0, 1]));
    double.clear_faults();
    double.fault(Rule::new(Call::List, When::Always, Fault::IncompleteSearch));
    let page = list(&double, &client, "");
    assert_eq!((page.json()["incompleteSearch"].clone(), page.ids().len()), (true.into(), 2));
}

#[test]
fn sessions_go_and_ids_are_taken_at_the_commit() {
    let (double, client) = started();
    let session = client.start_upload(&named(&double, "a"));
    double.fault(Rule::new(Call::UploadChunk, When::Nth(1), Fault::SessionGone { status: 410 }));
    assert_eq!(put(&client, &session, "bytes 0-0/1", b"x").status, 410);
    assert_eq!(put(&client, &session, "bytes 0-0/1", b"x").status, 404);
    let session = client.start_upload(&named(&double, "a"));
    double.expire_sessions();
    assert_eq!(put(&client, &session, "bytes */1", b"").status, 404);

    let mut metadata = named(&double, "a");
    metadata["id"] = client.generate_id().into();
    let (first, second) = (client.start_upload(&metadata), client.start_upload(&metadata));
    assert_eq!(put(&client, &first, "bytes 0-0/1", b"1").status, 200);
    let late = put(&client, &second, "bytes 0-0/1", b"2");
    assert_eq!((late.status, late.reason().as_str()), (409, "fileIdInUse"));
    assert_eq!(double.content(metadata["id"].as_str().unwrap()).unwrap(), "1");
    // What was cancelled is gone, and an empty upload cannot begin.
    let session = client.start_upload(&named(&double, "b"));
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 499);
    assert_eq!(put(&client, &session, "bytes 0-0/1", b"x").status, 404);
    let path = "/upload/drive/v3/files?uploadType=resumable";
    assert_eq!(client.send("POST", path, &[("X-Upload-Content-Length", "0")], b"{}").status, 400);
}

#[test]
fn limits_are_refused_with_their_reasons() {
    let options = Options {
        quota_bytes: Some(100),
        items_per_folder: 3,
        upload_bytes_per_day: 60,
        ..Options::default()
    };
    let (double, client) = start(options);
    assert_eq!(client.create(&named(&double, "a"), &[1; 50]).status, 200);
    assert_eq!(client.create(&named(&double, "b"), &[1; 51]).reason(), "storageQuotaExceeded");
    assert_eq!(client.create(&named(&double, "b"), &[1; 11]).reason(), "userRateLimitExceeded");
    double.next_day();
    assert_eq!(client.create(&named(&double, "b"), &[1; 11]).status, 200);
    assert_eq!(client.create(&named(&double, "c"), b"").status, 200);
    assert_eq!(client.create(&named(&double, "d"), b"").reason(), "numChildrenInNonRootLimitExceeded");
    assert_eq!(double.usage(), 61);

    let rate = Rate { calls: 3, per: LONG };
    let (double, client) = start(Options { rate: Some(rate), ..Options::default() });
    let about = || client.get("/drive/v3/about?fields=user");
    assert!((0..3).all(|_| about().status == 200));
    assert_eq!((about().status, about().reason().as_str()), (403, "userRateLimitExceeded"));
    drop(double);
}

#[test]
fn the_service_goes_down_and_comes_back() {
    let (double, client) = started();
    double.set_down(true);
    assert!(client.try_send("GET", "/drive/v3/about?fields=user", &[], b"").is_err());
    double.set_down(false);
    assert_eq!(client.get("/drive/v3/about?fields=user").status, 200);
}

#[test]
fn tokens_fail_and_come_back() {
    let (double, client) = started();
    let get = || client.get(&format!("/drive/v3/files/{}", double.folder()));
    double.fault(Rule::new(Call::Get, When::Nth(1), Fault::Unauthorized));
    let refused = get();
    assert_eq!((refused.status, refused.reason().as_str()), (401, "authError"));
    assert!(refused.header("www-authenticate").is_some());
    assert_eq!(get().status, 200);
    double.revoke_tokens();
    assert_eq!(get().status, 401);
    double.fault(Rule::new(Call::Token, When::Nth(1), Fault::InvalidGrant));
    double.fault(Rule::new(Call::Token, When::Nth(2), Fault::Error { status: 503, after_commit: false }));
    let ask = || client.send("POST", "/token", &[], b"grant_type=refresh_token");
    assert_eq!(ask().json()["error"], "invalid_grant");
    assert_eq!(ask().status, 503);
    assert_eq!(ask().json()["error"], "invalid_client");
}

#[test]
fn who_may_see_what() {
    let (double, client) = start(Options { shared_drive: true, ..Options::default() });
    let folder = double.folder();
    assert_eq!(client.get(&format!("/drive/v3/files/{folder}")).status, 404);
    assert_eq!(client.get(&format!("/drive/v3/files/{folder}?supportsAllDrives=true")).status, 200);
    let noted = double
        .requests()
        .iter()
        .any(|one| one.note.as_deref().is_some_and(|note| note.contains("shared drive")));
    assert!(noted, "the log says why");
    let mine = double.add_file(&folder, "a", "x").unwrap();
    let theirs = double.add_foreign(&folder, "a", "y").unwrap();
    // Forgotten parameters are no error: the folder seems to be empty.
    assert_eq!(list(&double, &client, "").ids(), [""; 0]);
    let all = "&includeItemsFromAllDrives=true&supportsAllDrives=true";
    assert_eq!(list(&double, &client, all).ids(), std::slice::from_ref(&mine));
    let twin = double.add_duplicate("a", None).unwrap();
    assert_eq!(double.content(&twin), double.content(&theirs));
    assert!(double.trash(&mine));
    assert_eq!(list(&double, &client, all).ids(), [twin]);

    let (double, client) = start(Options { scopes: vec![SCOPE_DRIVE.to_owned()], ..Options::default() });
    let theirs = double.add_foreign(&double.folder(), "a", "y").unwrap();
    assert_eq!(client.get(&format!("/drive/v3/files/{theirs}?alt=media")).body, b"y");
}

#[test]
fn hostile_requests_are_answered() {
    let (double, client) = start(Options { body_bytes: 1000, ..Options::default() });
    let paths = [
        "/",
        "//",
        "/drive/v3/files/%FF%00",
        "/drive/v3/files?q=%27",
        "/drive/v3//",
        "/upload/",
        "/_double/x",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"] {
            let answer =
                client.send(method, path, &[("Content-Range", "bytes 0-18446744073709551615/*")], b"{}");
            assert!(answer.status < 500, "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(client.send("POST", "/drive/v3/files", &[], &[b' '; 1001]).status, 413);
    let deep = "[".repeat(900);
    assert_eq!(client.send("POST", "/drive/v3/files", &[], deep.as_bytes()).status, 400);
    let session = client.start_upload(&named(&double, "a"));
    for range in
        ["bytes 0-18446744073709551615/*", "bytes 18446744073709551614-18446744073709551614/*", "bytes x"]
    {
        let answer = put(&client, &session, range, b"x");
        assert!([400, 503].contains(&answer.status), "{range}: {answer:?}");
    }
}

#[test]
fn the_log_holds_no_tokens() {
    let (double, client) = started();
    assert_eq!(client.get("/drive/v3/about?fields=user").status, 200);
    let log = format!("{:?}", double.requests());
    assert!(
        !log.contains("ya29") && !log.contains(&double.refresh_token()) && log.contains("About"),
        "{log}"
    );
}
