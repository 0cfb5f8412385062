//! The whole program on Google Drive on bad days: `sync` and `check --repair` while calls fail at random.
//! Nothing is stored twice, nothing damaged is taken for stored, and once Drive works again all is mended.

use std::collections::BTreeMap;

use lifeboat_drive_double::{Call, Fault, Rule, When};

use crate::three_destinations::Three;

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
