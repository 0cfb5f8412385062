//! What a destination lacks is noticed, said and brought: never is a snapshot called stored where something of it is not.

use std::fs;

use lifeboat_tests::binary::{Person, ended};
use lifeboat_tests::faulty_s3::{Fault, FaultyS3, Operation, Rule};
use lifeboat_tests::process::{free_port, wait_for};

use crate::destinations::{Three, flip};

/// A person at a machine that has never seen the repository.
fn newcomer(three: &Three) -> Person {
    Person::new(&three.0.world.path("newcomer")).with("LIFEBOAT_PASSPHRASE", "secret")
}

fn forget_cache(three: &Three) {
    fs::remove_dir_all(three.0.world.path("home/.cache")).unwrap();
}

#[test]
fn no_snapshot_comes_to_a_destination_without_its_packs_where_the_origin_has_lost_its_index() {
    let three = Three::ready();
    for name in ["two", "three"] {
        fs::rename(three.place(name), three.0.world.path(&format!("away-{name}"))).unwrap();
    }
    three.add("large", 1 << 20);
    three.backup().expect(3);
    for name in ["two", "three"] {
        fs::rename(three.0.world.path(&format!("away-{name}")), three.place(name)).unwrap();
    }
    for shard in three.objects("one", "index") {
        fs::remove_file(shard).unwrap();
    }
    forget_cache(&three);
    three.run(&["sync"]).expect(3);
    assert_eq!(three.objects("two", "snapshots").len(), 0);
    fs::write(three.0.world.source().join("new"), "new").unwrap();
    three.backup();
    three.run(&["-r", "one", "repair", "index"]).expect(0);
    three.run(&["sync"]).expect(0);
    three.restores_alone("two");
    three.restores_alone("three");
}

#[test]
fn what_a_destination_has_lost_comes_to_it_again_with_the_next_backup_and_by_sync() {
    let three = Three::ready();
    three.add("first", 1 << 20);
    three.backup().expect(0);
    for (number, mend) in [["backup", three.0.source()].as_slice(), &["sync"]].into_iter().enumerate() {
        three.add(&format!("large{number}"), (1 << 20) + number);
        three.backup().expect(0);
        fs::remove_file(&three.objects("two", "packs")[0]).unwrap();
        fs::remove_file(&three.objects("two", "meta")[0]).unwrap();
        three.run(&["-r", "two", "check"]).expect(14).says("--repair");
        three.run(mend).expect(0).says("missing or cut off");
        three.restores_alone("two");
    }
}

#[test]
fn what_a_repair_took_out_of_an_index_comes_again() {
    let three = Three::ready();
    three.add("large", 1 << 20);
    three.backup().expect(0);
    let pack = three.objects("two", "packs").into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    flip(&pack.unwrap());
    // As somebody who does not know of the others would mend it.
    let place = three.place("two");
    newcomer(&three).run(&["-r", place.to_str().unwrap(), "repair", "index", "--read-data"]);
    three.run(&["sync"]).expect(0);
    three.restores_alone("two");
}

#[test]
fn what_was_made_while_the_first_was_away_is_shown_and_comes_back_to_it() {
    for mend in ["sync", "backup"] {
        let three = Three::ready();
        three.backup().expect(0);
        three.take_away("one");
        fs::write(three.0.world.source().join("new"), "made while it was away").unwrap();
        three.backup().expect(3);
        three.bring_back("one");
        three.run(&["status"]).expect(3).prints("1 destination is behind");
        three.run(&["check", "--all"]).expect(3).prints("one lacks 1 snapshot");
        // The newest is the newest, wherever it is.
        let dumped = three.run(&["dump", &format!("latest:{}/new", three.0.source())]).expect(0);
        assert_eq!(dumped.out, "made while it was away");
        dumped.says("the destination one lacks snapshots");
        if mend == "sync" {
            three.run(&["sync"]).expect(0).says("1 snapshot brought from two");
        } else {
            fs::write(three.0.world.source().join("newer"), "newer").unwrap();
            three.backup().expect(0);
        }
        three.run(&["status"]).expect(0);
        assert_eq!(three.objects("one", "snapshots").len(), three.objects("two", "snapshots").len());
        three.restores_alone("one");
    }
}

#[test]
fn a_first_destination_that_was_made_anew_gets_everything_back() {
    let three = Three::ready();
    three.backup().expect(0);
    fs::write(three.0.world.source().join("second"), "2").unwrap();
    three.backup().expect(0);
    fs::remove_dir_all(three.place("one")).unwrap();
    three.run(&["init"]).expect(0);
    three.run(&["status"]).expect(3).prints("1 destination is behind");
    three.run(&["ls", "latest"]).expect(0);
    // Others have them: there is nothing to be forgotten.
    three.run(&["-r", "one", "repair", "snapshots", "--forget"]);
    assert_eq!(three.objects("one", "forgotten").len(), 0);
    three.run(&["sync"]).expect(0);
    three.run(&["status"]).expect(0);
    three.run(&["check", "--all"]).expect(0);
    three.restores_alone("one");
}

#[test]
fn what_was_stored_at_one_only_is_not_taken_for_removed_at_the_others() {
    let three = Three::ready();
    three.backup().expect(0);
    fs::write(three.0.world.source().join("new"), "new").unwrap();
    three.run(&["backup", "--to", "two", three.0.source()]).expect(0);
    three.run(&["-r", "one", "check"]).expect(0);
    fs::write(three.0.world.source().join("newer"), "newer").unwrap();
    three.run(&["backup", "--to", "one", three.0.source()]).expect(0);
    three.run(&["-r", "one", "check"]).expect(0);
    // A machine that remembers nothing asks the others before it calls something removed.
    fs::remove_dir_all(three.0.world.path("home/.local/state")).unwrap();
    three.run(&["-r", "one", "check"]).expect(0).says("is at two and not here");
    three.run(&["sync"]).expect(0);
    three.run(&["check", "--all"]).expect(0);
}

#[test]
fn a_record_of_forgetting_at_one_hides_no_removal_at_another() {
    let three = Three::ready();
    three.backup().expect(0);
    let first = three.run(&["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned();
    fs::write(three.0.world.source().join("new"), "new").unwrap();
    three.backup().expect(0);
    three.run(&["-r", "one", "forget", &first]).expect(0);
    for name in ["two", "three"] {
        fs::remove_file(three.place(name).join("snapshots").join(&first)).unwrap();
    }
    three.run(&["-r", "two", "check"]).expect(14).prints("removed without a record");
    fs::write(three.0.world.source().join("newer"), "newer").unwrap();
    three.backup().expect(0);
    three.run(&["sync"]).expect(0);
    three.run(&["-r", "two", "check"]).expect(14).prints("removed without a record");
}

#[test]
fn one_place_is_not_two_copies() {
    let three = Three::ready();
    let config = three.0.world.path("home/.config/lifeboat/config.toml");
    let place = three.place("one");
    let twice = format!(
        "[[destination]]\nname = \"a\"\nurl = \"{0}\"\n[[destination]]\nname = \"b\"\nurl = \"{0}/../at-one/\"\n",
        place.display()
    );
    fs::write(config, twice).unwrap();
    three.run(&["status"]).expect(2).says("a and b are one place");
    three.backup().expect(2);
}

#[test]
fn a_destination_that_does_not_answer_holds_up_no_run() {
    let three = Three::ready();
    let config = three.0.world.path("home/.config/lifeboat/config.toml");
    let dead = format!("s3://bucket/x?endpoint=http://127.0.0.1:{}&region=r", free_port());
    let with_dead = fs::read_to_string(&config).unwrap().replace(three.place("two").to_str().unwrap(), &dead);
    fs::write(&config, with_dead).unwrap();
    let person =
        three.1.clone().with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").with("AWS_SECRET_ACCESS_KEY", "x");
    let mut child = person.start(&["backup", three.0.source()]);
    // The snapshot is made while the dead one is still asked.
    wait_for(
        || "a snapshot".to_owned(),
        || {
            let is_made = three.objects("one", "snapshots").len() == 1;
            assert!(is_made || child.try_wait().unwrap().is_none(), "it ended without one");
            is_made.then_some(())
        },
    );
    assert!(child.try_wait().unwrap().is_none(), "it has given up already");
    ended(child).expect(3).prints("two: NOT stored").says("two: ").prints("three: stored");
}

#[test]
fn a_run_that_is_asked_to_stop_waits_for_no_upload() {
    let server = FaultyS3::start();
    let three = Three::ready();
    let person = three
        .1
        .clone()
        .with("AWS_ACCESS_KEY_ID", lifeboat_tests::faulty_s3::ACCESS_KEY)
        .with("AWS_SECRET_ACCESS_KEY", lifeboat_tests::faulty_s3::SECRET_KEY);
    let url = server.url("host");
    person.run(&["-r", &url, "init"]).expect(0);
    three.add("large", 3 << 20);
    server.fault(Rule::on(Operation::Put, Fault::HangBefore).key("/packs/"));
    let child = person.start(&["-r", &url, "backup", three.0.source()]);
    server.wait_for_request(|request| request.fault.is_some());
    let id = i32::try_from(child.id()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), rustix::process::Signal::INT)
        .unwrap();
    ended(child).expect(130);
    server.heal();
    person.run(&["-r", &url, "backup", three.0.source()]).expect(0);
    person.run(&["-r", &url, "check", "--read-data"]).expect(0);
}
