//! CBOR (RFC 8949), as upstream's serializer reads and writes it: the self-described tag in front, strings as byte strings,
//! bytes as byte strings that expect base64 (tag 22), map keys in the order of their encoding.
//!
//! [`to_json`] gives JSON text for [`crate::codec::json::Document`]; [`encode`] writes an object.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Number, Value};

use crate::codec::json::encode_any;
use crate::codec::time::{self, Instant, Precision};
use crate::schema::{Schema, Shape};

/// In front of every object.
pub const PREFIX: [u8; 3] = [0xd9, 0xd9, 0xf7];

const MAX_DEPTH: usize = 512;
const BASE64: u64 = 22;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("EOF")]
    Empty,
    #[error("unexpected EOF")]
    Cut,
    #[error("cbor: {left} bytes of extraneous data starting at index {at}")]
    Trailing { left: usize, at: usize },
    #[error("cbor: found duplicate map key {0}")]
    Duplicate(String),
    #[error("cbor: exceeded max nested level {MAX_DEPTH}")]
    TooDeep,
    #[error("cbor: {0}")]
    Invalid(&'static str),
}

/// Reads one data item into JSON text.
pub fn to_json(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let value = decode(bytes)?;
    let mut out = Vec::with_capacity(bytes.len());
    encode_any(&value, &mut out);
    Ok(out)
}

/// Reads one data item into a value, as into Go's `interface{}`.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    let mut reader = Reader { data: bytes, at: 0, depth: 0 };
    let value = reader.item()?.ok_or(Error::Invalid("unexpected \"break\" code"))?;
    match bytes.len() - reader.at {
        0 => Ok(value),
        left => Err(Error::Trailing { left, at: reader.at }),
    }
}

/// Writes an object, the self-described tag in front. Without a type nothing is known to be bytes.
pub fn encode(schema: Option<&Schema>, value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(&PREFIX);
    typed(schema, value, out);
}

/// Writes a watch event: an item of a sequence (RFC 8742).
pub fn encode_event(kind: &str, schema: Option<&Schema>, object: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(&PREFIX);
    head(5, 2, out);
    byte_string(b"type", out);
    byte_string(kind.as_bytes(), out);
    byte_string(b"object", out);
    encode(schema, object, out);
}

fn typed(schema: Option<&Schema>, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(flag) => out.push(if *flag { 0xf5 } else { 0xf4 }),
        Value::Number(number) => number_item(number, out),
        Value::String(text) => {
            let bytes =
                schema.filter(|s| matches!(s.shape(), Shape::Bytes)).and_then(|_| STANDARD.decode(text).ok());
            match bytes {
                Some(bytes) => {
                    head(6, BASE64, out);
                    byte_string(&bytes, out);
                }
                None => byte_string(text.as_bytes(), out),
            }
        }
        Value::Array(items) => {
            let item = schema.and_then(|s| match s.shape() {
                Shape::Either(inner, _) => Some(&**inner),
                _ => s.item(),
            });
            head(4, items.len() as u64, out);
            items.iter().for_each(|value| typed(item, value, out));
        }
        Value::Object(map) => {
            let inner = schema.map(|s| match s.shape() {
                Shape::Either(inner, _) => inner,
                _ => s,
            });
            // in the order of the encoded keys: shorter ones first
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            head(5, entries.len() as u64, out);
            for (key, value) in entries {
                byte_string(key.as_bytes(), out);
                typed(inner.and_then(|s| s.field(key)), value, out);
            }
        }
    }
}

fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..24 => out.push(major | value as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn byte_string(bytes: &[u8], out: &mut Vec<u8>) {
    head(2, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn number_item(number: &Number, out: &mut Vec<u8>) {
    if let Some(n) = number.as_i64() {
        return if n < 0 { head(1, !n as u64, out) } else { head(0, n as u64, out) };
    }
    match (number.as_u64(), number.as_f64()) {
        (Some(n), _) => head(0, n, out),
        (None, float) => float_item(float.unwrap_or_default(), out),
    }
}

/// The shortest form that keeps the value.
fn float_item(float: f64, out: &mut Vec<u8>) {
    let single = float as f32;
    if f64::from(single).to_bits() != float.to_bits() {
        out.push(0xfb);
        out.extend_from_slice(&float.to_be_bytes());
    } else if let Some(half) = to_half(single) {
        out.push(0xf9);
        out.extend_from_slice(&half.to_be_bytes());
    } else {
        out.push(0xfa);
        out.extend_from_slice(&single.to_be_bytes());
    }
}

fn to_half(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let mantissa = bits & 0x7f_ffff;
    let half = match exponent {
        -127 if mantissa == 0 => sign,
        -14..=15 if mantissa & 0x1fff == 0 => sign | ((exponent + 15) as u16) << 10 | (mantissa >> 13) as u16,
        -24..-14 => {
            let shift = (-exponent - 1) as u32;
            let full = mantissa | 0x80_0000;
            if full & ((1 << shift) - 1) != 0 {
                return None;
            }
            sign | (full >> shift) as u16
        }
        _ => return None,
    };
    (from_half(half).to_bits() == f64::from(single).to_bits()).then_some(half)
}

fn from_half(half: u16) -> f64 {
    let exponent = i32::from(half >> 10 & 0x1f);
    let mantissa = f64::from(half & 0x3ff);
    let size = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 => {
            if mantissa == 0.0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        }
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if half & 0x8000 == 0 { size } else { -size }
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// None: the end of something of indefinite length.
    fn item(&mut self) -> Result<Option<Value>, Error> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 31);
        if first == 0xff {
            return Ok(None);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let value = match major {
            0 => {
                let n = self.argument(short)?;
                i64::try_from(n).map_err(|_| Error::Invalid("integer does not fit an int64"))?.into()
            }
            1 => {
                let n = self.argument(short)?;
                let n = i64::try_from(n).map_err(|_| Error::Invalid("integer does not fit an int64"))?;
                (!n).into()
            }
            2 | 3 => {
                let bytes = self.string(major, short)?;
                let text = match major {
                    3 => String::from_utf8(bytes).map_err(|_| Error::Invalid("invalid UTF-8 string"))?,
                    _ => String::from_utf8_lossy(&bytes).into_owned(),
                };
                Value::String(text)
            }
            4 => self.array(short)?,
            5 => self.map(short)?,
            6 => self.tagged(short)?,
            _ => self.simple(short)?,
        };
        self.depth -= 1;
        Ok(Some(value))
    }

    fn inside(&mut self) -> Result<Value, Error> {
        self.item()?.ok_or(Error::Invalid("unexpected \"break\" code"))
    }

    fn argument(&mut self, short: u8) -> Result<u64, Error> {
        let len = match short {
            0..24 => return Ok(short.into()),
            24..=27 => 1usize << (short - 24),
            _ => return Err(Error::Invalid("invalid additional information")),
        };
        Ok(self.take(len)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    fn length(&mut self, short: u8) -> Result<Option<usize>, Error> {
        if short == 31 {
            return Ok(None);
        }
        let len = usize::try_from(self.argument(short)?).map_err(|_| Error::Cut)?;
        // every item takes a byte at least
        if len > self.data.len() - self.at { Err(Error::Cut) } else { Ok(Some(len)) }
    }

    fn string(&mut self, major: u8, short: u8) -> Result<Vec<u8>, Error> {
        if let Some(len) = self.length(short)? {
            return Ok(self.take(len)?.to_vec());
        }
        let mut out = Vec::new();
        loop {
            let first = self.take(1)?[0];
            if first == 0xff {
                return Ok(out);
            }
            if first >> 5 != major || first & 31 == 31 {
                return Err(Error::Invalid("wrong element type for indefinite-length string"));
            }
            if let Some(len) = self.length(first & 31)? {
                out.extend_from_slice(self.take(len)?);
            }
        }
    }

    fn array(&mut self, short: u8) -> Result<Value, Error> {
        let len = self.length(short)?;
        let mut items = Vec::new();
        while len.is_none_or(|len| items.len() < len) {
            match self.item()? {
                Some(item) => items.push(item),
                None if len.is_none() => break,
                None => return Err(Error::Invalid("unexpected \"break\" code")),
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, short: u8) -> Result<Value, Error> {
        let len = self.length(short)?;
        let mut map = Map::new();
        let mut count = 0;
        while len.is_none_or(|len| count < len) {
            let key = match self.item()? {
                Some(Value::String(key)) => key,
                None if len.is_none() => break,
                _ => return Err(Error::Invalid("cannot unmarshal map key into Go value of type string")),
            };
            let value = self.inside()?;
            if map.contains_key(&key) {
                return Err(Error::Duplicate(crate::field::go_quote(&key)));
            }
            map.insert(key, value);
            count += 1;
        }
        Ok(Value::Object(map))
    }

    fn tagged(&mut self, short: u8) -> Result<Value, Error> {
        let tag = self.argument(short)?;
        // bytes that say how they want to be text
        let next = self.data.get(self.at).copied().unwrap_or(0);
        if let (21..=23, 2) = (tag, next >> 5) {
            self.at += 1;
            let bytes = self.string(2, next & 31)?;
            return Ok(Value::String(match tag {
                21 => URL_SAFE.encode(bytes).trim_end_matches('=').to_owned(),
                BASE64 => STANDARD.encode(bytes),
                _ => bytes.iter().map(|b| format!("{b:02X}")).collect(),
            }));
        }
        let content = self.inside()?;
        match (tag, content) {
            (1, Value::Number(seconds)) => {
                let seconds =
                    seconds.as_f64().filter(|s| s.abs() < 2.5e11).ok_or(Error::Invalid("invalid time"))?;
                let instant = Instant { seconds: seconds.floor() as i64, nanos: 0 };
                Ok(Value::String(time::print(instant, Precision::Seconds)))
            }
            (2 | 3, _) => Err(Error::Invalid("bignum tags are not allowed")),
            (_, content) => Ok(content),
        }
    }

    fn simple(&mut self, short: u8) -> Result<Value, Error> {
        let float = match short {
            20 => return Ok(Value::Bool(false)),
            21 => return Ok(Value::Bool(true)),
            22 => return Ok(Value::Null),
            25 => from_half(self.argument(short)? as u16),
            26 => f64::from(f32::from_bits(self.argument(short)? as u32)),
            27 => f64::from_bits(self.argument(short)?),
            _ => return Err(Error::Invalid("simple value is not recognized")),
        };
        Number::from_f64(float).map(Value::Number).ok_or(Error::Invalid("NaN and Inf are not allowed"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).ok_or(Error::Cut)?;
        let bytes = self.data.get(self.at..end).ok_or(Error::Cut)?;
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::Document;
    use crate::testdata;
    use serde_json::json;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn published_objects_convert_both_ways() {
        testdata::round_trips(|name, schema, json, _| {
            let mut bytes = Vec::new();
            encode(Some(schema), json, &mut bytes);
            let text = to_json(&bytes).unwrap();
            let back = Document::parse(&text).unwrap().decode(schema, true).unwrap();
            assert_eq!((&back.value, &*back.strict), (json, &[][..]), "{name}");
        });
    }

    #[test]
    fn items_are_as_upstream_writes_them() {
        let secret = crate::schema::of_type("core/v1.Secret").unwrap();
        let mut out = Vec::new();
        encode(Some(secret), &json!({"data": {"a": "aGk="}, "kind": "x"}), &mut out);
        assert_eq!(hex(&out), "d9d9f7a244646174 61a14161d642686944 6b696e644178".replace(' ', ""));
        for (value, want) in [
            (json!(1.5), "f93e00"),
            (json!(0.1), "fb3fb999999999999a"),
            (json!(100000.5), "fa47c35040"),
            (json!(-1), "20"),
            (json!(1000), "1903e8"),
            (json!(null), "f6"),
            (json!(5.960464477539063e-8), "f90001"),
            (json!(u64::MAX), "1bffffffffffffffff"),
            (json!({"bb": 1, "a": 2}), "a241610242626201"),
        ] {
            let mut out = Vec::new();
            typed(None, &value, &mut out);
            assert_eq!(hex(&out), want, "{value}");
            if value.as_u64() != Some(u64::MAX) {
                assert_eq!(decode(&out).unwrap(), value);
            }
        }
    }

    #[test]
    fn bad_items_are_named() {
        let bad = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(bad(b""), "EOF");
        assert_eq!(bad(&[0x42, 1]), "unexpected EOF");
        assert_eq!(bad(&[0x01, 0x01]), "cbor: 1 bytes of extraneous data starting at index 1");
        assert_eq!(bad(&[0xa2, 0x41, 0x61, 1, 0x61, 0x61, 2]), "cbor: found duplicate map key \"a\"");
        assert_eq!(bad(&[0xf7]), "cbor: simple value is not recognized");
        assert_eq!(bad(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "unexpected EOF");
        assert_eq!(bad(&[0x81; 2000]), "cbor: exceeded max nested level 512");
        assert_eq!(decode(&[0xbf, 0x7f, 0x61, 0x61, 0xff, 0x9f, 1, 0xff, 0xff]).unwrap(), json!({"a": [1]}));
    }
}
