//! Shards survive being written and read; no bytes make reading panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn shards() -> impl Strategy<Value = Shard> {
    let one = (any::<u64>(), any::<u32>(), vec(any::<u64>(), 0..20)).prop_map(|(number, more, chunks)| {
        let pack = pack(number, chunks);
        PackEntry { stored_bytes: pack.stored_bytes + u64::from(more), ..pack }
    });
    let replaces = vec(any::<u64>().prop_map(sha256), 0..4);
    (replaces, vec(one, 0..5)).prop_map(|(replaces, packs)| Shard { replaces, packs })
}

proptest! {
    #[test]
    fn round_trips(shard in shards()) {
        let bytes = shard.encode().unwrap();
        prop_assert_eq!(Shard::decode(&bytes).unwrap(), shard);
    }

    #[test]
    fn changed_or_cut_bytes_never_panic(
        shard in shards(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = shard.encode().unwrap();
        let at = at.index(bytes.len());
        prop_assert!(Shard::decode(&bytes[..at]).is_err());
        bytes[at] = byte;
        if let Ok(shard) = Shard::decode(&bytes) {
            prop_assert_eq!(shard.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn no_input_panics(bytes: Vec<u8>) {
        drop(Shard::decode(&bytes));
    }
}

#[test]
fn a_pack_must_be_long_enough_for_its_segments() {
    let whole = pack(1, 0..10);
    let least = 56 + whole.directory.box_bytes() + 17 + 16;
    let shard = |stored_bytes| Shard {
        replaces: Vec::new(),
        packs: vec![PackEntry { stored_bytes, ..whole.clone() }],
    };
    let bytes = shard(least).encode().unwrap();
    assert!(Shard::decode(&bytes).is_ok());
    assert!(shard(least - 1).encode().is_err());
    // The size stands after the counts, id, salt and kind, as a varint of two bytes.
    let mut bytes = bytes;
    bytes[2 + 32 + 32 + 1] -= 1;
    assert_eq!(Shard::decode(&bytes).unwrap_err().reason, "segments beyond their pack's end");
}
