//! Files that are read again when they change: the client CA, and the configurations of authentication, authorization and
//! encryption. The kernel tells of changes; nothing happens between them. A file that is wrong changes nothing.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::server::Core;

/// Writers replace a file in several steps: what comes within this time is one change.
const SETTLE: Duration = Duration::from_millis(100);

struct File {
    path: PathBuf,
    flag: &'static str,
    last: String,
    apply: fn(&Core, &str) -> Result<(), String>,
}

/// Follows the files of this server until it ends, if there are any.
pub fn start(core: &Arc<Core>) {
    let files = files(core);
    if files.is_empty() {
        return;
    }
    let core = core.clone();
    let shutdown = core.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            done = follow(&core, files) => {
                if let Err(error) = done {
                    tracing::error!(%error, "configuration files are not followed any more");
                }
            }
        }
    });
}

fn files(core: &Core) -> Vec<File> {
    let access = &core.config.access;
    let mut out = Vec::new();
    let mut add = |path: &Option<PathBuf>, flag, apply| {
        if let Some(path) = path {
            let last = std::fs::read_to_string(path).unwrap_or_default();
            out.push(File { path: path.clone(), flag, last, apply });
        }
    };
    add(&access.client_ca_file, "client-ca-file", |core, text| {
        let own = core.config.access.client_ca_base.as_deref().unwrap_or_default();
        core.authn.authorities.replace_clients(&format!("{own}\n{text}"))
    });
    add(&access.authentication_config, "authentication-config", |core, text| {
        core.authn.sources.reread(text, &core.config.issuers)
    });
    add(&access.authorization_config, "authorization-config", |core, text| core.authz.reread(text));
    let encryption = access.encryption_config.clone().filter(|_| access.encryption_reload);
    add(&encryption, "encryption-provider-config", |core, text| {
        if let Some(encryption) = &core.encryption {
            encryption.replace(text)?;
        }
        // what could not be read may be readable now
        for home in core.kinds.now().homes().filter(|h| h.why_unreadable("", "").is_some()) {
            let (done, _) = tokio::sync::oneshot::channel();
            let _ = core.loads.try_send((home.clone(), done));
        }
        Ok(())
    });
    out
}

async fn follow(core: &Core, mut files: Vec<File>) -> io::Result<()> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags)?;
    for file in &files {
        // the directory, not the file: files are replaced by others of the same name, or links by other links
        let dir = file.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let changes = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE;
        inotify::add_watch(&fd, dir, changes)?;
    }
    // its newer kin is unsafe for the sake of types that may close their descriptor early; an `OwnedFd` does not
    #[allow(deprecated)]
    let fd = AsyncFd::new(fd)?;
    loop {
        let mut ready = fd.readable().await?;
        tokio::time::sleep(SETTLE).await;
        drain(fd.get_ref());
        ready.clear_ready();
        for file in &mut files {
            check(core, file);
        }
    }
}

/// Takes all that was told; what it was does not matter.
fn drain(fd: &OwnedFd) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    while reader.next().is_ok() {}
}

fn check(core: &Core, file: &mut File) {
    let Ok(text) = std::fs::read_to_string(&file.path) else { return };
    if text == file.last {
        return;
    }
    match (file.apply)(core, &text) {
        Ok(()) => tracing::info!(flag = file.flag, file = %file.path.display(), "read again"),
        Err(error) => {
            tracing::error!(flag = file.flag, file = %file.path.display(), %error, "not taken; the old one stays");
        }
    }
    file.last = text;
}
