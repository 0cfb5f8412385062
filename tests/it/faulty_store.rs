//! The S3 server that goes wrong on demand: it does what S3 does, and each fault is what it says. Driven by plain requests,
//! and by boto3 for what only a client of others can judge.

use lifeboat_tests::faulty_s3::store::{base64, composite_sha256, sha256_base64};
use lifeboat_tests::faulty_s3::{Behaviour, Checksums, Fault, FaultyS3, Operation, Refusal, Rule};
use lifeboat_tests::http::{Answer, request};

use crate::servers::boto;

/// A server that takes requests without a signature.
fn open_store() -> FaultyS3 {
    FaultyS3::with(Behaviour { unsigned: true, ..Behaviour::default() })
}

fn ask(
    store: &FaultyS3,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    request(store.address(), method, &format!("/lifeboat-test{target}"), headers, body)
}

#[track_caller]
fn put(store: &FaultyS3, key: &str, body: &[u8]) -> Answer {
    let sha256 = sha256_base64(body);
    ask(store, "PUT", &format!("/{key}"), &[("x-amz-checksum-sha256", &sha256)], body).unwrap()
}

#[track_caller]
fn get(store: &FaultyS3, key: &str) -> Answer {
    ask(store, "GET", &format!("/{key}"), &[], b"").unwrap()
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
    assert_eq!(base64(&[0xFB, 0xFF, 0xBF]), "+/+/");
}

#[test]
fn without_faults_the_faulty_store_is_an_s3_store_to_boto3() {
    let store = FaultyS3::start();
    store.set_behaviour(Behaviour { page: 2, ..Behaviour::default() });
    let script = r#"
say("put", lambda: s3.put_object(Bucket=B, Key="a/1", Body=b"one", ChecksumSHA256=sha(b"one"))["ChecksumSHA256"] == sha(b"one"))
say("wrong checksum", lambda: s3.put_object(Bucket=B, Key="a/x", Body=b"one", ChecksumSHA256=sha(b"two")))
say("create", lambda: s3.put_object(Bucket=B, Key="a/2", Body=b"two", IfNoneMatch="*")["ETag"])
say("create again", lambda: s3.put_object(Bucket=B, Key="a/2", Body=b"three", IfNoneMatch="*"))
for n in range(3, 6): s3.put_object(Bucket=B, Key=f"a/{n}", Body=b"more")
say("get", lambda: s3.get_object(Bucket=B, Key="a/2")["Body"].read())
say("range", lambda: s3.get_object(Bucket=B, Key="a/2", Range="bytes=1-1")["Body"].read())
say("beyond", lambda: s3.get_object(Bucket=B, Key="a/2", Range="bytes=9-9"))
say("none", lambda: s3.get_object(Bucket=B, Key="nothing"))
say("head", lambda: s3.head_object(Bucket=B, Key="a/1", ChecksumMode="ENABLED")["ChecksumSHA256"] == sha(b"one"))
say("head none", lambda: s3.head_object(Bucket=B, Key="nothing"))
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=B, Prefix="a/")
say("list", lambda: [[o["Key"] for o in page["Contents"]] for page in pages])
say("delete many", lambda: [d["Key"] for d in s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "a/3"}, {"Key": "a/4"}]})["Deleted"]])
say("delete", lambda: s3.delete_object(Bucket=B, Key="nothing")["ResponseMetadata"]["HTTPStatusCode"])
up = s3.create_multipart_upload(Bucket=B, Key="big", ChecksumAlgorithm="SHA256")["UploadId"]
big = [b"x" * (5 << 20), b"tail"]
parts = [{"PartNumber": n + 1, "ETag": s3.upload_part(Bucket=B, Key="big", UploadId=up, PartNumber=n + 1, Body=b, ChecksumSHA256=sha(b))["ETag"], "ChecksumSHA256": sha(b)} for n, b in enumerate(big)]
say("uploads", lambda: [u["Key"] for u in s3.list_multipart_uploads(Bucket=B)["Uploads"]])
say("complete", lambda: s3.complete_multipart_upload(Bucket=B, Key="big", UploadId=up, MultipartUpload={"Parts": parts})["ChecksumSHA256"])
say("size", lambda: s3.head_object(Bucket=B, Key="big")["ContentLength"])
say("abort none", lambda: s3.abort_multipart_upload(Bucket=B, Key="big", UploadId=up))
"#;
    let Some(said) =
        boto(store.address(), "test", "AKIAFAULTYS3EXAMPLE0", "faulty-s3-looks-at-every-signature", script)
    else {
        return;
    };
    let composite = composite_sha256([vec![b'x'; 5 << 20], b"tail".to_vec()].iter().map(Vec::as_slice));
    let wanted = [
        "put: True",
        "wrong checksum: 400 BadDigest",
        "create: \"b8a9f715dbb64fd5c56e7783c6820a61\"",
        "create again: 412 PreconditionFailed",
        "get: b'two'",
        "range: b'w'",
        "beyond: 416 InvalidRange",
        "none: 404 NoSuchKey",
        "head: True",
        "head none: 404 404",
        "list: [['a/1', 'a/2'], ['a/3', 'a/4'], ['a/5']]",
        "delete many: ['a/3', 'a/4']",
        "delete: 204",
        "uploads: ['big']",
        &format!("complete: {composite}"),
        "size: 5242884",
        "abort none: 404 NoSuchUpload",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(store.objects().keys().collect::<Vec<_>>(), ["a/1", "a/2", "a/5", "big"]);
    assert_eq!(store.count(Operation::UploadPart), 2);
}

#[test]
fn a_wrong_signature_is_refused() {
    let store = FaultyS3::start();
    assert_eq!(get(&store, "a").status, 403, "without a signature");
    let script = "say('get', lambda: s3.get_object(Bucket=B, Key='a'))";
    if let Some(said) = boto(store.address(), "test", "AKIAFAULTYS3EXAMPLE0", "another-secret", script) {
        assert_eq!(said.trim(), "get: 403 SignatureDoesNotMatch");
    }
}

#[test]
fn refusals_come_before_or_after_the_effect() {
    let store = open_store();
    store.fault(Rule::on(Operation::Put, Fault::Refuse(Refusal::slow_down().retry_after(7))).after(1).once());
    store.fault(Rule::on(Operation::Put, Fault::RefuseAfter(Refusal::internal_error())).key("last"));
    assert_eq!(put(&store, "first", b"1").status, 200);
    let refused = put(&store, "second", b"2");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("7")));
    assert!(refused.text().contains("<Code>SlowDown</Code>"), "{}", refused.text());
    assert_eq!(put(&store, "second", b"2").status, 200);
    let after = put(&store, "last", b"3");
    assert_eq!(after.status, 500);
    assert_eq!(store.objects().keys().collect::<Vec<_>>(), ["first", "last", "second"]);
    let answers: Vec<_> = store.requests().iter().map(|request| request.status).collect();
    assert_eq!(answers, [Some(200), Some(503), Some(200), Some(500)]);
    store.heal();
    assert_eq!(put(&store, "last", b"4").status, 200);
}

#[test]
fn credentials_are_revoked_in_mid_run() {
    let store = open_store();
    store.fault(Rule::always(Fault::Refuse(Refusal::access_denied())).after(2));
    let answers: Vec<_> = (0..4).map(|number| put(&store, &format!("{number}"), b"x").status).collect();
    assert_eq!(answers, [200, 200, 403, 403]);
    assert_eq!(store.objects().len(), 2);
}

#[test]
fn full_stores_say_so_in_their_own_words() {
    for quota in Refusal::quotas() {
        let store = open_store();
        store.fault(Rule::on(Operation::Put, Fault::Refuse(quota.clone())));
        let answer = put(&store, "key", b"x");
        assert_eq!(answer.status, quota.status);
        assert!(answer.text().contains(&format!("<Code>{}</Code>", quota.code)), "{}", answer.text());
    }
}

#[test]
fn connections_break_before_after_and_in_the_middle() {
    let store = open_store();
    let content = vec![7; 300_000];
    store.insert("whole", content.clone());
    store.fault(Rule::on(Operation::Put, Fault::DropBefore).key("before"));
    store.fault(Rule::on(Operation::Put, Fault::DropAfter).key("after"));
    store.fault(Rule::on(Operation::Put, Fault::CutUpload(100_000)).key("upload"));
    for key in ["before", "after", "upload"] {
        assert!(ask(&store, "PUT", &format!("/{key}"), &[], &content).is_err(), "{key} was answered");
    }
    assert_eq!(store.objects().keys().collect::<Vec<_>>(), ["after", "whole"]);
    for len in [0, 1, 200_000] {
        store.fault(Rule::on(Operation::Get, Fault::CutAnswer(len)).once());
        let cut = get(&store, "whole");
        assert_eq!((cut.status, cut.body.len(), cut.is_cut), (200, len, true));
        assert_eq!(cut.header("content-length"), Some("300000"));
        store.heal();
    }
    assert_eq!(get(&store, "whole").body, content, "after the faults");
}

#[test]
fn answers_are_short_flipped_and_tell_wrong_checksums() {
    let store = open_store();
    let content: Vec<u8> = (0..=255).collect();
    assert_eq!(put(&store, "key", &content).status, 200);
    let enabled = [("x-amz-checksum-mode", "ENABLED")];
    let strike = |fault: Fault, headers: &[(&str, &str)]| {
        store.fault(Rule::on(Operation::Get, fault).once());
        let answer = ask(&store, "GET", "/key", headers, b"").unwrap();
        store.heal();
        answer
    };
    let short = strike(Fault::ShortAnswer(10), &[]);
    assert_eq!((short.body.as_slice(), short.is_cut), (&content[..10], false));
    let short = strike(Fault::ShortAnswer(10), &[("Range", "bytes=100-199")]);
    assert_eq!((short.status, short.header("content-range")), (206, Some("bytes 100-109/256")));
    assert_eq!(short.body, content[100..110]);
    let flipped = strike(Fault::FlipAnswer(3), &[]);
    assert_eq!((flipped.body[3], flipped.body.len()), (2, 256));
    let stated = sha256_base64(&content);
    let right = ask(&store, "GET", "/key", &enabled, b"").unwrap();
    assert_eq!(right.header("x-amz-checksum-sha256"), Some(stated.as_str()));
    let wrong = strike(Fault::WrongChecksum, &enabled);
    assert_ne!(wrong.header("x-amz-checksum-sha256"), Some(stated.as_str()));
    assert_eq!(strike(Fault::NoChecksum, &enabled).header("x-amz-checksum-sha256"), None);
    assert_eq!(get(&store, "key").body, content, "at rest it is whole");
}

#[test]
fn damage_at_rest_changes_bytes_and_nothing_else() {
    let store = open_store();
    assert_eq!(put(&store, "key", b"content").status, 200);
    let head = || ask(&store, "HEAD", "/key", &[("x-amz-checksum-mode", "ENABLED")], b"").unwrap();
    let before = head();
    store.flip_byte("key");
    assert_eq!(get(&store, "key").body, b"conuent");
    for name in ["etag", "x-amz-checksum-sha256", "content-length"] {
        assert!(before.header(name).is_some(), "no {name}");
        assert_eq!(head().header(name), before.header(name));
    }
    store.truncate("key", 3);
    assert_eq!(get(&store, "key").body, b"con");
    store.forget_checksum("key");
    assert_eq!(head().header("x-amz-checksum-sha256"), None);
}

#[test]
fn stores_differ_in_what_they_do_with_checksums_and_conditions() {
    let wrong = [("x-amz-checksum-sha256", sha256_base64(b"other"))];
    let wrong = [(wrong[0].0, wrong[0].1.as_str())];
    let told = |checksums| {
        let store = FaultyS3::with(Behaviour { checksums, unsigned: true, ..Behaviour::default() });
        let status = ask(&store, "PUT", "/key", &wrong, b"content").unwrap().status;
        let head = ask(&store, "HEAD", "/key", &[("x-amz-checksum-mode", "ENABLED")], b"").unwrap();
        (status, head.header("x-amz-checksum-sha256").map(str::to_owned))
    };
    assert_eq!(told(Checksums::Verified), (400, None));
    assert_eq!(told(Checksums::Repeated), (200, Some(wrong[0].1.to_owned())));
    assert_eq!(told(Checksums::Ignored), (200, None));
    let create = |conditional| {
        let store = FaultyS3::with(Behaviour { conditional, unsigned: true, ..Behaviour::default() });
        let put = || ask(&store, "PUT", "/key", &[("If-None-Match", "*")], b"x").unwrap().status;
        (put(), put())
    };
    assert_eq!(create(true), (200, 412));
    assert_eq!(create(false), (200, 200));
}

#[test]
fn writes_are_lost_or_stored_wrong_in_silence() {
    let store = open_store();
    store.fault(Rule::on(Operation::Put, Fault::Lose).key("lost"));
    store.fault(Rule::on(Operation::Put, Fault::StoreFlipped).key("flipped"));
    store.fault(Rule::on(Operation::Delete, Fault::Lose));
    assert_eq!(put(&store, "lost", b"1").status, 200);
    assert_eq!(put(&store, "flipped", b"abc").status, 200);
    assert_eq!(ask(&store, "DELETE", "/flipped", &[], b"").unwrap().status, 204);
    let objects = store.objects();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["flipped"]);
    assert_eq!(&objects["flipped"][..], b"acc");
}

#[test]
fn listings_repeat_stop_early_and_have_empty_pages() {
    let store = open_store();
    for number in 0..10 {
        store.insert(&format!("p/{number}"), "x");
    }
    let page = |token: Option<&str>| {
        let token = token.map(|token| format!("&continuation-token={token}")).unwrap_or_default();
        let answer =
            ask(&store, "GET", &format!("/?list-type=2&prefix=p/&max-keys=4{token}"), &[], b"").unwrap();
        let text = answer.success().text();
        let between = |begin: &str, end: &str| {
            text.split_once(begin).and_then(|(_, rest)| Some(rest.split_once(end)?.0.to_owned()))
        };
        let keys = text.matches("<Key>").count();
        (keys, between("<NextContinuationToken>", "</"), between("<IsTruncated>", "</").unwrap())
    };
    let (keys, next, truncated) = page(None);
    assert_eq!((keys, truncated.as_str()), (4, "true"));
    store.fault(Rule::on(Operation::List, Fault::RepeatPage).once());
    let (keys, again, _) = page(next.as_deref());
    assert_eq!((keys, &again), (4, &next), "the page says to continue from where it began");
    store.heal();
    store.fault(Rule::on(Operation::List, Fault::EmptyPage).once());
    let (keys, next_of_empty, truncated) = page(next.as_deref());
    assert_eq!((keys, truncated.as_str()), (0, "true"));
    assert_eq!(page(next_of_empty.as_deref()).0, 4, "nothing is passed over");
    store.heal();
    store.fault(Rule::on(Operation::List, Fault::EndListing).key("p/").once());
    assert_eq!(page(None), (2, None, "false".to_owned()));
}

#[test]
fn a_multi_delete_fails_in_part() {
    let store = open_store();
    for key in ["a", "b", "locked"] {
        store.insert(key, "x");
    }
    store
        .fault(Rule::on(Operation::DeleteMany, Fault::FailKeys("lock".to_owned(), Refusal::access_denied())));
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>locked</Key></Object><Object><Key>none</Key></Object></Delete>";
    let without = ask(&store, "POST", "/?delete", &[], body.as_bytes()).unwrap();
    assert_eq!(without.status, 400, "a multi-delete without a checksum: {}", without.text());
    let sha256 = sha256_base64(body.as_bytes());
    let answer =
        ask(&store, "POST", "/?delete", &[("x-amz-checksum-sha256", &sha256)], body.as_bytes()).unwrap();
    let text = answer.success().text();
    assert!(
        text.contains("<Error><Code>AccessDenied</Code>") && text.contains("<Key>locked</Key>"),
        "{text}"
    );
    assert_eq!(text.matches("<Deleted>").count(), 2);
    assert_eq!(store.objects().keys().collect::<Vec<_>>(), ["b", "locked"]);
}

#[test]
fn a_hanging_call_can_be_waited_for_and_ends_with_its_client() {
    let store = open_store();
    store.fault(Rule::on(Operation::Put, Fault::HangAfter).once());
    let address = store.address();
    let hanging = std::net::TcpStream::connect(address).unwrap();
    use std::io::Write as _;
    (&hanging)
        .write_all(b"PUT /lifeboat-test/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        .unwrap();
    let request = store.wait_for_request(|request| request.operation == Operation::Put);
    assert_eq!((request.key.as_str(), request.status), ("key", None));
    drop(hanging);
    assert_eq!(put(&store, "key", b"y").status, 200, "others are served meanwhile");
}

#[test]
fn unfinished_uploads_are_seen() {
    let store = open_store();
    store.leave_upload("packs/left");
    let text = ask(&store, "GET", "/?uploads", &[], b"").unwrap().success().text();
    assert!(
        text.contains("<Key>packs/left</Key>") && text.contains("<UploadId>upload-000001</UploadId>"),
        "{text}"
    );
    assert_eq!(store.uploads(), ["packs/left"]);
}
