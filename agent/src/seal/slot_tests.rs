//! Slots open with their secret and with nothing else, and bear any damage.

use super::*;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

fn passphrase(text: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(text.to_owned()))
}

fn slot(secret: &Secret, purpose: Purpose) -> Slot {
    let master = MasterKey::from_bytes([42; 32]);
    Slot::create(REPOSITORY, &master, secret, purpose, "laptop", 1_700_000_000, Cost::LOWEST).unwrap()
}

#[test]
fn opens_with_its_secret_only() {
    let right = passphrase("correct horse");
    let slot = Slot::parse(&slot(&right, Purpose::Passphrase).encode()).unwrap();
    assert_eq!(slot.unlock(&right).unwrap().as_bytes(), &[42; 32]);
    assert_eq!(slot.unlock(&passphrase("wrong")).unwrap_err().kind(), Kind::WrongKey);
    let key = Secret::Key(SecretKey::from_bytes([1; 32]));
    assert_eq!(slot.unlock(&key).unwrap_err().kind(), Kind::WrongKey);
}

#[test]
fn secret_keys_need_no_argon2() {
    let key = Secret::Key(SecretKey::from_bytes([1; 32]));
    let slot = Slot::parse(&slot(&key, Purpose::Recovery).encode()).unwrap();
    assert_eq!(slot.cost, Cost::NONE);
    assert_eq!(slot.unlock(&key).unwrap().as_bytes(), &[42; 32]);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let secret = Secret::Key(SecretKey::from_bytes([1; 32]));
    let stored = slot(&secret, Purpose::KeyFile).encode();
    for bit in 0..stored.len() * 8 {
        let mut damaged = stored.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let opened = Slot::parse(&damaged).and_then(|slot| slot.unlock(&secret));
        assert!(opened.is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let secret = Secret::Key(SecretKey::from_bytes([1; 32]));
    let stored = slot(&secret, Purpose::KeyFile).encode();
    for len in 0..stored.len() {
        assert!(Slot::parse(&stored[..len]).is_err(), "{len} bytes");
    }
}

/// Also what Argon2 itself would refuse, only later: with a message about the slot, before a secret is asked for.
#[test]
fn a_hostile_cost_is_refused_before_memory_is_touched() {
    let with_cost = |purpose, memory_kib: u32, passes: u32, lanes: u32| {
        let secret = match purpose {
            Purpose::Passphrase => passphrase("x"),
            _ => Secret::Key(SecretKey::from_bytes([1; 32])),
        };
        let mut stored = slot(&secret, purpose).encode();
        for (at, number) in [(40, memory_kib), (44, passes), (48, lanes)] {
            stored[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let end = stored.len() - CHECKSUM_BYTES;
        let honest = checksum(&stored[..end]);
        stored[end..].copy_from_slice(&honest);
        Slot::parse(&stored).map_err(|e| e.to_string())
    };
    let (gib, most) = (1 << 20, u32::MAX);
    for (memory_kib, passes, lanes) in [(8, 1, 1), (gib, 16, 16), (128, 1, 16), (64 << 10, 3, 4)] {
        with_cost(Purpose::Passphrase, memory_kib, passes, lanes).unwrap();
    }
    for (memory_kib, passes, lanes) in [
        (most, 1, 1),
        (gib + 1, 1, 1),
        (gib, 17, 1),
        (gib, 1, 17),
        (7, 1, 1),
        (127, 1, 16),
        (64, 0, 1),
        (64, 1, 0),
        (0, 0, 0),
        (gib, most, most),
    ] {
        let refused = with_cost(Purpose::Passphrase, memory_kib, passes, lanes).unwrap_err();
        assert!(refused.contains("Argon2"), "{memory_kib} {passes} {lanes}: {refused}");
    }
    with_cost(Purpose::KeyFile, 0, 0, 0).unwrap();
    assert!(with_cost(Purpose::KeyFile, 64, 1, 1).is_err());
}

#[test]
fn a_cost_that_no_reader_takes_is_not_written() {
    let master = MasterKey::from_bytes([42; 32]);
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 2 };
    let made = Slot::create(REPOSITORY, &master, &passphrase("x"), Purpose::Passphrase, "", 0, cost);
    assert_eq!(made.unwrap_err().kind(), Kind::Usage);
}
