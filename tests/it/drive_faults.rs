//! The whole program on Google Drive on bad days: killed in the middle of an upload; `sync` and `check --repair` while calls fail at random.
//! Nothing is stored twice, nothing damaged is taken for stored, and once Drive works again all is mended.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use lifeboat_drive_double::{Call, Fault, Rule, When};
use lifeboat_tests::process::wait_for;
use lifeboat_tests::random::Random;

use crate::three_destinations::Three;

/// How long what must happen may take on a machine that is very busy.
const SOON: Duration = Duration::from_secs(120);

/// What Drive and the line do to calls, so many of a thousand each.
fn bad_day(three: &Three, seed: u64) {
    let faults = [
        (Call::Any, 25, Fault::Error { status: 503, after_commit: false }),
        (Call::Any, 15, Fault::Error { status: 500, after_commit: true }),
        (Call::Any, 15, Fault::NoResponse),
        (Call::Any, 15, Fault::TruncatedJson),
        (Call::Any, 10, Fault::TooManyRequests { retry_after_seconds: Some(1) }),
        (Call::List, 60, Fault::IncompleteSearch),
        (Call::Create, 60, Fault::CorruptUpload),
        (Call::Media, 60, Fault::CorruptDownload),
        (Call::Media, 60, Fault::ShortDownload { bytes: 100 }),
    ];
    for (number, (call, calls, fault)) in (0..).zip(faults) {
        three.drive.fault(Rule::new(call, When::PerMille { calls, seed: seed * 100 + number }, fault));
    }
}

/// No name is there twice: what may have happened was found again, and not done once more.
fn require_no_twins(three: &Three) {
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for file in three.drive.files().into_iter().filter(|file| !file.trashed) {
        *names.entry(file.name).or_default() += 1;
    }
    let twins: Vec<_> = names.into_iter().filter(|(_, count)| *count > 1).collect();
    assert_eq!(twins, []);
}

#[test]
fn killed_in_the_middle_of_an_upload_to_drive_the_next_run_continues() {
    let three = Three::new();
    // More than one pack of Drive's size, and more than one request for each.
    let noise = Random::new(1).bytes(80 << 20);
    fs::write(three.scene.world.source().join("large"), noise).unwrap();
    // The first pack is stored, by eight requests or nine; the upload of the second never gets an answer.
    three.drive.fault(Rule::new(Call::UploadChunk, When::FromNth(10), Fault::Hang { after_commit: false }));
    let mut child = three.person.start(&["-r", "drive", "backup", three.scene.source()]);
    let packs = || -> Vec<String> {
        let files = three.drive.files().into_iter();
        files.map(|file| file.name).filter(|name| name.starts_with("packs/")).collect()
    };
    let hangs = three.drive.wait_until(SOON, |requests| {
        requests.iter().any(|request| request.faults.iter().any(|fault| fault.starts_with("Hang")))
    });
    assert!(hangs, "no upload hung: {:?}", packs());
    wait_for(|| "a pack that is stored".to_owned(), || (!packs().is_empty()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    three.drive.release();
    three.drive.clear_faults();
    let before = packs();
    assert!(!three.drive.files().iter().any(|file| file.name.starts_with("snapshots/")));
    let sent = three.drive.requests().len();
    three.run(&["-r", "drive", "backup", three.scene.source()]).expect(0).says("a backup was cut off before");
    for name in &before {
        assert!(packs().contains(name), "{name} is gone");
    }
    // What was stored is not sent again.
    let bytes: u64 = three.drive.requests().iter().skip(sent).map(|request| request.bytes_in).sum();
    assert!(bytes < 40 << 20, "{bytes} bytes were sent by the second run");
    require_no_twins(&three);
    three.restores_alone("drive", &three.drive_url);
}

#[test]
fn sync_through_random_faults_of_drive_is_never_wrong() {
    for seed in [3, 5] {
        let three = Three::new();
        for number in 0..4 {
            three.add(&format!("file{number}"), (1 << 20) + number);
            three.run(&["backup", "--to", "disk", three.scene.source()]).expect(0);
        }
        bad_day(&three, seed);
        let ended = three.run(&["sync", "--to", "drive"]);
        assert!(matches!(ended.code, Some(0 | 1 | 3)), "seed {seed}: {ended:?}");
        three.drive.clear_faults();
        if ended.code == Some(0) {
            // What it said holds.
            three.run(&["-r", "drive", "check", "--read-data"]).expect(0);
        }
        three.run(&["sync", "--to", "drive"]).expect(0);
        require_no_twins(&three);
        three.restores_alone("drive", &three.drive_url);
    }
}

#[test]
fn repair_through_random_faults_of_drive_is_never_wrong() {
    for seed in [3, 5] {
        let three = Three::new();
        three.add("large", 3 << 20);
        three.backup().expect(0);
        let files = three.drive.files();
        // A destination has an index of its own: that is what `repair index` is for.
        for folder in ["packs/", "meta/"] {
            let file = files.iter().find(|file| file.name.starts_with(folder)).unwrap();
            assert!(three.drive.flip_byte(&file.id), "{folder}");
        }
        bad_day(&three, seed);
        let ended = three.run(&["-r", "drive", "check", "--read-data", "--repair"]);
        assert!(matches!(ended.code, Some(0 | 1 | 14)), "seed {seed}: {ended:?}");
        three.drive.clear_faults();
        if ended.code == Some(0) {
            three.run(&["-r", "drive", "check", "--read-data"]).expect(0);
        }
        three.run(&["-r", "drive", "check", "--read-data", "--repair"]).expect(0);
        require_no_twins(&three);
        three.restores_alone("drive", &three.drive_url);
    }
}
