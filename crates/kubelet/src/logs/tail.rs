//! Reading a log from its end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::line::parse;

const BLOCK: u64 = 64 * 1024;

/// The offset where the last `lines` lines of the file begin. Reads backwards in blocks. Counts lines of the file: a
/// container's over-long line counts as often as it was cut.
pub fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut at, mut seen) = (end, 0);
    let mut block = vec![];
    while at > 0 {
        let from = at.saturating_sub(BLOCK);
        block.resize(usize::try_from(at - from).unwrap_or(0), 0);
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let offset = from + i as u64;
            // The newline that ends the file ends the last line; it does not begin another.
            if *byte == b'\n' && offset + 1 != end {
                seen += 1;
                if seen == lines {
                    return Ok(offset + 1);
                }
            }
        }
        at = from;
    }
    Ok(0)
}

/// The text of the last `lines` lines, at most `bytes` of it (its end).
pub fn last_text(path: &Path, lines: u64, bytes: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = tail_offset(&mut file, lines)?;
    file.seek(SeekFrom::Start(from))?;
    let mut raw = vec![];
    file.read_to_end(&mut raw)?;
    let mut out = vec![];
    for line in raw.split_inclusive(|b| *b == b'\n').filter_map(parse) {
        out.extend_from_slice(line.content);
        if !line.partial {
            out.push(b'\n');
        }
    }
    let cut = out.len().saturating_sub(bytes);
    Ok(String::from_utf8_lossy(&out[cut..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tails() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for i in 0..5000 {
            writeln!(file, "2024-01-02T03:04:05Z stdout F line {i}").unwrap();
        }
        let path = file.path().to_owned();
        assert_eq!(last_text(&path, 2, 1000).unwrap(), "line 4998\nline 4999\n");
        assert_eq!(last_text(&path, 2, 5).unwrap(), "4999\n");
        assert_eq!(last_text(&path, 1_000_000, usize::MAX).unwrap().lines().count(), 5000);
        let mut open = File::open(&path).unwrap();
        let end = open.metadata().unwrap().len();
        assert_eq!(tail_offset(&mut open, 0).unwrap(), end);
        assert_eq!(tail_offset(&mut open, 5000).unwrap(), 0);
        assert!(tail_offset(&mut open, 4999).unwrap() > 0);
    }
}
