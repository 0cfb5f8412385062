//! What is asked of the daemon: runs, reloads; and what is refused.

use std::fs;

use lifeboat_tests::process::wait_for;

use super::service::{HOURLY, Service};

#[test]
fn a_run_goes_through_the_daemon_and_shows_what_it_comes_to() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    let ran = service.run(&["run", "web"]).expect(0);
    assert!(ran.err.contains("asked the daemon"), "{ran:?}");
    let ran = ran.prints("web (manual): ok").prints("disk: stored");
    assert!(ran.out.contains("(run 2)"), "{}", ran.out);
    let of_class = service.run(&["run", "hourly", "--json"]).expect(0).json();
    assert_eq!(of_class.last().unwrap()["message_type"], "run");
    service.run(&["run", "nonsense"]).expect(2).says("neither a source nor a class");
    fs::write(service.scene.world.source().join("new"), "new").unwrap();
    let here = service.run(&["run", "web", "--here"]).expect(0);
    assert!(!here.err.contains("asked the daemon"));
    assert_eq!(service.runs().len(), 4);
    service.run(&["log", "2"]).expect(0).prints("web (manual)").prints("ok at");
}

#[test]
fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one_whole() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    service.configure(
        &HOURLY.replace("[class.daily]\nschedule = \"off\"", "[class.daily]\nschedule = \"nonsense\""),
    );
    // Neither the command nor the daemon takes it.
    service.run(&["reload"]).expect(2);
    service.hang_up();
    service.wait_until_said("refused, and the old one stays");
    // The old one works on, though the file is broken now.
    service.set_clock("2027-01-03T13:00:01Z");
    service.wait_until_counted("web (hourly): ok", 2);
    let renamed = HOURLY.replace(
        "[class.daily]\nschedule = \"off\"",
        "[class.often]\nschedule = \"*/10 * * * *\"\n[class.daily]\nschedule = \"off\"",
    );
    service.configure(&renamed);
    service.run(&["reload"]).expect(0);
    service.set_clock("2027-01-03T13:10:01Z");
    let runs = service.wait_for_runs(3);
    assert_eq!(runs[2]["class"], "often");
}

#[test]
fn a_signal_reloads_too() {
    let mut service = Service::hourly();
    service.start();
    service.hang_up();
    service.wait_until_said("the configuration was read anew");
}

#[test]
fn a_second_daemon_is_refused() {
    let mut service = Service::hourly();
    service.start();
    service.run(&["daemon"]).expect(11).says("a daemon is running already");
    assert!(service.daemon().is_running());
    service.stop();
    assert!(!service.socket().exists());
    service.run(&["reload"]).expect(1).says("no daemon runs");
}

#[test]
fn without_sources_there_is_nothing_to_run() {
    let service = Service::hourly();
    let disk = service.scene.path("disk");
    service.write_config(&format!("[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n"));
    service.run(&["daemon"]).expect(2).says("no [[source]]");
    service.run(&["run", "web"]).expect(2);
    service.run(&["run"]).expect(2).says("no [[source]]");
}

#[test]
fn two_at_once_of_one_source_do_not_overlap() {
    let service = Service::hourly();
    let slow = service.scene.world.path("slow");
    // A hook that waits until it may go on.
    let disk = service.scene.path("disk");
    let source = service.scene.source();
    let gate = slow.display();
    service.write_config(&format!(
        "host = \"here\"\n{HOURLY}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\n\
         [source.hooks]\nbefore = [[\"sh\", \"-c\", \"mkfifo {gate}; read line < {gate}\"]]\n"
    ));
    let first = service.person.start(&["run", "web"]);
    wait_for(|| "the hook".to_owned(), || slow.exists().then_some(()));
    service.run(&["run", "web"]).expect(11).says("is being run by another process");
    fs::write(&slow, "go\n").unwrap();
    lifeboat_tests::binary::ended(first).expect(0);
}

#[test]
fn what_is_refused_changes_nothing_of_what_runs() {
    let mut service = Service::hourly();
    service.start();
    service.wait_for_runs(1);
    // A second daemon with another configuration, and a reload of one that protects nothing.
    let (disk, other) = (service.scene.path("disk"), service.scene.world.path("other.toml"));
    let text = format!(
        "host = \"here\"\n{HOURLY}\n[[destination]]\nname = \"disk\"\nurl = \"{disk}2\"\n[[source]]\nname = \"web\"\npaths = [\"/etc/hostname\"]\n"
    );
    fs::write(&other, text).unwrap();
    service.run(&["-c", other.to_str().unwrap(), "daemon"]).expect(11);
    service.write_config(&format!("[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n"));
    service.hang_up();
    service.wait_until_said("refused, and the old one stays");
    service.set_clock("2027-01-03T13:00:01Z");
    service.wait_until_counted("web (hourly): ok", 2);
    service.configure(HOURLY);
    let paths = service.run(&["snapshots", "--json"]).expect(0).json();
    assert!(paths.iter().all(|snapshot| snapshot["paths"][0] == service.scene.source()), "{paths:#?}");
}

#[test]
fn a_configuration_named_by_a_bare_file_name_works() {
    let service = Service::hourly();
    let config = service.scene.world.path("home/bare.toml");
    fs::copy(service.scene.world.path("home/.config/lifeboat/config.toml"), config).unwrap();
    let mut daemon = service.person.start(&["-v", "-c", "bare.toml", "daemon"]);
    service.wait_for_runs(1);
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM)
        .unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(service.snapshots(), ["hourly"]);
}

#[test]
fn classes_that_are_not_there_are_refused() {
    let service = Service::hourly();
    let (disk, source) = (service.scene.path("disk"), service.scene.source());
    service.write_config(&format!(
        "[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\nclasses = [\"houly\"]\n"
    ));
    service.run(&["config", "validate"]).expect(2).says("Did you mean hourly");
}

#[test]
fn the_latest_that_holds_a_path_is_meant_whatever_source_was_backed_up_last() {
    let service = Service::hourly();
    let (disk, source) = (service.scene.path("disk"), service.scene.source());
    service.write_config(&format!(
        "host = \"here\"\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[source]]\nname = \"web\"\npaths = [\"{source}\"]\n\
         [[source]]\nname = \"dump\"\nkind = \"command\"\ncommand = [\"echo\", \"dumped\"]\n"
    ));
    service.run(&["run", "web"]).expect(0);
    service.run(&["run", "dump"]).expect(0);
    assert_eq!(service.run(&["dump", &format!("latest:{source}/top")]).expect(0).out, "top");
    assert_eq!(service.run(&["dump", "latest:/dump.dump"]).expect(0).out, "dumped\n");
    let target = service.scene.path("back");
    service.run(&["restore", &format!("latest:{source}"), "--target", &target]).expect(0);
    assert!(std::path::Path::new(&target).join("top").exists());
}
