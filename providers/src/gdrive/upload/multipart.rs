//! A small object in one request: what is said of the file, and its bytes. The only way for an object of no bytes.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;

use super::{Sent, Target, sent};
use crate::Body;
use crate::gdrive::Drive;
use crate::gdrive::error::Outcome;
use crate::gdrive::file::FILE_TYPE;
use crate::gdrive::state::Plan;

impl Drive {
    /// Sends all bytes at once.
    pub(super) async fn send_at_once(&self, target: &Target<'_>, body: &Body, plan: &Plan) -> Outcome<Sent> {
        let boundary = boundary(plan);
        let outgoing = target
            .request(self, plan, "multipart")
            .header(CONTENT_TYPE, format_args!("multipart/related; boundary={boundary}"))
            .body(related(&boundary, &target.metadata(plan), body));
        sent(self.api.wire().send(outgoing).await?).await
    }
}

/// A line that does not occur in the bytes: whoever could arrange that would have to know the number drawn here.
fn boundary(plan: &Plan) -> String {
    let number = getrandom::u64().unwrap_or_default();
    let digest: String = plan.sha256.to_string().chars().take(16).collect();
    format!("lifeboat-{number:016x}-{digest}")
}

fn related(boundary: &str, metadata: &str, body: &Body) -> Body {
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n\
         --{boundary}\r\nContent-Type: {FILE_TYPE}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let mut pieces = vec![Bytes::from(head)];
    pieces.extend_from_slice(body.pieces());
    pieces.push(Bytes::from(tail));
    Body::new(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    #[test]
    fn both_parts_are_between_boundaries() {
        let plan = Plan { id: "i".to_owned(), size: 3, sha256: Sha256::of(b"abc") };
        let one = boundary(&plan);
        assert_ne!(one, boundary(&plan));
        assert!(one.len() <= 70 && one.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'));
        let body = Body::new(vec![Bytes::from("a"), Bytes::from("bc")]);
        let expected = "--B\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{}\r\n\
                        --B\r\nContent-Type: application/octet-stream\r\n\r\nabc\r\n--B--\r\n";
        assert_eq!(related("B", "{}", &body).len(), expected.len() as u64);
    }
}
