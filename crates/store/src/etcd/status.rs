//! What a member's refusal means.

use tonic::{Code, Status};

use crate::{Error, Revision};

/// What to do after a failed request.
pub(super) enum Verdict {
    /// The member understood, and this is its answer.
    Answer(Error),
    /// It was certainly not carried out; another member, or this one later, may do it.
    NotDone(String),
    /// It may have been carried out.
    Unknown(String),
}

/// Refusals before anything was proposed to the cluster.
const NOT_DONE: [&str; 4] = ["no leader", "too many requests", "not leader", "learner"];
/// The cluster lost its way while it was working on it.
const UNKNOWN: [&str; 4] = ["timed out", "leader changed", "server stopped", "leadership"];

pub(super) fn judge(status: &Status) -> Verdict {
    let text = status.message();
    let has = |part: &str| text.contains(part);
    if never_sent(status) {
        return Verdict::NotDone(describe(status));
    }
    if has("etcdserver") {
        let answer = match () {
            () if has("has been compacted") => Error::Compacted { requested: 0, compacted: 0 },
            () if has("future revision") => Error::FutureRevision { requested: 0, current: 0 },
            () if has("lease not found") => Error::LeaseNotFound,
            () if has("lease already exists") => Error::LeaseExists,
            () if has("duplicate key") => Error::DuplicateKey,
            () if has("too large") || has("too many operations") => Error::TooLarge(text.to_owned()),
            () if has("space exceeded") || has("cannot write") => Error::Unavailable(text.to_owned()),
            () if NOT_DONE.iter().any(|part| has(part)) => return Verdict::NotDone(text.to_owned()),
            () if UNKNOWN.iter().any(|part| has(part)) => return Verdict::Unknown(text.to_owned()),
            () => Error::Other(text.to_owned()),
        };
        return Verdict::Answer(answer);
    }
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
            Verdict::Answer(Error::Other(describe(status)))
        }
        Code::OutOfRange | Code::ResourceExhausted => Verdict::Answer(Error::TooLarge(describe(status))),
        _ => Verdict::Unknown(describe(status)),
    }
}

/// No connection, no request.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The message with its causes.
pub(super) fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Puts the revision that was asked for into an error that cannot know it.
pub(super) fn about(error: Error, revision: Revision) -> Error {
    match error {
        Error::Compacted { requested: 0, compacted } => Error::Compacted { requested: revision, compacted },
        Error::FutureRevision { requested: 0, current } => {
            Error::FutureRevision { requested: revision, current }
        }
        other => other,
    }
}
