//! x
use std::sync::Arc;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let repo = std::path::Path::new(&a[1]);
    let dirs = lifeboat_agent::repository::Directories { cache: "/tmp/lbdev/cache".into(), state: "/tmp/lbdev/state".into() };
    let secret = lifeboat_agent::seal::slot::Secret::Key(lifeboat_agent::seal::SecretKey::from_bytes([7; 32]));
    let r = if repo.exists() {
        let p = Arc::new(lifeboat_providers::local::LocalProvider::open(repo).unwrap());
        lifeboat_agent::repository::Repository::open(p, &secret, dirs).unwrap()
    } else {
        let p = Arc::new(lifeboat_providers::local::LocalProvider::create(repo).unwrap());
        lifeboat_agent::repository::Repository::create(p, &secret, &lifeboat_agent::repository::create::CreateOptions { cipher: Default::default(), purpose: lifeboat_agent::seal::slot::Purpose::KeyFile, label: "dev".into(), cost: lifeboat_agent::seal::slot::Cost::DEFAULT, pack_bytes: None }, dirs).unwrap()
    };
    let plan = lifeboat_agent::backup::Plan::new(&[a[2].clone().into_bytes()]).unwrap();
    let o = lifeboat_agent::backup::run(&r, plan, None, &Default::default(), &lifeboat_agent::backup::BackupOptions { host: "h".into(), ..Default::default() }, &lifeboat_agent::events::Context::silent());
    match o { Ok(o) => println!("{:#?} {} errors", o.summary, o.errors_total), Err(e) => println!("{e:?}") }
}
