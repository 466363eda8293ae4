//! The envelopes: a prefix that names provider and key, then what the cipher made.

use std::borrow::Cow;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{AesGcm, Nonce};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;
use ring::rand::{SecureRandom, SystemRandom};

/// Why bytes can't be sealed or opened, in upstream's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

fn failed<T>(why: &str) -> Result<T, Failed> {
    Err(Failed(why.to_owned()))
}

const SHORT: &str = "the stored data was shorter than the required size";
const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    AesCbc,
    AesGcm,
    SecretBox,
}

impl Cipher {
    pub fn name(self) -> &'static str {
        match self {
            Cipher::AesCbc => "aescbc",
            Cipher::AesGcm => "aesgcm",
            Cipher::SecretBox => "secretbox",
        }
    }

    /// Lengths that keys may have, in bytes.
    pub fn key_lengths(self) -> &'static [usize] {
        match self {
            Cipher::SecretBox => &[32],
            _ => &[16, 24, 32],
        }
    }
}

/// A named key of a cipher.
#[derive(Clone)]
pub struct Key {
    pub name: String,
    pub secret: Vec<u8>,
}

#[derive(Clone)]
pub enum Provider {
    Identity,
    Keys { cipher: Cipher, keys: Vec<Key> },
}

/// The providers of a resource: the first seals, all open.
pub struct Providers(pub Vec<Provider>);

impl Providers {
    pub fn seal(&self, about: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
        match self.0.first() {
            Some(Provider::Keys { cipher, keys }) => {
                let Some(key) = keys.first() else { return failed("there is no key") };
                let mut out = format!("k8s:enc:{}:v1:{}:", cipher.name(), key.name).into_bytes();
                out.extend(cipher.seal(&key.secret, about, plain)?);
                Ok(out)
            }
            Some(Provider::Identity) | None => Ok(plain.to_vec()),
        }
    }

    /// The plain bytes, and whether anything but the first key of the first provider opened them.
    pub fn open<'a>(&self, about: &[u8], stored: &'a [u8]) -> Result<(Cow<'a, [u8]>, bool), Failed> {
        let mut errors = Vec::new();
        for (n, provider) in self.0.iter().enumerate() {
            match provider {
                Provider::Identity => {
                    if let Ok(plain) = identity(stored) {
                        return Ok((Cow::Borrowed(plain), n > 0));
                    }
                }
                Provider::Keys { cipher, keys } => {
                    let prefix = format!("k8s:enc:{}:v1:", cipher.name());
                    let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else { continue };
                    match cipher.open_by(keys, about, rest) {
                        Ok((plain, first)) => return Ok((Cow::Owned(plain), n > 0 || !first)),
                        Err(error) => errors.push(error.0),
                    }
                }
            }
        }
        match errors.is_empty() {
            true => failed("no matching prefix found"),
            false => Err(Failed(crate::authz::aggregate(&errors))),
        }
    }
}

/// Bytes that no provider has touched.
pub fn identity(stored: &[u8]) -> Result<&[u8], Failed> {
    if super::is_sealed(stored) {
        return failed("identity transformer tried to read encrypted data");
    }
    Ok(stored)
}

fn random<const N: usize>() -> Result<[u8; N], Failed> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).map_err(|_| Failed("no randomness".to_owned()))?;
    Ok(out)
}

impl Cipher {
    /// Opens with the key that the text names; the flag says whether that is the first.
    fn open_by(self, keys: &[Key], about: &[u8], rest: &[u8]) -> Result<(Vec<u8>, bool), Failed> {
        let mut last = None;
        for (n, key) in keys.iter().enumerate() {
            let named = rest.strip_prefix(key.name.as_bytes()).and_then(|r| r.strip_prefix(b":"));
            let Some(sealed) = named else { continue };
            match self.open(&key.secret, about, sealed) {
                Ok(plain) => return Ok((plain, n == 0)),
                Err(error) => last = Some(error),
            }
        }
        let kind = if self == Cipher::SecretBox { "Secretbox" } else { "AES" };
        Err(last.unwrap_or_else(|| {
            Failed(format!("no matching key was found for the provided {kind} transformer"))
        }))
    }

    fn seal(self, key: &[u8], about: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
        match self {
            Cipher::AesCbc => {
                let iv = random::<BLOCK>()?;
                let mut out = iv.to_vec();
                out.extend(cbc_seal(key, &iv, plain)?);
                Ok(out)
            }
            Cipher::AesGcm => {
                let nonce = random::<GCM_NONCE>()?;
                let mut out = nonce.to_vec();
                out.extend(gcm(key, &nonce, Payload { msg: plain, aad: about }, true)?);
                Ok(out)
            }
            Cipher::SecretBox => {
                let nonce = random::<BOX_NONCE>()?;
                let cipher = XSalsa20Poly1305::new_from_slice(key).or_else(|_| failed("bad key length"))?;
                let sealed = cipher.encrypt((&nonce).into(), plain).or_else(|_| failed("can't encrypt"))?;
                let mut out = nonce.to_vec();
                out.extend(sealed);
                Ok(out)
            }
        }
    }

    fn open(self, key: &[u8], about: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Failed> {
        match self {
            Cipher::AesCbc => {
                let Some((iv, rest)) = sealed.split_at_checked(BLOCK) else { return failed(SHORT) };
                if rest.len() % BLOCK != 0 {
                    return failed("the stored data is not a multiple of the block size");
                }
                cbc_open(key, iv, rest)
            }
            Cipher::AesGcm => {
                let Some((nonce, rest)) = sealed.split_at_checked(GCM_NONCE) else { return failed(SHORT) };
                gcm(key, nonce, Payload { msg: rest, aad: about }, false)
            }
            Cipher::SecretBox => {
                let Some((nonce, rest)) = sealed.split_at_checked(BOX_NONCE) else { return failed(SHORT) };
                let cipher = XSalsa20Poly1305::new_from_slice(key).or_else(|_| failed("bad key length"))?;
                cipher
                    .decrypt(nonce.into(), rest)
                    .or_else(|_| failed("secretbox: message authentication failed"))
            }
        }
    }
}

fn cbc_seal(key: &[u8], iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
    let bad = "bad key length";
    Ok(match key.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
        24 => cbc::Encryptor::<Aes192>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
        32 => cbc::Encryptor::<Aes256>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .encrypt_padded_vec_mut::<Pkcs7>(plain),
        _ => return failed(bad),
    })
}

fn cbc_open(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Failed> {
    let (bad, padding) = ("bad key length", "invalid padding on input");
    match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .or_else(|_| failed(padding)),
        24 => cbc::Decryptor::<Aes192>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .or_else(|_| failed(padding)),
        32 => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .or_else(|_| failed(bad))?
            .decrypt_padded_vec_mut::<Pkcs7>(sealed)
            .or_else(|_| failed(padding)),
        _ => failed(bad),
    }
}

fn gcm(key: &[u8], nonce: &[u8], payload: Payload, seal: bool) -> Result<Vec<u8>, Failed> {
    fn with<C: Aead<NonceSize = U12> + KeyInit>(
        key: &[u8],
        nonce: &[u8],
        payload: Payload,
        seal: bool,
    ) -> Result<Vec<u8>, Failed> {
        let cipher = C::new_from_slice(key).or_else(|_| failed("bad key length"))?;
        let nonce = Nonce::from_slice(nonce);
        let done = if seal { cipher.encrypt(nonce, payload) } else { cipher.decrypt(nonce, payload) };
        done.or_else(|_| failed("cipher: message authentication failed"))
    }
    match key.len() {
        16 => with::<AesGcm<Aes128, U12>>(key, nonce, payload, seal),
        24 => with::<AesGcm<Aes192, U12>>(key, nonce, payload, seal),
        32 => with::<AesGcm<Aes256, U12>>(key, nonce, payload, seal),
        _ => failed("bad key length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(cipher: Cipher, names: &[&str], length: usize) -> Provider {
        let keys = names
            .iter()
            .map(|n| Key { name: (*n).to_owned(), secret: vec![n.len() as u8; length] })
            .collect();
        Provider::Keys { cipher, keys }
    }

    #[test]
    fn what_is_sealed_opens_with_every_cipher_and_key() {
        for cipher in [Cipher::AesCbc, Cipher::AesGcm, Cipher::SecretBox] {
            for length in cipher.key_lengths() {
                let providers = Providers(vec![provider(cipher, &["k1"], *length)]);
                for plain in [&b""[..], b"short", &[7; 4096]] {
                    let sealed = providers.seal(b"/registry/secrets/a/b", plain).unwrap();
                    let head = format!("k8s:enc:{}:v1:k1:", cipher.name());
                    assert!(sealed.starts_with(head.as_bytes()));
                    let (opened, stale) = providers.open(b"/registry/secrets/a/b", &sealed).unwrap();
                    assert_eq!((&*opened, stale), (plain, false));
                }
                for bad in [&b""[..], b"k8s:enc:aescbc:v1:k1:", b"k8s:enc:aesgcm:v1:k1:xxxxxxxxxxxxxxxxxxxxx"]
                {
                    let _ = providers.open(b"", bad).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn gcm_is_bound_to_its_key_of_the_store() {
        let providers = Providers(vec![provider(Cipher::AesGcm, &["k"], 32)]);
        let sealed = providers.seal(b"/a", b"x").unwrap();
        assert!(providers.open(b"/b", &sealed).is_err());
    }

    #[test]
    fn rotation_reads_the_old_and_says_so() {
        let old = Providers(vec![provider(Cipher::AesCbc, &["k1"], 32)]);
        let sealed = old.seal(b"/a", b"x").unwrap();
        let new = Providers(vec![provider(Cipher::AesCbc, &["new", "k1"], 32), Provider::Identity]);
        let (plain, stale) = new.open(b"/a", &sealed).unwrap();
        assert_eq!((&*plain, stale), (&b"x"[..], true));
        assert_eq!(new.open(b"/a", b"plain").unwrap().1, true);
        let decrypting = Providers(vec![Provider::Identity, provider(Cipher::AesCbc, &["k1"], 32)]);
        assert_eq!(decrypting.open(b"/a", &sealed).unwrap().1, true);
        assert_eq!(decrypting.open(b"/a", b"plain").unwrap().1, false);
        let without = Providers(vec![provider(Cipher::AesCbc, &["other"], 32)]);
        let why = without.open(b"/a", &sealed).unwrap_err().0;
        assert_eq!(why, "no matching key was found for the provided AES transformer");
        assert_eq!(without.open(b"/a", b"plain").unwrap_err().0, "no matching prefix found");
    }

    #[test]
    fn opens_what_upstream_sealed() {
        use base64::Engine;
        let text = include_str!("envelopes.txt");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let [cipher, name, secret, about, sealed] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let decode = |t: &str| base64::engine::general_purpose::STANDARD.decode(t).unwrap();
            let cipher = match cipher {
                "aescbc" => Cipher::AesCbc,
                "aesgcm" => Cipher::AesGcm,
                _ => Cipher::SecretBox,
            };
            let key = Key { name: name.to_owned(), secret: decode(secret) };
            let providers = Providers(vec![Provider::Keys { cipher, keys: vec![key] }]);
            let sealed = decode(sealed);
            let (plain, _) = providers.open(about.as_bytes(), &sealed).unwrap();
            assert!(plain.starts_with(b"k8s\0"), "{cipher:?}");
        }
    }
}
