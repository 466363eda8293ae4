//! Metadata that the server writes: managedFields, names, uids, times.

use jiff::Timestamp;
use machinery::{Status, Value};
use ring::rand::{SecureRandom, SystemRandom};

use super::Call;

/// Records what a create or update by a manager changed.
pub fn on_write(call: &Call, live: Option<&Value>, object: &mut Value, manager: &str) {
    crate::codec::managed_update(call, live, object, manager);
}

/// Server-side apply: the new object, from the live one (null: none) and the applied configuration.
pub fn on_apply(
    call: &Call,
    live: &Value,
    patch: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    crate::codec::managed_apply(call, live, patch, manager, force)
}

/// A write that changes nothing but the times in managedFields changes nothing.
pub fn keep_times_of_no_change(old: &Value, new: &mut Value) {
    crate::codec::keep_times(old, new);
}

/// RFC 3339 in UTC with whole seconds, as `metav1.Time`.
pub fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// A random number in 0.0..1.0.
pub fn random_fraction() -> f64 {
    f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX)
}

pub fn random_u64() -> u64 {
    u64::from_be_bytes(random())
}

/// A version 4 UUID.
pub fn new_uid() -> String {
    let mut b: [u8; 16] = random();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The prefix (cut to 58 bytes) and five letters that spell no words.
pub fn generate_name(prefix: &str) -> String {
    format!("{}{}", &prefix[..prefix.floor_char_boundary(58.min(prefix.len()))], random_suffix(5))
}

pub fn random_suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes: [u8; 16] = random();
    bytes.iter().take(length).map(|b| LETTERS[usize::from(*b) % LETTERS.len()] as char).collect()
}
