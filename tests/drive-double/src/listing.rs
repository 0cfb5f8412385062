//! `files.list`: what is found, in which order, on which page.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::answer::{Answer, Outcome, bad_parameter, no_file, refuse};
use crate::auth::Identity;
use crate::fault::{Fault, Plan};
use crate::fields::Schema;
use crate::file::File;
use crate::query::{Query, Subject};
use crate::request::Head;
use crate::state::{State, is_visible};

const DEFAULT_FIELDS: &str =
    "kind,nextPageToken,incompleteSearch,files(kind,id,name,mimeType,driveId,teamDriveId)";
const PAGE_SIZE: u64 = 100;
const PAGE_SIZE_MAX: u64 = 1000;

/// The pages that have been promised, by their tokens. A listing is a snapshot of the ids found at its first page;
/// what is created meanwhile is not in it, what is removed meanwhile is left out.
#[derive(Debug, Default)]
pub(crate) struct Pages(HashMap<String, Page>);

#[derive(Debug, Clone)]
struct Page {
    /// The parameters, which must be the same for every page.
    signature: String,
    ids: Arc<Vec<String>>,
    at: usize,
}

/// One listing: its parameters, read and checked.
struct Listing {
    query: Query,
    order: Vec<(Key, bool)>,
    drive: Option<String>,
    all_drives: bool,
    parent: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Name,
    CreatedTime,
    ModifiedTime,
    QuotaBytesUsed,
    Folder,
}

/// Answers `files.list`.
pub(crate) fn list(state: &mut State, head: &Head, identity: &Identity, plan: &Plan) -> Outcome {
    let mask = head.mask(Schema::FileList, DEFAULT_FIELDS)?;
    let size = head.number("pageSize", PAGE_SIZE, 1, PAGE_SIZE_MAX)?;
    let listing = Listing::read(state, head, identity)?;
    let signature = signature(head);
    let page = match head.get("pageToken").filter(|token| !token.is_empty()) {
        Some(token) => state
            .pages
            .0
            .get(token)
            .filter(|page| page.signature == signature)
            .cloned()
            .ok_or_else(|| bad_parameter("pageToken", "invalid", "Invalid Value"))?,
        None => Page { ids: Arc::new(listing.find(state, identity, plan)), signature, at: 0 },
    };
    let size = plan
        .find(|fault| match fault {
            Fault::ShortPages { items } => Some((*items).max(1)),
            Fault::EmptyPage | Fault::SamePage => Some(0),
            _ => None,
        })
        .unwrap_or(usize::MAX)
        .min(usize::try_from(size).unwrap_or(usize::MAX));
    let end = page.at.saturating_add(size).min(page.ids.len());
    let mut files: Vec<Value> =
        page.ids[page.at..end].iter().filter_map(|id| show(state, id, plan)).collect();
    let incomplete = plan.has(&Fault::IncompleteSearch);
    if incomplete {
        files.truncate(files.len() / 2);
    }
    let mut answer = json!({"kind": "drive#fileList", "incompleteSearch": incomplete, "files": files});
    if end < page.ids.len() || plan.has(&Fault::EmptyPage) || plan.has(&Fault::SamePage) {
        let token = match plan.has(&Fault::SamePage) {
            true => "~!!~the-same".to_owned(),
            false => format!("~!!~{}", state.random.text(60)),
        };
        answer["nextPageToken"] = token.clone().into();
        state.pages.0.insert(token, Page { at: end, ..page });
    }
    Ok(Answer::json(mask.apply(answer)))
}

fn show(state: &State, id: &str, plan: &Plan) -> Option<Value> {
    let may_delete = |file: &File| file.drive_id.is_none() || state.options.may_delete_on_shared_drive;
    if let Some(file) = state.store.get(id) {
        return Some(file.json(state.store.is_trashed(file), may_delete(file)));
    }
    let removed = state.store.removed().find(|file| file.id == id)?;
    plan.has(&Fault::ListRemoved).then(|| removed.json(false, may_delete(removed)))
}

fn signature(head: &Head) -> String {
    ["q", "orderBy", "corpora", "driveId", "includeItemsFromAllDrives", "supportsAllDrives", "spaces"]
        .map(|name| head.get(name).unwrap_or_default())
        .join("\n")
}

impl Listing {
    fn read(state: &State, head: &Head, identity: &Identity) -> Outcome<Self> {
        let mut query = Query::parse(head.get("q").unwrap_or_default()).map_err(|reason| {
            let mut answer = bad_parameter("q", "invalid", "Invalid Value");
            answer.note = Some(format!("q: {reason}"));
            answer
        })?;
        let mut parent = None;
        for folder in query.parents_mut() {
            if folder == "root" {
                folder.clone_from(&state.store.root);
            }
            parent = Some(folder.clone());
        }
        let (drive, all_drives) = drives(head)?;
        // A folder on a shared drive that the call does not ask for is not an error: it seems to be empty.
        let unseen = |folder: &String| !state.is_visible(folder, identity, true);
        if parent.as_ref().is_some_and(unseen) {
            let mut answer = no_file("");
            answer.note = Some(
                "a folder in q is not there, or the app did not make it and the token's scope is drive.file"
                    .to_owned(),
            );
            return Err(answer);
        }
        if drive.as_ref().is_some_and(|drive| *drive != state.store.drive) {
            return Err(refuse(404, "notFound", "Shared drive not found."));
        }
        Ok(Self { query, order: order(head.get("orderBy"))?, drive, all_drives, parent })
    }

    /// The ids of all that is found, in order.
    fn find(&self, state: &State, identity: &Identity, plan: &Plan) -> Vec<String> {
        let store = &state.store;
        let newest = plan.newest_listed(store.creates);
        let roots = HashSet::from([&store.root, &store.drive]);
        let is_found = |file: &&File| {
            let subject = Subject {
                name: &file.name,
                mime_type: &file.mime_type,
                trashed: store.is_trashed(file),
                parents: &file.parents,
                app_properties: &file.app_properties,
            };
            file.created <= newest
                && !roots.contains(&file.id)
                && is_visible(file, identity, self.all_drives)
                && (self.drive.is_none() || self.drive == file.drive_id)
                && self.query.matches(&subject)
        };
        let mut found: Vec<&File> = match &self.parent {
            Some(parent) => store.children(parent).filter(is_found).collect(),
            None => store.files().filter(is_found).collect(),
        };
        if plan.has(&Fault::ListRemoved) {
            found.extend(store.removed().filter(is_found));
        }
        found.sort_by(|a, b| self.compare(a, b));
        found.into_iter().map(|file| file.id.clone()).collect()
    }

    /// Without `orderBy` Drive promises no order; here it is that of the ids, which are random.
    fn compare(&self, a: &File, b: &File) -> Ordering {
        for (key, descending) in &self.order {
            let order = match key {
                Key::Name => a.name.to_lowercase().cmp(&b.name.to_lowercase()),
                Key::CreatedTime => a.created_time.cmp(&b.created_time),
                Key::ModifiedTime => a.modified_time.cmp(&b.modified_time),
                Key::QuotaBytesUsed => a.digests.size.cmp(&b.digests.size),
                Key::Folder => b.is_folder().cmp(&a.is_folder()),
            };
            let order = if *descending { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        a.id.cmp(&b.id)
    }
}

/// The shared drive that is searched, and whether items of shared drives are visible.
fn drives(head: &Head) -> Outcome<(Option<String>, bool)> {
    let drive = head.get("driveId").filter(|id| !id.is_empty()).map(str::to_owned);
    let include = head.flag("includeItemsFromAllDrives")?;
    let supports = head.supports_all_drives()?;
    let corpora = head.get("corpora").unwrap_or("user");
    if !["user", "drive", "allDrives", "domain"].contains(&corpora) {
        return Err(bad_parameter("corpora", "invalid", "Invalid Value"));
    }
    if let Some(spaces) = head.get("spaces").filter(|spaces| *spaces != "drive") {
        let mut answer = bad_parameter("spaces", "invalid", "Invalid Value");
        answer.note = Some(format!("the double has the space drive only, not {spaces}"));
        return Err(answer);
    }
    if ["drive", "allDrives"].contains(&corpora) && !include {
        let message = "The includeItemsFromAllDrives parameter must be set to true when driveId is specified or corpora contains drive or allDrives.";
        return Err(refuse(403, "includeTeamDriveItemsRequired", message));
    }
    if drive.is_some() != (corpora == "drive") {
        let message = "The driveId parameter must be specified if and only if corpora is set to drive.";
        return Err(refuse(403, "teamDriveIdRequiresTeamDriveCorpora", message));
    }
    if include && !supports {
        let message = "The supportsAllDrives parameter must be set to true when includeItemsFromAllDrives is set to true.";
        return Err(refuse(403, "teamDrivesNotSupported", message));
    }
    Ok((drive, include && supports))
}

fn order(text: Option<&str>) -> Outcome<Vec<(Key, bool)>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    text.split(',')
        .map(|part| {
            let mut words = part.split_whitespace();
            let key = match words.next() {
                Some("name" | "name_natural") => Key::Name,
                Some("createdTime") => Key::CreatedTime,
                Some("modifiedTime" | "modifiedByMeTime" | "recency") => Key::ModifiedTime,
                Some("quotaBytesUsed") => Key::QuotaBytesUsed,
                Some("folder") => Key::Folder,
                _ => return Err(bad_parameter("orderBy", "invalid", "Invalid Value")),
            };
            match (words.next(), words.next()) {
                (None, _) => Ok((key, false)),
                (Some("desc"), None) => Ok((key, true)),
                _ => Err(bad_parameter("orderBy", "invalid", "Invalid Value")),
            }
        })
        .collect()
}
