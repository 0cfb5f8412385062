//! The headers `Range` of downloads and `Content-Range` of resumable uploads.

/// What a `Range` header asks of an object of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no range, or one that is not understood and has to be ignored.
    Whole,
    /// The bytes from `first` to `last`, both included.
    Part { first: u64, last: u64 },
    /// 416.
    Unsatisfiable,
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n` (RFC 9110, 14.2). Several ranges at once are answered by the whole.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::Whole,
        (Some(first), _) if (last.is_empty() || number(last).is_some()) && first >= size => {
            Wanted::Unsatisfiable
        }
        (Some(first), Some(last)) => Wanted::Part { first, last: last.min(size - 1) },
        (Some(first), None) if last.is_empty() => Wanted::Part { first, last: size - 1 },
        (None, Some(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (None, Some(_)) if first.is_empty() && size == 0 => Wanted::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => {
            Wanted::Part { first: size.saturating_sub(count), last: size - 1 }
        }
        _ => Wanted::Whole,
    }
}

/// A `Content-Range` of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// First and last byte, both included; `None` for `*`, the question how much was received.
    pub(crate) bytes: Option<(u64, u64)>,
    /// The size of the whole; `None` for `*`, not known yet.
    pub(crate) total: Option<u64>,
}

/// Reads `bytes 0-9/100`, `bytes 0-9/*`, `bytes */100` and `bytes */*`; `None` for everything else.
pub(crate) fn content_range(header: &str) -> Option<ContentRange> {
    let (bytes, total) = header.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    let bytes = match bytes {
        "*" => None,
        bytes => {
            let (first, last) = bytes.split_once('-')?;
            let (first, last) = (number(first)?, number(last)?);
            // The last number of all is left out, so that lengths can be computed.
            if first > last || last == u64::MAX || total.is_some_and(|total| last >= total) {
                return None;
            }
            Some((first, last))
        }
    };
    Some(ContentRange { bytes, total })
}

fn number(text: &str) -> Option<u64> {
    // `parse` would also take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_downloads() {
        let cases = [
            (None, 10, Wanted::Whole),
            (Some("bytes=0-3"), 10, Wanted::Part { first: 0, last: 3 }),
            (Some("bytes=4-"), 10, Wanted::Part { first: 4, last: 9 }),
            (Some("bytes=4-99"), 10, Wanted::Part { first: 4, last: 9 }),
            (Some("bytes=-3"), 10, Wanted::Part { first: 7, last: 9 }),
            (Some("bytes=-30"), 10, Wanted::Part { first: 0, last: 9 }),
            (Some("bytes=10-"), 10, Wanted::Unsatisfiable),
            (Some("bytes=10-12"), 10, Wanted::Unsatisfiable),
            (Some("bytes=0-0"), 0, Wanted::Unsatisfiable),
            (Some("bytes=0-"), 0, Wanted::Unsatisfiable),
            (Some("bytes=-1"), 0, Wanted::Unsatisfiable),
            (Some("bytes=-0"), 10, Wanted::Unsatisfiable),
            (Some("bytes=3-1"), 10, Wanted::Whole),
            (Some("bytes=0-1,3-4"), 10, Wanted::Whole),
            (Some("bytes=+1-2"), 10, Wanted::Whole),
            (Some("bytes=-"), 10, Wanted::Whole),
            (Some("lines=1-2"), 10, Wanted::Whole),
            (Some("bytes=99999999999999999999-"), 10, Wanted::Whole),
        ];
        for (header, size, expected) in cases {
            assert_eq!(wanted(header, size), expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn ranges_of_uploads() {
        let range = |bytes, total| Some(ContentRange { bytes, total });
        assert_eq!(content_range("bytes 0-9/100"), range(Some((0, 9)), Some(100)));
        assert_eq!(content_range("bytes 0-9/10"), range(Some((0, 9)), Some(10)));
        assert_eq!(content_range("bytes 5-9/*"), range(Some((5, 9)), None));
        assert_eq!(content_range("bytes */100"), range(None, Some(100)));
        assert_eq!(content_range("bytes */*"), range(None, None));
        for wrong in [
            "bytes 0-10/10",
            "bytes 9-0/10",
            "bytes=0-9/10",
            "*/*",
            "bytes 0-9",
            "bytes -/1",
            "",
            "bytes a-b/c",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
