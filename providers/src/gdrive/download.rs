//! `get`: the bytes of a file, or a range of them, exactly.
//!
//! A whole object is asked for as the range from 0: then the answer states its size, and one that was cut short can
//! be told from one that is complete.

use std::ops::Range;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Method, Response, StatusCode};

use super::Drive;
use super::error::{Failure, Outcome};
use super::wire::{Outgoing, next_bytes, refusal};
use crate::{ErrorKind, Key};

/// No more is set aside before the bytes are there.
const RESERVED_BYTES_MAX: u64 = 64 << 20;

/// The bytes an answer has, by its `Content-Range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    first: u64,
    last: u64,
    total: u64,
}

impl Drive {
    /// The bytes of an object. A remembered file that is gone is looked for once more by name.
    pub(super) async fn read(&self, key: &Key, range: Option<Range<u64>>) -> Outcome<Bytes> {
        let missing = || Failure::known(ErrorKind::NotFound, "no such object");
        let id = self.likely_id(key).await?.ok_or_else(missing)?;
        match self.fetch(&id, range.clone()).await {
            Err(failure) if failure.has_status(404) => {
                self.state.forget(key, &id)?;
                let remote = self.find(key).await?.ok_or_else(missing)?;
                match self.fetch(&remote.id, range).await {
                    Err(failure) if failure.has_status(404) => Err(missing()),
                    result => result,
                }
            }
            result => result,
        }
    }

    /// The bytes of a file.
    pub(super) async fn fetch(&self, id: &str, range: Option<Range<u64>>) -> Outcome<Bytes> {
        let response = match self.ask_for(id, range.as_ref(), false).await {
            Err(failure) if failure.has_reason("cannotDownloadAbusiveFile") => {
                // Sealed bytes look like anything, also like malware.
                self.ask_for(id, range.as_ref(), true).await
            }
            result => result,
        };
        let response = match response {
            Err(failure) if failure.has_status(416) => return self.beyond_end(id, range).await,
            result => result?,
        };
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let part = part(&response)?;
            let wanted = wanted(range.as_ref(), part)?;
            return read_exactly(response.into_body(), wanted).await;
        }
        // The range was passed over: all bytes come.
        let size = self.api.get(id).await?.size.unwrap_or_default();
        let Some(range) = range else { return read_exactly(response.into_body(), size).await };
        if range.end > size {
            return Err(too_short(size));
        }
        let whole = read_exactly(response.into_body(), size).await?;
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if start <= end && end <= whole.len() => Ok(whole.slice(start..end)),
            _ => Err(too_short(size)),
        }
    }

    async fn ask_for(
        &self,
        id: &str,
        range: Option<&Range<u64>>,
        acknowledge: bool,
    ) -> Outcome<Response<Incoming>> {
        let acknowledge = if acknowledge { "&acknowledgeAbuse=true" } else { "" };
        let path = format!("drive/v3/files/{id}?alt=media&supportsAllDrives=true{acknowledge}");
        let range = match range {
            Some(range) => format!("bytes={}-{}", range.start, range.end.saturating_sub(1)),
            None => "bytes=0-".to_owned(),
        };
        let outgoing = Outgoing::new(Method::GET, self.api.wire().url(&path)).header(RANGE, range);
        let response = self.api.wire().send(outgoing).await?;
        if matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        Err(Failure::Refused(refusal(response).await))
    }

    /// A file of no bytes has no range, not even the one from 0.
    async fn beyond_end(&self, id: &str, range: Option<Range<u64>>) -> Outcome<Bytes> {
        let size = self.api.get(id).await?.size.unwrap_or_default();
        match range {
            None if size == 0 => Ok(Bytes::new()),
            Some(range) if range.end > size => Err(too_short(size)),
            _ => Err(Failure::Broken(format!("Google Drive denies bytes that the file of {size} bytes has"))),
        }
    }
}

fn too_short(size: u64) -> Failure {
    Failure::known(
        ErrorKind::Corrupt,
        format_args!("the range reaches beyond the end: the object has {size} bytes"),
    )
}

/// How many bytes must come, if the answer is of the range asked for.
fn wanted(range: Option<&Range<u64>>, part: Part) -> Outcome<u64> {
    let range = match range {
        Some(range) => range.clone(),
        None => 0..part.total,
    };
    if range.end > part.total {
        return Err(too_short(part.total));
    }
    if part.first != range.start || part.last.checked_add(1) != Some(range.end) {
        return Err(Failure::Broken(format!(
            "Google Drive gave bytes {}-{} where {}-{} were asked for",
            part.first,
            part.last,
            range.start,
            range.end.saturating_sub(1)
        )));
    }
    Ok(range.end.saturating_sub(range.start))
}

fn part(response: &Response<Incoming>) -> Outcome<Part> {
    let header = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    header
        .and_then(parse_part)
        .ok_or_else(|| Failure::Broken("Google Drive does not say which bytes it gives".to_owned()))
}

/// `bytes 0-9/100`.
fn parse_part(header: &str) -> Option<Part> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let part = Part { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok()? };
    (part.first <= part.last && part.last < part.total).then_some(part)
}

async fn read_exactly(mut body: Incoming, wanted: u64) -> Outcome<Bytes> {
    let mut bytes = Vec::new();
    let reserved = usize::try_from(wanted.min(RESERVED_BYTES_MAX)).unwrap_or_default();
    let no_memory =
        |_| Failure::known(ErrorKind::Other, format_args!("there is no memory for {wanted} bytes"));
    bytes.try_reserve_exact(reserved).map_err(no_memory)?;
    while let Some(more) = next_bytes(&mut body).await? {
        if (bytes.len() + more.len()) as u64 > wanted {
            return Err(Failure::Broken(format!("more than the {wanted} bytes came that were announced")));
        }
        bytes.try_reserve(more.len()).map_err(no_memory)?;
        bytes.extend_from_slice(&more);
    }
    if bytes.len() as u64 != wanted {
        return Err(Failure::Broken(format!(
            "the answer was cut off: {} of {wanted} bytes came",
            bytes.len()
        )));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_other_bytes_than_asked_for_is_refused() {
        let part = parse_part("bytes 10-19/100").unwrap();
        assert_eq!(part, Part { first: 10, last: 19, total: 100 });
        assert_eq!(wanted(Some(&(10..20)), part).unwrap(), 10);
        for other in [10..19, 10..21, 9..20, 0..20, 11..20] {
            let failure = wanted(Some(&other), part).unwrap_err().into_error("get", "a");
            assert_eq!(failure.kind(), ErrorKind::Transient, "{other:?}");
        }
        let beyond = wanted(Some(&(10..101)), part).unwrap_err().into_error("get", "a");
        assert_eq!(beyond.kind(), ErrorKind::Corrupt);
        assert!(wanted(None, part).is_err());
        assert_eq!(wanted(None, parse_part("bytes 0-99/100").unwrap()).unwrap(), 100);
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        for bad in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes */100",
            "bytes 0-9/*",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes=0-9/10",
            "bytes 0-18446744073709551616/5",
            "bytes -1-2/5",
        ] {
            assert_eq!(parse_part(bad), None, "{bad:?}");
        }
        assert!(parse_part("bytes 0-18446744073709551614/18446744073709551615").is_some());
    }
}
