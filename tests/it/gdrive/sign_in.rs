//! The sign-in of a person, with the double as Google and the test as browser.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;

use lifeboat_drive_double::{Call, Fault, Options, When};
use lifeboat_providers::gdrive::login::{device_flow, installed_flow};
use lifeboat_providers::{ErrorKind, PutMode};

use super::scene::{Scene, noise, plain, put};

/// What a server answers to a GET.
fn browse(url: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A browser that goes where it is sent: to Google, from there back.
pub(crate) fn sign_in(url: &str) -> String {
    let answer = browse(url);
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    browse(&location.unwrap_or_else(|| panic!("no redirect: {answer}")))
}

/// Runs the sign-in with the browser on a thread of its own.
async fn with_browser(scene: &Scene) -> (lifeboat_providers::Result<()>, String) {
    let (show, shown) = mpsc::channel::<String>();
    let browser = std::thread::spawn(move || sign_in(&shown.recv().unwrap()));
    let path = scene.token_file();
    let result = installed_flow(&scene.app(), &path, plain(), |url| show.send(url.to_owned()).unwrap()).await;
    (result, browser.join().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_this_machine_leaves_a_login_that_works() {
    let scene = Scene::new();
    std::fs::remove_file(scene.token_file()).unwrap();
    let missing = scene.try_connect(scene.options("a")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Denied);
    assert!(missing.to_string().contains("lifeboat provider login gdrive"), "{missing}");
    let (result, page) = with_browser(&scene).await;
    result.unwrap();
    assert!(page.contains("You can close this page"), "{page}");
    let mode = std::fs::metadata(scene.token_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    put(&*scene.machine("a").await, "config", &noise(10, 1), PutMode::CreateNew).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_says_no_leaves_the_old_login() {
    let scene = Scene::new();
    let before = std::fs::read(scene.token_file()).unwrap();
    scene.double.deny_consent(true);
    let (result, _) = with_browser(&scene).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(std::fs::read(scene.token_file()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_elsewhere_leaves_a_login_that_works() {
    let scene = Scene::with(Options { device_pending: 2, device_interval_seconds: 0, ..Options::default() });
    std::fs::remove_file(scene.token_file()).unwrap();
    scene.fault(Call::Token, When::Nth(2), Fault::Error { status: 503, after_commit: false });
    let mut shown = None;
    let path = scene.token_file();
    device_flow(&scene.app(), &path, plain(), |prompt| shown = Some(prompt.clone())).await.unwrap();
    let prompt = shown.unwrap();
    assert!(prompt.url.starts_with("https://www.google.com/device") && !prompt.code.is_empty());
    put(&*scene.machine("a").await, "config", &noise(10, 1), PutMode::CreateNew).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_flow_says_why_it_ended() {
    let scene = Scene::with(Options { device_interval_seconds: 0, ..Options::default() });
    scene.double.deny_consent(true);
    let refused = device_flow(&scene.app(), &scene.token_file(), plain(), |_| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    let scene = Scene::with(Options { strict_device_client: true, ..Options::default() });
    let wrong = device_flow(&scene.app(), &scene.token_file(), plain(), |_| {}).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Misconfigured, "{wrong}");
    assert!(wrong.to_string().contains("TVs and Limited Input"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown() {
    let scene = Scene::new();
    let provider = scene.machine("a").await;
    let options = scene.options("a");
    let text = format!("{options:?} {provider:?} {:?}", scene.app());
    for secret in [scene.double.refresh_token(), scene.app().secret.to_string(), "ya29.".to_owned()] {
        assert!(!text.contains(&secret), "{text}");
    }
}
