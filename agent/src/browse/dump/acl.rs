//! POSIX ACLs as the text that archives hold: `user::rw-,user:1001:r--,group::r--,mask::r--,other::---`.
//!
//! Users and groups are written by number: their names are those of another machine.

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;

/// The text of an ACL as the kernel has it in an attribute; `None` if it is no such thing.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() || entries.is_empty() {
        return None;
    }
    let texts: Option<Vec<String>> = entries.iter().map(entry).collect();
    Some(texts?.join(","))
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> Option<String> {
    let [tag0, tag1, rights0, rights1, id @ ..] = *bytes;
    let id = u32::from_le_bytes(id);
    let whose = match u16::from_le_bytes([tag0, tag1]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let rights = u16::from_le_bytes([rights0, rights1]);
    let letter = |bit: u16, letter: char| if rights & bit == 0 { '-' } else { letter };
    Some(format!("{whose}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_acl_has_no_text() {
        let mut value = vec![2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 8, 0, 5, 0, 0xe9, 3, 0, 0];
        assert_eq!(text(&value).unwrap(), "user::rw-,group:1001:r-x");
        assert_eq!(text(&value[..19]), None);
        value[4] = 3;
        assert_eq!(text(&value), None);
        assert_eq!(text(&[3, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]), None);
        assert_eq!(text(b""), None);
    }
}
