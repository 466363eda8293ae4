//! libcontainer's processes tell each other only the outermost error; what went wrong at heart is in its
//! error-level log events. They are caught here, over a pipe because they come from forked processes too.

use std::fmt::Write as _;
use std::io::{PipeReader, Read, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The receiving end.
pub struct Complaints(PipeReader);

/// Starts catching. `None`: no pipe; errors are less detailed then.
pub fn catch() -> Option<Complaints> {
    let (read, write) = std::io::pipe().ok()?;
    // Never to wait: a full pipe has told enough, an empty one has nothing.
    rustix::io::ioctl_fionbio(&read, true).ok()?;
    rustix::io::ioctl_fionbio(&write, true).ok()?;
    tracing::subscriber::set_global_default(Catcher(write)).ok()?;
    Some(Complaints(read))
}

impl Complaints {
    /// The first complaint, which is the innermost.
    pub fn first(mut self) -> Option<String> {
        let mut bytes = vec![0; 4096];
        let n = self.0.read(&mut bytes).ok()?;
        String::from_utf8_lossy(&bytes[..n]).lines().next().map(str::to_owned)
    }
}

struct Catcher(std::io::PipeWriter);

impl Subscriber for Catcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace('\n', " ");
        let _ = (&self.0).write_all(format!("{}\n", text.trim_end()).as_bytes());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }
}
