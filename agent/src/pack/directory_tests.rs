//! Directories survive being written and read; whatever breaks a limit of the format is refused on both ways.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A directory within all limits.
pub(crate) fn directories() -> impl Strategy<Value = Directory> {
    let chunk = (any::<[u8; 16]>(), 1..100_000_u32)
        .prop_map(|(id, length)| DirectoryChunk { id: ChunkId::from_bytes(id), length });
    let segment = (vec(chunk, 1..6), any::<bool>(), any::<u32>());
    vec(segment, 0..6).prop_map(|segments| {
        let build = |(number, (chunks, is_raw, zstd_bytes)): (u32, (Vec<DirectoryChunk>, bool, u32))| {
            let plain_bytes: u32 = chunks.iter().map(|chunk| chunk.length).sum();
            let (codec, box_bytes) = if is_raw || plain_bytes < 2 {
                (Codec::Raw, plain_bytes + 16)
            } else {
                (Codec::Zstd, 17 + zstd_bytes % (plain_bytes - 1))
            };
            // Distinct, in no order.
            let number = number.wrapping_mul(0x9e37_79b1) >> 1;
            Segment { number, box_bytes, plain_bytes, codec, chunks }
        };
        Directory { segments: (0..).zip(segments).map(build).collect() }
    })
}

fn segment(lengths: &[u32]) -> Segment {
    let chunk = |(n, length): (usize, &u32)| DirectoryChunk {
        id: ChunkId::from_bytes([n as u8; 16]),
        length: *length,
    };
    let chunks = lengths.iter().enumerate().map(chunk).collect();
    let plain_bytes = lengths.iter().sum();
    Segment { number: 0, box_bytes: 15 + plain_bytes, plain_bytes, codec: Codec::Zstd, chunks }
}

fn refusal(segments: Vec<Segment>) -> &'static str {
    Directory { segments }.encode().unwrap_err().reason
}

proptest! {
    #[test]
    fn round_trips(directory in directories()) {
        let bytes = directory.encode().unwrap();
        prop_assert!(bytes.len() <= directory.encoded_bytes_max());
        prop_assert_eq!(Directory::decode(&bytes).unwrap(), directory);
    }

    #[test]
    fn no_input_panics_and_what_is_accepted_is_canonical(bytes: Vec<u8>) {
        if let Ok(directory) = Directory::decode(&bytes) {
            prop_assert_eq!(directory.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn changed_bytes_never_panic(directory in directories(), at: prop::sample::Index, byte: u8) {
        let mut bytes = directory.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(directory) = Directory::decode(&bytes) {
            prop_assert_eq!(directory.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn every_cut_is_refused(directory in directories(), at: prop::sample::Index) {
        let bytes = directory.encode().unwrap();
        prop_assert!(Directory::decode(&bytes[..at.index(bytes.len())]).is_err());
    }
}

#[test]
fn limits_hold_when_writing() {
    let good = segment(&[1, 2]);
    assert_eq!(refusal(vec![good.clone(), good.clone()]), "a segment number occurs twice");
    assert_eq!(refusal(vec![Segment { number: u32::MAX, ..good.clone() }]), "segment number over the limit");
    assert_eq!(
        refusal(vec![Segment { plain_bytes: 4, ..good.clone() }]),
        "chunks do not sum to their segment"
    );
    assert_eq!(
        refusal(vec![Segment { box_bytes: 16, ..good.clone() }]),
        "box length does not fit its segment"
    );
    for box_bytes in [19, 20, 1000] {
        let longer = Segment { box_bytes, ..good.clone() };
        assert_eq!(refusal(vec![longer]), "box length does not fit its segment");
    }
    assert_eq!(refusal(vec![Segment { codec: Codec::Raw, ..good }]), "box length does not fit its segment");
    assert_eq!(refusal(vec![segment(&[])]), "segment without chunks");
    assert_eq!(refusal(vec![segment(&[1, 0])]), "empty chunk");
    let most = SEGMENT_PLAIN_BYTES_MAX / 2;
    assert_eq!(refusal(vec![segment(&[most, most, 1])]), "segment over 16 MiB");
    assert_eq!(refusal(vec![segment(&[most + 1])]), "chunk over 8 MiB");
    assert!(Directory { segments: vec![segment(&[most, most])] }.encode().is_ok());
}

#[test]
fn limits_hold_when_reading() {
    let good = Directory { segments: vec![segment(&[3, 4])] };
    let bytes = good.encode().unwrap();
    // segments, number, box, plain, codec, chunks
    assert_eq!(bytes[..6], [1, 0, 22, 7, 1, 2]);
    let refused = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Directory::decode(&bytes).unwrap_err().reason
    };
    assert_eq!(refused(0, 2), "count larger than what follows");
    assert_eq!(refused(2, 16), "box length does not fit its segment");
    assert_eq!(refused(2, 23), "box length does not fit its segment");
    assert_eq!(refused(3, 8), "chunks do not sum to their segment");
    assert_eq!(refused(4, 2), "unknown codec");
    assert_eq!(refused(5, 0), "segment without chunks");
    assert_eq!(refused(5, 1), "chunks do not sum to their segment");
    let mut trailing = bytes.clone();
    trailing.push(0);
    assert_eq!(Directory::decode(&trailing).unwrap_err().reason, "trailing bytes");
}

#[test]
fn segments_lie_back_to_back() {
    let segments = (0..3).map(|number| Segment { number, ..segment(&[9]) }).collect();
    let directory = Directory { segments };
    assert_eq!(directory.segment_offsets().collect::<Vec<_>>(), [56, 80, 104]);
    assert_eq!(directory.box_bytes(), 72);
    assert_eq!(directory.plain_bytes(), 27);
    assert_eq!(directory.chunk_count(), 3);
}

#[test]
fn codes_are_frozen() {
    assert_eq!((Codec::Raw.code(), Codec::Zstd.code()), (0, 1));
    assert_eq!((PackKind::Data.code(), PackKind::Metadata.code()), (1, 2));
    for code in 0..=u8::MAX {
        assert_eq!(Codec::try_from(code).map(Codec::code).ok(), (code < 2).then_some(code));
        assert_eq!(PackKind::try_from(code).map(PackKind::code).ok(), [1, 2].contains(&code).then_some(code));
    }
}
