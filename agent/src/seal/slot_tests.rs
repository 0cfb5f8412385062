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

#[test]
fn a_hostile_cost_is_refused_before_memory_is_touched() {
    let mut stored = slot(&passphrase("x"), Purpose::Passphrase).encode();
    stored[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    let end = stored.len() - CHECKSUM_BYTES;
    let honest = checksum(&stored[..end]);
    stored[end..].copy_from_slice(&honest);
    assert!(Slot::parse(&stored).unwrap_err().to_string().contains("Argon2"));
}
