//! What systemd and monitoring see of the daemon, by a real socket and over HTTP; and what it is given by a disk that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use lifeboat_tests::http;
use lifeboat_tests::process::{Server, free_port, loopback, wait_for};

use super::service::{HOURLY, Service, summary};
use crate::scene::Tmpfs;

#[test]
fn systemd_hears_when_it_is_ready_alive_reloading_and_stopping() {
    let mut service = Service::hourly();
    let path = service.scene.world.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    service.person = service.person.clone().with("NOTIFY_SOCKET", &path);
    let hear_until = |wanted: &str| {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.iter().any(|state: &String| state.starts_with(wanted)) {
            let length =
                socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{wanted}: {e}; heard {heard:?}"));
            heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        heard
    };
    service.start();
    assert!(
        !hear_until("READY=1").iter().any(|state| state.starts_with("WATCHDOG")),
        "alive before it is ready"
    );
    hear_until("WATCHDOG=1");
    hear_until("STATUS=next run at");
    service.hang_up();
    let reloaded = hear_until("READY=1");
    assert!(reloaded.iter().any(|state| state == "RELOADING=1"), "{reloaded:?}");
    assert!(reloaded.iter().any(|state| state.starts_with("MONOTONIC_USEC=")), "{reloaded:?}");
    service.stop();
    hear_until("STOPPING=1");
}

#[test]
fn only_the_own_user_may_ask() {
    let mut service = Service::hourly();
    service.start();
    let mode = fs::metadata(service.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn monitoring_sees_what_is_good_and_what_is_overdue() {
    let port = free_port();
    let mut service = Service::new(&format!("{HOURLY}\n[metrics]\nlisten = \"127.0.0.1:{port}\""));
    service.start();
    service.wait_for_runs(1);
    let get = |target: &str| http::request(loopback(port), "GET", target, &[], b"").unwrap();
    let figures = get("/metrics").success().text();
    for line in [
        "lifeboat_backup_last_success_timestamp_seconds{source=\"web\",destination=\"disk\"} 1798979400",
        "lifeboat_backup_runs_total{source=\"web\",destination=\"disk\",result=\"success\"} 1",
        "lifeboat_backup_expected_interval_seconds{source=\"web\",destination=\"disk\"} 3600",
    ] {
        assert!(figures.lines().any(|known| known.starts_with(line)), "{line} in\n{figures}");
    }
    assert_eq!((get("/livez").status, get("/readyz").status), (200, 200));
    assert_eq!(get("/healthz").json()["status"], "ok");
    let checked = service.run(&["status", "--check"]).expect(0);
    assert!(checked.out.starts_with("OK"), "{checked:?}");
    let doctor = service.run(&["doctor"]).expect(0).prints("daemon: it runs and answers");
    doctor.prints("source web: at disk: last good").prints("notifications: there is no channel");
    assert_eq!(service.run(&["status", "--json"]).expect(0).json()[1]["running"], true);
    // The daemon stops, and nobody backs anything up any more: an outside monitor sees it.
    service.stop();
    service.run(&["doctor"]).expect(0).prints("daemon: none runs with this configuration");
    service.set_clock("2027-01-03T14:29:00Z");
    service.run(&["status", "--check"]).expect(0);
    service.set_clock("2027-01-03T14:31:00Z");
    let checked = service.run(&["status", "--check"]).expect(3);
    assert!(checked.out.contains("OVERDUE: web at disk: last good 2 h ago"), "{checked:?}");
    service.run(&["status"]).expect(3).prints("OVERDUE").says("no daemon runs with this configuration");
    let status = service.run(&["status", "--json"]).expect(3).json();
    assert!(status.last().unwrap()["used_bytes"].as_u64().unwrap() > 1000, "{status:#?}");
    service.run(&["doctor"]).expect(1).prints("wrong   source web: at disk: last good 2 h ago");
    // The only destination is away: what this machine remembers is shown all the same.
    fs::rename(service.scene.world.path("disk"), service.scene.world.path("away")).unwrap();
    service.run(&["status"]).expect(10).prints("OVERDUE");
}

#[test]
fn the_figures_are_in_a_file_without_a_daemon() {
    let world = Service::hourly();
    let file = world.scene.path("figures.prom");
    let service = world;
    service.configure(&format!("{HOURLY}\n[metrics]\ntextfile = \"{file}\""));
    service.run(&["run", "web"]).expect(0);
    let figures = fs::read_to_string(&file).unwrap();
    assert!(figures.contains("lifeboat_backup_last_success_timestamp_seconds"), "{figures}");
}

#[test]
fn a_full_state_disk_stops_no_backup() {
    let mut service = Service::hourly();
    let at = service.scene.world.path("full");
    let Some(_disk) = Tmpfs::mount(&at, "1m") else { return };
    service.person = service.person.clone().with("LIFEBOAT_STATE_DIR", &at);
    // Another path of the socket: one on a full disk cannot always be made.
    let hook = lifeboat_tests::hook::Hook::start();
    service.configure(&format!(
        "{HOURLY}\n[daemon]\nsocket = \"{}\"\n[[notify.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"",
        service.scene.path("socket"),
        hook.url("/x")
    ));
    fs::write(at.join("ballast"), vec![1; 4 << 20]).unwrap_err();
    let command = service.person.command(&["-v", "daemon"]);
    let mut daemon = Server::start("daemon", command, &service.scene.world.path("full.log"));
    wait_for(|| daemon.log(), || daemon.log().contains("web (hourly): ok").then_some(()));
    assert!(daemon.log().contains("nothing of them is remembered"), "{}", daemon.log());
    service.set_clock("2027-01-03T13:00:01Z");
    wait_for(|| daemon.log(), || (daemon.log().matches("web (hourly): ok").count() == 2).then_some(()));
    // What is wrong is told without a ledger: by who ran it, and by the daemon.
    let told = |kind: &str| hook.heard().iter().any(|heard| heard.json()["event"]["kind"] == kind);
    let (disk, away) = (service.scene.world.path("disk"), service.scene.world.path("away"));
    fs::rename(&disk, &away).unwrap();
    service.set_clock("2027-01-03T14:00:01Z");
    wait_for(|| format!("{:#?}\n{}", hook.heard(), daemon.log()), || told("failure").then_some(()));
    service.set_clock("2027-01-03T16:30:01Z");
    wait_for(|| daemon.log(), || (daemon.log().matches("web (hourly): failed").count() == 2).then_some(()));
    service.set_clock("2027-01-03T16:32:01Z");
    wait_for(|| format!("{:#?}\n{}", hook.heard(), daemon.log()), || told("overdue").then_some(()));
    fs::rename(&away, &disk).unwrap();
    // Room again, and it is remembered again.
    fs::remove_file(at.join("ballast")).unwrap();
    service.set_clock("2027-01-03T17:00:01Z");
    wait_for(|| daemon.log(), || (daemon.log().matches("web (hourly): ok").count() == 3).then_some(()));
    let runs = service.run(&["runs", "--json"]).expect(0).json();
    assert_eq!(summary(&runs).last().unwrap(), "hourly catch-up ok");
    daemon.stop();
}
