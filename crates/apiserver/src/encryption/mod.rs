//! Encryption at rest: what is kept of an object in the store, in upstream's envelopes, so that an etcd written by
//! kube-apiserver can be read and taken over.
//! <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>
//!
//! [`Encryption`] stands where bytes go to the store and come from it; the caches hold plain bytes. Without a
//! configuration there is none of it.

mod config;
mod envelope;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use self::config::Rules;
pub use self::envelope::Failed;
use crate::kinds::HomeName;

/// The configuration now in force.
pub struct Encryption(RwLock<Arc<Rules>>);

impl Encryption {
    /// Reads an `EncryptionConfiguration`; every error names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("--encryption-provider-config {}: {e}", path.display()))?;
        let rules = Rules::parse(&text)
            .map_err(|e| format!("--encryption-provider-config {}: {e}", path.display()))?;
        Ok(Self(RwLock::new(Arc::new(rules))))
    }

    /// Works by another configuration from now on.
    pub fn replace(&self, text: &str) -> Result<(), String> {
        *self.0.write() = Arc::new(Rules::parse(text)?);
        Ok(())
    }

    /// What is stored for `plain` under a key of the store.
    pub fn seal(&self, home: &HomeName, key: &str, plain: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        let rules = self.0.read().clone();
        match rules.of(home) {
            Some(providers) => providers.seal(key.as_bytes(), plain).map(Some),
            None => Ok(None),
        }
    }

    /// The plain bytes of what is stored under a key, and whether it would be stored differently today.
    pub fn open<'a>(
        &self,
        home: &HomeName,
        key: &str,
        stored: &'a [u8],
    ) -> Result<(Cow<'a, [u8]>, bool), Failed> {
        let rules = self.0.read().clone();
        match rules.of(home) {
            Some(providers) => providers.open(key.as_bytes(), stored),
            None => envelope::identity(stored).map(|plain| (Cow::Borrowed(plain), false)),
        }
    }
}

/// Why an envelope can't be opened where nothing is configured.
pub fn refuse_sealed() -> Result<(), Failed> {
    Err(Failed("identity transformer tried to read encrypted data".to_owned()))
}

/// Is it one of the envelopes?
pub fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(b"k8s:enc:")
}
