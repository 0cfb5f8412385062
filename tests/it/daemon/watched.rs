//! Sources that are backed up when they change.

use std::fs;

use super::service::{HOURLY, Service};

fn watching(service: &Service) {
    let (disk, source) = (service.scene.path("disk"), service.scene.source());
    service.write_config(&format!(
        "host = \"here\"\n{HOURLY}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\n\
         on_change = {{ debounce = \"1s\", minimum_interval = \"10m\" }}\n"
    ));
}

#[test]
fn a_change_is_backed_up_soon_and_not_too_often() {
    let mut service = Service::hourly();
    watching(&service);
    service.start();
    service.wait_for_runs(1);
    let file = service.scene.world.source().join("changed");
    // The interval since the first run has not passed.
    service.set_clock("2027-01-03T12:45:00Z");
    fs::write(&file, "one").unwrap();
    let runs = service.wait_for_runs(2);
    assert_eq!((runs[1]["class"].as_str(), runs[1]["cause"].as_str()), (Some("on-change"), Some("change")));
    service.run(&["dump", "latest:/etc/hostname"]).expect_failure();
    let path = file.to_str().unwrap();
    assert_eq!(service.run(&["dump", &format!("latest:{path}")]).expect(0).out, "one");
    fs::write(&file, "two").unwrap();
    // It waits until ten minutes after the last one began.
    service.run(&["run", "web", "--class", "other"]).expect(0);
    service.set_clock("2027-01-03T12:56:00Z");
    let runs = service.wait_for_runs(4);
    let classes: Vec<_> = runs.iter().filter_map(|run| run["class"].as_str()).collect();
    assert_eq!(classes, ["hourly", "on-change", "other", "on-change"]);
}

#[test]
fn a_backup_of_a_database_is_no_change_of_it() {
    let mut service = Service::hourly();
    let (disk, folder) = (service.scene.path("disk"), service.scene.source());
    let database = service.scene.world.source().join("app.db");
    let live = rusqlite::Connection::open(&database).unwrap();
    live.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
    service.write_config(&format!(
        "host = \"here\"\n{HOURLY}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"bot\"\nkind = \"sqlite\"\n\
         paths = [\"{folder}/*.db\"]\non_change = {{ debounce = \"1s\", minimum_interval = \"0s\" }}\n"
    ));
    service.start();
    service.wait_for_runs(1);
    live.execute_batch("INSERT INTO t VALUES (2);").unwrap();
    let runs = service.wait_for_runs(2);
    assert_eq!(runs[1]["class"], "on-change");
    // Another change is seen, so what the runs did to the files would have been, too.
    live.execute_batch("INSERT INTO t VALUES (3);").unwrap();
    assert_eq!(service.wait_for_runs(3).len(), 3);
}
