//! What can go wrong, in kubectl's words.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's own answer: a Status.
    #[error("Error from server ({reason}): {message}")]
    Server { reason: String, message: String, code: u16 },
    #[error("error: {0}")]
    Usage(String),
    #[error("error: the server doesn't have a resource type \"{0}\"")]
    NoSuchResource(String),
    #[error(
        "error: cannot use the kubeconfig: {0}\nhint: is the cluster running? `r8s server` says where its kubeconfig is; name it with --kubeconfig or KUBECONFIG"
    )]
    Kubeconfig(String),
    #[error("error: cannot reach the server: {0}\nhint: is the cluster running? start it with `r8s server`")]
    Unreachable(String),
    #[error("error: {path}: {why}")]
    Manifest { path: String, why: String },
    #[error("error: timed out waiting for the condition on {0}")]
    TimedOut(String),
    #[error("error: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Server { code: 404, .. })
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Error::Server { reason: status.reason, message: status.message, code: status.code }
            }
            kube::Error::HyperError(e) => Error::Unreachable(e.to_string()),
            kube::Error::Service(e) => Error::Unreachable(chain(&*e)),
            other => Error::Unreachable(chain(&other)),
        }
    }
}

/// An error with its causes, colon by colon.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
