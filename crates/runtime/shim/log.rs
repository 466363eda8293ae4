//! Container logs in the CRI format: `TIME STREAM TAG TEXT`, one entry a line; TAG is P for a part of a
//! line that goes on, F for its end.

use std::fs::{File, OpenOptions};
use std::io::Write;

use crate::sys;

/// A longer line is cut into parts of this size, as containerd does.
const MAX_LINE: usize = 16 << 10;

/// The log file of one container, shared by its streams.
pub struct Log {
    path: String,
    file: Option<File>,
}

impl Log {
    pub fn open(path: &str) -> std::io::Result<Log> {
        let mut log = Log { path: path.to_owned(), file: None };
        log.reopen()?;
        Ok(log)
    }

    /// After rotation: the path is opened anew.
    pub fn reopen(&mut self) -> std::io::Result<()> {
        if !self.path.is_empty() {
            use std::os::unix::fs::OpenOptionsExt;
            self.file = Some(OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            // A full disk loses log lines, not the container.
            let _ = file.write_all(bytes);
        }
    }
}

/// What a stream has seen of a line that is not complete.
#[derive(Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Writes all lines that `bytes` completes.
    pub fn push(&mut self, log: &mut Log, stream: &str, mut bytes: &[u8]) {
        if log.file.is_none() {
            return;
        }
        let mut out = Vec::with_capacity(bytes.len() + 128);
        let time = timestamp(sys::now());
        let mut entry = |tag: u8, parts: [&[u8]; 2]| write_entry(&mut out, &time, stream, tag, parts);
        loop {
            let room = MAX_LINE - self.begun.len();
            match bytes.iter().take(room + 1).position(|b| *b == b'\n') {
                Some(end) => {
                    entry(b'F', [&self.begun, &bytes[..end]]);
                    self.begun = Vec::new();
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() > room => {
                    entry(b'P', [&self.begun, &bytes[..room]]);
                    self.begun = Vec::new();
                    bytes = &bytes[room..];
                }
                None => break,
            }
        }
        self.begun.extend_from_slice(bytes);
        if !out.is_empty() {
            log.write(&out);
        }
    }

    /// The stream has ended: what is left is a line that nobody has completed, and readers must not either.
    pub fn end(&mut self, log: &mut Log, stream: &str) {
        if !self.begun.is_empty() {
            let mut out = Vec::with_capacity(self.begun.len() + 64);
            write_entry(&mut out, &timestamp(sys::now()), stream, b'P', [&self.begun, b""]);
            self.begun = Vec::new();
            log.write(&out);
        }
    }
}

fn write_entry(out: &mut Vec<u8>, time: &str, stream: &str, tag: u8, parts: [&[u8]; 2]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(&[b' ', tag, b' ']);
    out.extend_from_slice(parts[0]);
    out.extend_from_slice(parts[1]);
    out.push(b'\n');
}

/// RFC 3339 with nanoseconds, UTC.
fn timestamp((seconds, nanos): (i64, i64)) -> String {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    // Days to civil date, proleptic Gregorian, years counted from March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
