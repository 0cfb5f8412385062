//! The stores that other tests rest on: they start, end, lose nodes, and answer to damage as their documentation says.
//!
//! Judged by boto3, which is installed beside moto: a client that is neither ours nor the servers'.

use std::net::SocketAddr;
use std::process::Command;

use lifeboat_tests::garage::{self, Garage, GarageCluster};
use lifeboat_tests::moto::{self, Moto};

/// What every script begins with. `say` prints what a call gives, or how it fails.
const PRELUDE: &str = r#"
import base64, datetime, hashlib, os
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

config = Config(
    retries={"max_attempts": 0}, s3={"addressing_style": "path"}, connect_timeout=30, read_timeout=60,
    request_checksum_calculation="when_required", response_checksum_validation="when_required",
)
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], config=config)
B = "lifeboat-test"

def sha(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()

def say(what, call):
    try:
        print(f"{what}: {call()}", flush=True)
    except ClientError as e:
        print(f"{what}: {e.response['ResponseMetadata']['HTTPStatusCode']} {e.response['Error']['Code']}", flush=True)
    except Exception as e:
        print(f"{what}: {type(e).__name__}", flush=True)
"#;

/// Runs a script with boto3 against a server and returns what it printed; `None`, having said so, if it is not installed.
#[track_caller]
pub fn boto(server: SocketAddr, region: &str, key: &str, secret: &str, script: &str) -> Option<String> {
    if !Moto::is_available() {
        return None;
    }
    let output = Command::new(moto::python().unwrap())
        .args(["-c", &format!("{PRELUDE}\n{script}")])
        .env_clear()
        .env("ENDPOINT", format!("http://{server}"))
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_DEFAULT_REGION", region)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("LANG", "C.UTF-8")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn ask_garage(server: SocketAddr, script: &str) -> Option<String> {
    boto(server, garage::REGION, garage::ACCESS_KEY, garage::SECRET_KEY, script)
}

/// Bytes that repeat themselves nowhere and that a script knows as well.
fn content(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| ((at * 2_654_435_761) >> 13) as u8).collect()
}

const CONTENT: &str = "content = lambda n: bytes(at * 2654435761 >> 13 & 255 for at in range(n))\n";

#[test]
fn garage_keeps_objects_over_a_kill() {
    if !Garage::is_available() {
        return;
    }
    let mut garage = Garage::start();
    let url = garage.url("prefix");
    assert!(url.starts_with("s3://lifeboat-test/prefix?endpoint=http://127.0.0.1:"), "{url}");
    let script = "say('put', lambda: s3.put_object(Bucket=B, Key='k', Body=b'v' * 5000, ChecksumSHA256=sha(b'v' * 5000))['ChecksumSHA256'] == sha(b'v' * 5000))
say('wrong checksum', lambda: s3.put_object(Bucket=B, Key='x', Body=b'v', ChecksumSHA256=sha(b'w')))
say('head', lambda: s3.head_object(Bucket=B, Key='k', ChecksumMode='ENABLED')['ChecksumSHA256'] == sha(b'v' * 5000))
say('create again', lambda: s3.put_object(Bucket=B, Key='k', Body=b'other', IfNoneMatch='*')['ResponseMetadata']['HTTPStatusCode'])";
    if let Some(said) = ask_garage(garage.s3(), script) {
        let wanted = ["put: True", "wrong checksum: 400 InvalidDigest", "head: True", "create again: 200"];
        assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
        garage.kill();
        garage.restart();
        let said =
            ask_garage(garage.s3(), "say('get', lambda: s3.get_object(Bucket=B, Key='k')['Body'].read())");
        assert_eq!(said.unwrap().trim(), "get: b'other'", "what was acknowledged last");
        assert_eq!(garage.stored().0, 1);
    }
}

#[test]
fn garage_refuses_what_exceeds_a_quota_and_what_a_key_may_not() {
    if !Garage::is_available() {
        return;
    }
    let garage = Garage::start();
    garage.set_quota(Some(10_000), None);
    let script = "
def put(n):
    try: return s3.put_object(Bucket=B, Key=f'k{n}', Body=b'v' * 6000)['ResponseMetadata']['HTTPStatusCode']
    except ClientError as e: return (e.response['ResponseMetadata']['HTTPStatusCode'], e.response['Error'])
print(put(1)); print(put(2))";
    let Some(said) = ask_garage(garage.s3(), script) else { return };
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "200");
    assert!(lines[1].contains("403") && lines[1].contains("'AccessDenied'"), "{said}");
    assert!(lines[1].contains("quota is reached"), "{said}");
    garage.set_quota(None, None);
    garage.allow_writing(false);
    let said = ask_garage(garage.s3(), script).unwrap();
    assert!(said.lines().all(|line| line.contains("403") && !line.contains("quota")), "{said}");
    garage.allow_writing(true);
    assert_eq!(ask_garage(garage.s3(), script).unwrap().lines().collect::<Vec<_>>(), ["200", "200"]);
}

#[test]
fn garage_does_not_serve_a_damaged_block_and_keeps_it_when_it_is_written_again() {
    if !Garage::is_available() {
        return;
    }
    let mut garage = Garage::start();
    // Two blocks and a bit.
    let len = (2 << 20) + 5000;
    let put = format!(
        "{CONTENT}body = content({len})\nsay('put', lambda: s3.put_object(Bucket=B, Key='k', Body=body, ChecksumSHA256=sha(body))['ChecksumSHA256'] == sha(body))"
    );
    let get = format!(
        "{CONTENT}body = content({len})\nsay('get', lambda: s3.get_object(Bucket=B, Key='k')['Body'].read() == body)"
    );
    let head = format!("say('head', lambda: s3.head_object(Bucket=B, Key='k')['ContentLength'] == {len})");
    let Some(said) = ask_garage(garage.s3(), &format!("{put}\n{get}")) else { return };
    assert_eq!(said.lines().collect::<Vec<_>>(), ["put: True", "get: True"]);
    assert_eq!(garage.block_files("k").len(), 3);
    garage.flip_byte_at_rest("k", &content(len), (1 << 20) + 17);
    let said = ask_garage(garage.s3(), &format!("{head}\n{put}\n{get}")).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["head: True", "put: True"], "nobody has looked yet");
    assert!(lines[2].ends_with("Error"), "the damaged block is served, or was mended by a write: {said}");
    let said = ask_garage(garage.s3(), &format!("{put}\n{get}")).unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["put: True", "get: True"],
        "after a read, a write mends it"
    );
}

#[test]
fn garage_serves_a_damaged_small_object_as_good() {
    if !Garage::is_available() {
        return;
    }
    let mut garage = Garage::start();
    let put = format!(
        "{CONTENT}body = content(1000)\nsay('put', lambda: s3.put_object(Bucket=B, Key='k', Body=body, ChecksumSHA256=sha(body))['ChecksumSHA256'] == sha(body))"
    );
    let Some(said) = ask_garage(garage.s3(), &put) else { return };
    assert_eq!(said.trim(), "put: True");
    assert!(garage.block_files("k").is_empty());
    garage.flip_byte_at_rest("k", &content(1000), 500);
    let get = format!(
        "{CONTENT}body = content(1000)
answer = s3.get_object(Bucket=B, Key='k', ChecksumMode='ENABLED')
got = answer['Body'].read() if False else answer['Body']._raw_stream.read()
say('states the old checksum', lambda: answer['ChecksumSHA256'] == sha(body))
say('differs at', lambda: [at for at in range(1000) if got[at] != body[at]])"
    );
    let said = ask_garage(garage.s3(), &get).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["states the old checksum: True", "differs at: [500]"]);
}

#[test]
fn a_cluster_serves_and_takes_without_one_node_and_not_without_two() {
    if !Garage::is_available() {
        return;
    }
    let mut cluster = GarageCluster::start(3);
    let put = |key: &str| {
        format!(
            "say('put {key}', lambda: s3.put_object(Bucket=B, Key='{key}', Body=b'v' * 5000)['ResponseMetadata']['HTTPStatusCode'])\n"
        )
    };
    let get = |key: &str| {
        format!(
            "say('get {key}', lambda: s3.get_object(Bucket=B, Key='{key}')['Body'].read() == b'v' * 5000)\n"
        )
    };
    let Some(said) = ask_garage(cluster.node(0).s3(), &put("a")) else { return };
    assert_eq!(said.trim(), "put a: 200");
    cluster.kill(1);
    cluster.wait_until(2, "degraded");
    let said = ask_garage(cluster.node(2).s3(), &(get("a") + &put("b") + &get("b"))).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["get a: True", "put b: 200", "get b: True"]);
    cluster.kill(0);
    cluster.wait_until(2, "unavailable");
    let said = ask_garage(cluster.node(2).s3(), &put("c")).unwrap();
    assert_eq!(said.trim(), "put c: 503 ServiceUnavailable");
    cluster.restart(0);
    cluster.restart(1);
    let said = ask_garage(cluster.node(1).s3(), &(get("a") + &get("b") + &put("c"))).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["get a: True", "get b: True", "put c: 200"]);
    // What one node has lost to damage it serves from the others.
    cluster.node_mut(0).flip_byte_at_rest("a", &[b'v'; 5000], 100);
    assert_eq!(ask_garage(cluster.node(0).s3(), &get("a")).unwrap().trim(), "get a: True");
}

#[test]
fn moto_locks_objects_and_honours_conditions() {
    if !Moto::is_available() {
        return;
    }
    let moto = Moto::start();
    assert!(moto.locked_url("p").starts_with("s3://lifeboat-locked/p?endpoint=http://127.0.0.1:"));
    let script = r#"
L = "lifeboat-locked"
until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
v = s3.put_object(Bucket=L, Key="k", Body=b"v", ChecksumAlgorithm="SHA256", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)["VersionId"]
say("delete a version", lambda: s3.delete_object(Bucket=L, Key="k", VersionId=v))
say("delete", lambda: s3.delete_object(Bucket=L, Key="k")["DeleteMarker"])
say("get", lambda: s3.get_object(Bucket=L, Key="k"))
say("get the version", lambda: s3.get_object(Bucket=L, Key="k", VersionId=v)["Body"].read())
say("create", lambda: s3.put_object(Bucket=B, Key="k", Body=b"v", IfNoneMatch="*")["ResponseMetadata"]["HTTPStatusCode"])
say("create again", lambda: s3.put_object(Bucket=B, Key="k", Body=b"w", IfNoneMatch="*"))
say("wrong checksum", lambda: s3.put_object(Bucket=B, Key="x", Body=b"v", ChecksumSHA256=sha(b"w"))["ResponseMetadata"]["HTTPStatusCode"])
"#;
    let said = boto(moto.s3(), moto::REGION, moto::ACCESS_KEY, moto::SECRET_KEY, script).unwrap();
    let wanted = [
        "delete a version: 403 AccessDenied",
        "delete: True",
        "get: 404 NoSuchKey",
        "get the version: b'v'",
        "create: 200",
        "create again: 412 PreconditionFailed",
        "wrong checksum: 200",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
}
