//! `drives.get` and `drives.list`: the one shared drive.

use serde_json::json;

use crate::answer::{Answer, Outcome, refuse};
use crate::fields::Schema;
use crate::request::Head;
use crate::state::State;

pub(crate) fn answer(state: &State, head: &Head) -> Outcome {
    let drive = json!({"kind": "drive#drive", "id": state.store.drive, "name": "Lifeboat's shared drive"});
    match head.segments.get(1) {
        Some(id) if *id == state.store.drive => {
            let mask = head.mask(Schema::Drive, "kind,id,name")?;
            Ok(Answer::json(mask.apply(drive)))
        }
        Some(id) => Err(refuse(404, "notFound", &format!("Shared drive not found: {id}"))),
        None => {
            let mask = head.mask(Schema::DriveList, "kind,nextPageToken,drives(kind,id,name)")?;
            Ok(Answer::json(mask.apply(json!({"kind": "drive#driveList", "drives": [drive]}))))
        }
    }
}
