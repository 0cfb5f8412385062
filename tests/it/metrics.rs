//! Figures and health over HTTP, asked by a client of its own; the text as Prometheus' own checker sees it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use lifeboat_agent::metrics::server::Bounds;
use lifeboat_agent::metrics::{Check, Figures, Health, Probe, Server, State, render};
use lifeboat_agent::{Error, Result};
use lifeboat_tests::http::{Answer, request};
use lifeboat_tests::{process, promtool};
use parking_lot::Mutex;

/// An agent that is as a test wants it.
#[derive(Default)]
struct Agent {
    figures: Figures,
    health: Mutex<Health>,
    /// Why the figures cannot be told, if they cannot.
    trouble: Option<String>,
    /// Says that it was asked, and waits for an answer before it gives its own.
    gate: Option<Mutex<(Sender<()>, Receiver<()>)>>,
    /// How many ask for figures now, and the most that ever did at once.
    active: AtomicUsize,
    peak: AtomicUsize,
}

impl Probe for Agent {
    fn figures(&self) -> Result<Figures> {
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(active, Ordering::SeqCst);
        // Long enough for others to come, if they are let in.
        (0..1000).for_each(|_| std::thread::yield_now());
        self.active.fetch_sub(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            let gate = gate.lock();
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
        }
        match &self.trouble {
            Some(why) if why == "panic" => panic!("a probe that breaks down"),
            Some(why) => Err(Error::failed(why)),
            None => Ok(self.figures.clone()),
        }
    }

    fn is_live(&self) -> bool {
        self.health().is_live
    }

    fn health(&self) -> Health {
        self.health.lock().clone()
    }
}

fn well() -> Health {
    Health { is_live: true, is_ready: true, checks: vec![Check::ok("ledger")] }
}

fn loopback() -> SocketAddr {
    process::loopback(0)
}

fn get(server: &Server, path: &str) -> Answer {
    request(server.address(), "GET", path, &[], b"").unwrap()
}

/// Sends these bytes and returns all that comes back until the server ends the connection.
fn exchange(server: &Server, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // The server may end the connection before it has read everything.
    stream.write_all(sent).ok();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).ok();
    String::from_utf8_lossy(&received).into_owned()
}

#[test]
fn prometheus_reads_the_figures() {
    let figures = promtool::figures();
    let server =
        Server::start(loopback(), Arc::new(Agent { figures: figures.clone(), ..Agent::default() })).unwrap();
    let answer = get(&server, "/metrics").success();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.text(), render(&figures).unwrap());
    let head = request(server.address(), "HEAD", "/metrics", &[], b"").unwrap().success();
    assert_eq!(head.body, b"");
    assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
    if promtool::is_available() {
        promtool::check_metrics(&answer.text());
    }
}

#[test]
fn the_checker_would_see_a_wrong_name() {
    if promtool::is_available() {
        let wrong = "# HELP lifeboat_runs Runs\n# TYPE lifeboat_runs counter\nlifeboat_runs 1\n";
        let complaint = promtool::complaints(wrong).expect("promtool should complain");
        assert!(complaint.contains("_total"), "{complaint}");
    }
}

#[test]
fn health_has_a_status_for_machines_and_reasons_for_people() {
    let agent = Arc::new(Agent { health: Mutex::new(well()), ..Agent::default() });
    let server = Server::start(loopback(), agent.clone()).unwrap();
    let statuses = || ["/livez", "/readyz", "/healthz"].map(|path| get(&server, path).status);
    assert_eq!(statuses(), [200, 200, 200]);
    // A destination that is away is no reason to start the agent again.
    agent.health.lock().checks.push(Check::not_well("destination offsite", State::Warning, "no answer"));
    assert_eq!(statuses(), [200, 200, 200]);
    let body = get(&server, "/healthz").json();
    assert_eq!(body["status"], "warning");
    assert_eq!(body["checks"][1]["detail"], "no answer");
    agent.health.lock().is_ready = false;
    assert_eq!(statuses(), [200, 503, 503]);
    *agent.health.lock() = Health { is_live: false, ..well() };
    assert_eq!(statuses(), [503, 503, 503]);
    assert_eq!(get(&server, "/healthz").json()["status"], "failed");
}

#[test]
fn figures_that_cannot_be_made_are_an_error_and_the_server_goes_on() {
    for trouble in ["cannot read the ledger /x/ledger.sqlite", "panic"] {
        let agent = Agent { trouble: Some(trouble.into()), health: Mutex::new(well()), ..Agent::default() };
        let server = Server::start(loopback(), Arc::new(agent)).unwrap();
        let answer = get(&server, "/metrics");
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(trouble == "panic" || answer.text().contains(trouble), "{}", answer.text());
        assert_eq!(get(&server, "/livez").status, 200);
    }
}

#[test]
fn only_four_pages_and_only_reading() {
    let server = Server::start(loopback(), Arc::new(Agent::default())).unwrap();
    for path in ["/", "/metrics/", "/metricsx", "/..%2fmetrics", "/api"] {
        assert_eq!(get(&server, path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = request(server.address(), method, "/metrics", &[], b"").unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(get(&server, "/metrics?a=b").status, 200);
}

#[test]
fn a_name_that_was_made_to_lead_here_is_refused() {
    let server = Server::start(loopback(), Arc::new(Agent::default())).unwrap();
    let ask = |host: &str| {
        let answer = exchange(&server, format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for own in ["127.0.0.1:9642", "localhost", "LocalHost:1", "[::1]:9642", "127.0.0.1"] {
        assert_eq!(ask(own), "200", "{own}");
    }
    for foreign in ["evil.example", "evil.example:9642", "localhost.evil.example", "127.0.0.1.evil.example"] {
        assert_eq!(ask(foreign), "403", "{foreign}");
    }
}

#[test]
fn heads_without_end_are_refused() {
    let server = Server::start(loopback(), Arc::new(Agent::default())).unwrap();
    let long = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert!(!exchange(&server, long.as_bytes()).contains(" 200 "));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: x\r\n".repeat(100));
    assert!(!exchange(&server, many.as_bytes()).contains(" 200 "));
    assert!(!exchange(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").contains(" 200 "));
    assert_eq!(get(&server, "/metrics").status, 200);
}

#[test]
fn clients_that_send_nothing_do_not_keep_others_out() {
    let bounds = Bounds {
        connections_max: 2,
        head_time_max: Duration::from_millis(200),
        // So long that nothing but the bound of the head can help.
        connection_time_max: Duration::from_secs(3600),
        ..Bounds::default()
    };
    let server = Server::start_within(loopback(), Arc::new(Agent::default()), bounds).unwrap();
    // Each has sent a part of a request, and takes a place; the last ones wait for one.
    let slow: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    assert_eq!(get(&server, "/metrics").status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        // Ended or reset: either way it is over without an answer of figures.
        stream.read_to_end(&mut rest).ok();
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
}

#[test]
fn many_who_ask_at_once_are_answered_in_turn() {
    let agent = Arc::new(Agent::default());
    let bounds = Bounds { connections_max: 2, ..Bounds::default() };
    let server = Server::start_within(loopback(), agent.clone(), bounds).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(get(&server, "/metrics").status, 200));
        }
    });
    assert!((1..=2).contains(&agent.peak.load(Ordering::SeqCst)), "{:?}", agent.peak);
}

#[test]
fn a_stop_lets_answers_end_and_frees_the_port() {
    let ((asked, was_asked), (go, goes)) = (channel(), channel());
    let agent = Agent { gate: Some(Mutex::new((asked, goes))), ..Agent::default() };
    let server = Server::start(loopback(), Arc::new(agent)).unwrap();
    let address = server.address();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || request(address, "GET", "/metrics", &[], b"").unwrap());
        was_asked.recv().unwrap();
        let stopped = scope.spawn(move || server.stop());
        // New ones are refused at once, while the old one is still being answered.
        process::wait_for(|| "the port to be closed".into(), || TcpStream::connect(address).err());
        go.send(()).unwrap();
        assert_eq!(answer.join().unwrap().status, 200);
        stopped.join().unwrap();
    });
    let again = Server::start(address, Arc::new(Agent::default())).unwrap();
    let error = Server::start(again.address(), Arc::new(Agent::default())).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("`listen`"));
}

#[test]
fn a_client_that_never_reads_is_cut_off_when_the_server_stops() {
    let ((asked, was_asked), (go, goes)) = (channel(), channel::<()>());
    let agent = Agent { gate: Some(Mutex::new((asked, goes))), ..Agent::default() };
    let bounds = Bounds { stop_time_max: Duration::from_millis(50), ..Bounds::default() };
    let server = Server::start_within(loopback(), Arc::new(agent), bounds).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    was_asked.recv().unwrap();
    server.stop();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    go.send(()).unwrap();
}
