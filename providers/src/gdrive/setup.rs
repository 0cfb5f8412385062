//! Connecting to the repository's folder, and making it.

use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::api::{Api, quoted};
use super::auth::Tokens;
use super::error::{Failure, Outcome};
use super::file::{FOLDER_TYPE, Remote, is_id};
use super::folders::Folders;
use super::ids::{IdPool, KeyLocks};
use super::options::{Credentials, DriveOptions};
use super::state::State;
use super::{Drive, SCOPE_FILE};
use crate::http::{Connector, check_endpoint};
use crate::{ErrorKind, Result};

const ROOT: &str = "https://www.googleapis.com/";

/// Below the time after which Google's front ends drop an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Makes a folder for a repository, and gives its id. Needed for a person's account: Lifeboat may use only folders
/// that it made itself (scope `drive.file`).
///
/// Finds the folder that an earlier call made under the same name. `parent` is the id of the folder or shared drive
/// to make it in; `None` is the account's own "My Drive".
///
/// # Errors
/// As [`super::DriveProvider::connect`].
pub async fn create_folder(
    credentials: &Credentials,
    endpoint: Option<&str>,
    name: &str,
    parent: Option<&str>,
    connector: Connector,
) -> Result<String> {
    let make = async {
        let parent = parent.unwrap_or("root");
        require_id(parent)?;
        let api = api(credentials, endpoint, connector).await?;
        let query = format!(
            "'{parent}' in parents and name = '{}' and mimeType = '{FOLDER_TYPE}' and trashed = false",
            quoted(name)
        );
        let parent_drive = match api.get(parent).await {
            // Under the narrow scope an account's own root may not be shown, but it can be made things in.
            Err(failure) if failure.has_status(404) && parent == "root" => None,
            Err(failure) if failure.has_status(404) => return Err(no_folder(parent)),
            result => result?.drive_id,
        };
        let mut found = api.list_all(&query, parent_drive.as_deref()).await?.files;
        found.retain(|folder| folder.is_folder && folder.name == name);
        found.sort_by(|a, b| a.rank().cmp(&b.rank()));
        if let Some(first) = found.into_iter().next() {
            return Ok(first.id);
        }
        let id = IdPool::default().take(&api).await?;
        match api.create_folder(&id, name, parent).await {
            Ok(_) => Ok(id),
            Err(failure) if failure.has_status(404) => Err(no_folder(parent)),
            Err(failure) => Err(failure),
        }
    };
    make.await.map_err(|failure: Failure| failure.into_error("create", format_args!("the folder {name:?}")))
}

/// The HTTP client of everything here.
pub(super) fn client(connector: &Connector) -> super::wire::Client {
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector.clone())
}

async fn api(credentials: &Credentials, endpoint: Option<&str>, connector: Connector) -> Outcome<Api> {
    let root = root(endpoint)?;
    let client = client(&connector);
    let tokens = Tokens::new(credentials, &client, &connector).await?;
    Ok(Api::new(client, tokens, credentials.scope(), &root))
}

/// The root of the service as an URL with a slash at its end.
fn root(endpoint: Option<&str>) -> Outcome<String> {
    let Some(endpoint) = endpoint else { return Ok(ROOT.to_owned()) };
    check_endpoint(endpoint, false)?;
    let url = url::Url::parse(endpoint).map_err(|error| {
        Failure::known(ErrorKind::Misconfigured, format_args!("the endpoint {endpoint}: {error}"))
    })?;
    if url.query().is_some() || url.fragment().is_some() {
        let reason = format_args!("the endpoint {endpoint} has a query, which it must not");
        return Err(Failure::known(ErrorKind::Misconfigured, reason));
    }
    let mut root = url.to_string();
    if !root.ends_with('/') {
        root.push('/');
    }
    Ok(root)
}

fn require_id(id: &str) -> Outcome<()> {
    if is_id(id) {
        return Ok(());
    }
    Err(Failure::known(ErrorKind::Misconfigured, format_args!("{id:?} is no id of a folder")))
}

/// Opens everything a provider needs.
pub(super) async fn connect(options: DriveOptions, connector: Connector) -> Outcome<Drive> {
    require_id(&options.folder)?;
    let api = api(&options.credentials, options.endpoint.as_deref(), connector).await?;
    let folder = match api.get(&options.folder).await {
        Err(failure) if failure.has_status(404) && options.credentials.scope() == SCOPE_FILE => {
            return Err(no_folder(&options.folder));
        }
        Err(failure) if failure.has_status(404) => {
            return Err(Failure::known(
                ErrorKind::Misconfigured,
                format_args!(
                    "there is no folder {}, or it is not shared with this service account: share the folder, or the \
                     shared drive, with its client_email as a content manager",
                    options.folder
                ),
            ));
        }
        result => result?,
    };
    check(&folder, options.shared_drive.as_deref())?;
    let (dir, id) = (options.state_dir.clone(), folder.id.clone());
    let opening = tokio::task::spawn_blocking(move || State::open(&dir, &id));
    let state =
        opening.await.map_err(|_| Failure::Broken("opening the local state was stopped".to_owned()))??;
    let folders = Folders::new(&folder);
    folders.refresh(&api, &state).await?;
    let chunk_bytes = options.chunk();
    Ok(Drive { api, state, folders, ids: IdPool::default(), locks: KeyLocks::default(), chunk_bytes })
}

fn check(folder: &Remote, shared_drive: Option<&str>) -> Outcome<()> {
    let wrong = |reason: String| Err(Failure::known(ErrorKind::Misconfigured, reason));
    if !folder.is_folder {
        return wrong(format!("{} is a file, not a folder", folder.id));
    }
    if folder.trashed {
        return wrong(format!(
            "the folder {} is in the trash: restore it there, with all it holds",
            folder.id
        ));
    }
    match (shared_drive, folder.drive_id.as_deref()) {
        (Some(expected), Some(found)) if expected == found => Ok(()),
        (None, _) => Ok(()),
        (Some(expected), _) if expected == folder.id => Ok(()),
        (Some(expected), found) => wrong(format!(
            "the folder lies in {}, not in the shared drive {expected}",
            found.map_or_else(
                || "an account's own storage".to_owned(),
                |found| format!("the shared drive {found}")
            )
        )),
    }
}

/// The repository's folder is not there, for an account that sees only what Lifeboat made.
pub(super) fn no_folder(id: &str) -> Failure {
    Failure::known(
        ErrorKind::Misconfigured,
        format_args!(
            "there is no folder {id} that Lifeboat can see: with this login it sees only what it made itself (scope \
             drive.file), not folders that were made in the browser; it may also have been removed or belong to \
             another account. Make one by `lifeboat provider login gdrive --folder NAME`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_ends_in_a_slash_and_has_no_query() {
        assert_eq!(root(None).unwrap(), ROOT);
        assert_eq!(root(Some("http://127.0.0.1:80")).unwrap(), "http://127.0.0.1/");
        assert_eq!(
            root(Some("https://proxy.example.org/drive")).unwrap(),
            "https://proxy.example.org/drive/"
        );
        for bad in ["", "http://example.org", "https://x/?a=b", "https://x/#a", "gdrive://x"] {
            let error = root(Some(bad)).err().unwrap().into_error("open", "x");
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{bad}");
        }
    }

    #[test]
    fn a_folder_must_be_one_and_where_it_is_expected() {
        let folder = |change: &dyn Fn(&mut Remote)| {
            let json = serde_json::json!({ "id": "F", "mimeType": FOLDER_TYPE, "driveId": "D" });
            let mut remote = Remote::new(serde_json::from_value(json).unwrap()).unwrap();
            change(&mut remote);
            remote
        };
        assert!(check(&folder(&|_| {}), None).is_ok());
        assert!(check(&folder(&|_| {}), Some("D")).is_ok());
        assert!(check(&folder(&|_| {}), Some("E")).is_err());
        assert!(check(&folder(&|remote| remote.drive_id = None), Some("D")).is_err());
        assert!(check(&folder(&|remote| remote.trashed = true), None).is_err());
        assert!(check(&folder(&|remote| remote.is_folder = false), None).is_err());
    }
}
