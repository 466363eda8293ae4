//! SPDY/3.1 frames, as far as kubectl's client library (moby/spdystream) speaks them: no flow control.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// Header blocks larger than this are no request of ours.
const MAX_HEADERS: usize = 64 << 10;
const MAX_FRAME: usize = 1 << 20;

/// What the other side says.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Open {
        stream: u32,
        headers: BTreeMap<String, String>,
        fin: bool,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Something that needs no answer.
    Other,
}

#[derive(Debug, thiserror::Error)]
#[error("spdy: {0}")]
pub struct FrameError(&'static str);

/// Takes frames out of bytes; header compression goes on through a connection.
pub struct Reader {
    inflate: Decompress,
}

/// Makes frames.
pub struct Writer {
    deflate: Compress,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { inflate: Decompress::new(true) }
    }

    /// The next whole frame, if there is one.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if input.len() < 8 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, input[5], input[6], input[7]]) as usize;
        if length > MAX_FRAME {
            return Err(FrameError("a frame is too large"));
        }
        if input.len() < 8 + length {
            return Ok(None);
        }
        let mut frame = input.split_to(8 + length).freeze();
        let (word, flags) = (frame.get_u32(), (frame.get_u32() >> 24) as u8);
        let fin = flags & 1 != 0;
        if word & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { stream: word, bytes: frame, fin }));
        }
        let needs = |n: usize, frame: &Bytes| {
            if frame.len() < n { Err(FrameError("a frame is too short")) } else { Ok(()) }
        };
        Ok(Some(match word & 0xffff {
            1 => {
                needs(10, &frame)?;
                let stream = frame.get_u32() & 0x7fff_ffff;
                frame.advance(6);
                Frame::Open { stream, headers: self.headers(&frame)?, fin }
            }
            3 => {
                needs(4, &frame)?;
                Frame::Reset { stream: frame.get_u32() & 0x7fff_ffff }
            }
            6 => {
                needs(4, &frame)?;
                Frame::Ping { id: frame.get_u32() }
            }
            7 => Frame::GoAway,
            // SYN_REPLY and HEADERS: nothing in them matters, but the compression goes through them.
            2 | 8 => {
                needs(4, &frame)?;
                frame.advance(4);
                self.headers(&frame)?;
                Frame::Other
            }
            _ => Frame::Other,
        }))
    }

    fn headers(&mut self, block: &[u8]) -> Result<BTreeMap<String, String>, FrameError> {
        let plain = self.inflate(block)?;
        let mut plain = plain.as_slice();
        let mut all = BTreeMap::new();
        let count = take_u32(&mut plain)?;
        for _ in 0..count {
            let mut text = || {
                let length = take_u32(&mut plain)? as usize;
                let bytes = plain.get(..length).ok_or(FrameError("a header block is too short"))?;
                plain = &plain[length..];
                Ok::<_, FrameError>(String::from_utf8_lossy(bytes).into_owned())
            };
            let (name, value) = (text()?, text()?);
            all.insert(name.to_lowercase(), value);
        }
        Ok(all)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let eaten = usize::try_from(self.inflate.total_in() - before_in).unwrap_or(block.len());
            block = &block[eaten.min(block.len())..];
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(&dictionary())
                        .map_err(|_| FrameError("header compression"))?;
                }
                Err(_) => return Err(FrameError("header compression")),
                Ok(Status::StreamEnd) => return Ok(plain),
                Ok(_) if block.is_empty() && plain.len() < plain.capacity() => return Ok(plain),
                Ok(_)
                    if eaten == 0
                        && self.inflate.total_out() == before_out
                        && plain.len() < plain.capacity() =>
                {
                    return Ok(plain);
                }
                Ok(_) => plain.reserve(4096),
            }
            if plain.len() > MAX_HEADERS {
                return Err(FrameError("headers are too large"));
            }
        }
    }
}

fn take_u32(from: &mut &[u8]) -> Result<u32, FrameError> {
    let (head, rest) = from.split_first_chunk::<4>().ok_or(FrameError("a header block is too short"))?;
    *from = rest;
    Ok(u32::from_be_bytes(*head))
}

impl Writer {
    pub fn new() -> Writer {
        let mut deflate = Compress::new(Compression::fast(), true);
        // The dictionary is a constant that zlib takes before anything is compressed.
        let _ = deflate.set_dictionary(&dictionary());
        Writer { deflate }
    }

    /// Accepts a stream: SYN_REPLY without headers.
    pub fn reply(&mut self, stream: u32) -> Bytes {
        let block = self.deflate(&0u32.to_be_bytes());
        control(2, 0, &[&stream.to_be_bytes(), &block])
    }

    /// A request for a stream, as a client makes it.
    #[cfg(test)]
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let block = self.deflate(&plain);
        control(1, 0, &[&stream.to_be_bytes(), &[0; 6], &block])
    }

    fn deflate(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 256);
        let _ = self.deflate.compress_vec(plain, &mut block, FlushCompress::Sync);
        block
    }
}

/// Data, and with `fin` the end of our side of the stream.
pub fn data(stream: u32, bytes: &[u8], fin: bool) -> Bytes {
    let mut frame = Vec::with_capacity(bytes.len() + 8);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&(u32::from(fin) << 24 | bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame.into()
}

pub fn ping(id: u32) -> Bytes {
    control(6, 0, &[&id.to_be_bytes()])
}

pub fn go_away(last: u32) -> Bytes {
    control(7, 0, &[&last.to_be_bytes(), &[0; 4]])
}

fn control(kind: u16, flags: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(length + 8);
    frame.extend_from_slice(&[0x80, 3]);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&(u32::from(flags) << 24 | length as u32).to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_through() {
        let (mut writer, mut reader) = (Writer::new(), Reader::new());
        let mut wire = BytesMut::new();
        for stream in [1, 3, 5] {
            wire.extend_from_slice(&writer.open(stream, &[("streamType", "stdin"), ("requestid", "7")]));
        }
        wire.extend_from_slice(&writer.reply(2));
        wire.extend_from_slice(&data(1, b"hello", true));
        wire.extend_from_slice(&ping(9));
        wire.extend_from_slice(&go_away(0));
        let whole = wire.clone();
        for stream in [1, 3, 5] {
            let headers = BTreeMap::from([
                ("streamtype".to_owned(), "stdin".to_owned()),
                ("requestid".into(), "7".into()),
            ]);
            assert_eq!(reader.next(&mut wire).unwrap(), Some(Frame::Open { stream, headers, fin: false }));
        }
        assert_eq!(reader.next(&mut wire).unwrap(), Some(Frame::Other));
        assert_eq!(
            reader.next(&mut wire).unwrap(),
            Some(Frame::Data { stream: 1, bytes: Bytes::from("hello"), fin: true })
        );
        assert_eq!(reader.next(&mut wire).unwrap(), Some(Frame::Ping { id: 9 }));
        assert_eq!(reader.next(&mut wire).unwrap(), Some(Frame::GoAway));
        assert_eq!(reader.next(&mut wire).unwrap(), None);
        // Every beginning is only not yet a frame, every damage an error, never a panic.
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            let mut reader = Reader::new();
            while let Ok(Some(_)) = reader.next(&mut part) {}
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0xff;
            let mut reader = Reader::new();
            while let Ok(Some(_)) = reader.next(&mut bad) {}
        }
    }

    #[test]
    fn the_dictionary_is_the_one() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    }
}
