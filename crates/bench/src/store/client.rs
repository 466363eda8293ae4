//! A client that does nothing but put, and that as cheaply as can be: the load runs on the processors of the server that
//! it measures, and a whole gRPC client takes more of them than the server does.
//!
//! It writes HTTP/2 frames by itself (RFC 9113, RFC 7541). Each connection is one task with several writers on it, of
//! whom each waits for its answer before the next put; what they have to say goes out in one piece.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What to put as a writer's n-th; `None` ends it.
pub trait Next: Fn(usize, usize) -> Option<(String, Bytes)> + Clone + Send + 'static {}
impl<F: Fn(usize, usize) -> Option<(String, Bytes)> + Clone + Send + 'static> Next for F {}

/// Puts with so many writers, eight on a connection as far as there are; how long each put took.
pub async fn put(
    address: String,
    writers: usize,
    connections: usize,
    next: impl Next,
) -> Result<Vec<Duration>> {
    // One thread is enough and cheaper than several.
    let load = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for first in 0..connections.min(writers) {
                let mine: Vec<usize> = (first..writers).step_by(connections).collect();
                let connection = Connection::open(&address, mine, next.clone()).await?;
                tasks.spawn(connection.run());
            }
            let mut times = Vec::new();
            while let Some(done) = tasks.join_next().await {
                times.extend(done??);
            }
            Ok(times)
        })
    };
    tokio::task::spawn_blocking(load).await?
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A put that waits for its answer.
struct Waiting {
    writer: usize,
    begin: Instant,
    answered: bool,
}

struct Connection<N> {
    stream: TcpStream,
    authority: String,
    next: N,
    /// How often each writer has put.
    puts: HashMap<usize, usize>,
    waiting: HashMap<u32, Waiting>,
    next_stream: u32,
    input: BytesMut,
    output: BytesMut,
    /// What the server still takes; messages that do not fit stand in line.
    window: i64,
    line: VecDeque<usize>,
    times: Vec<Duration>,
}

impl<N: Next> Connection<N> {
    async fn open(address: &str, writers: Vec<usize>, next: N) -> Result<Self> {
        let authority = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let mut output = BytesMut::from(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]);
        frame(&mut output, SETTINGS, 0, 0, &[]);
        // More than all answers together.
        frame(&mut output, WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes());
        Ok(Self {
            stream,
            authority,
            next,
            puts: HashMap::new(),
            waiting: HashMap::new(),
            next_stream: 1,
            input: BytesMut::new(),
            output,
            window: 65_535,
            line: writers.into(),
            times: Vec::new(),
        })
    }

    async fn run(mut self) -> Result<Vec<Duration>> {
        loop {
            while self.window > 0
                && let Some(writer) = self.line.pop_front()
            {
                self.put(writer);
            }
            if self.waiting.is_empty() {
                return Ok(self.times);
            }
            self.stream.write_all_buf(&mut self.output).await?;
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            while self.take()? {}
        }
    }

    /// Writes the frames of a writer's next put.
    fn put(&mut self, writer: usize) {
        let count = self.puts.entry(writer).or_default();
        let Some((key, value)) = (self.next)(writer, *count) else { return };
        *count += 1;
        let id = self.next_stream;
        self.next_stream += 2;
        if id == 1 {
            let mut block = BytesMut::from(&[0x83, 0x86][..]); // :method POST, :scheme http
            for (index, name, value) in [
                (0x44, "", "/etcdserverpb.KV/Put"), // :path
                (0x41, "", &*self.authority),       // :authority
                (0x5f, "", "application/grpc"),     // content-type
                (0x40, "te", "trailers"),
            ] {
                block.put_u8(index);
                for text in [name, value].into_iter().filter(|text| !text.is_empty()) {
                    block.put_u8(text.len() as u8);
                    block.put_slice(text.as_bytes());
                }
            }
            frame(&mut self.output, HEADERS, END_HEADERS, id, &block);
        } else {
            // The four stand in the table now, the last one first.
            frame(&mut self.output, HEADERS, END_HEADERS, id, &[0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe]);
        }
        let mut message = BytesMut::with_capacity(key.len() + value.len() + 16);
        message.put_bytes(0, 5);
        for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, &value[..])] {
            message.put_u8(tag);
            let mut len = bytes.len();
            while len >= 0x80 {
                message.put_u8(len as u8 | 0x80);
                len >>= 7;
            }
            message.put_u8(len as u8);
            message.put_slice(bytes);
        }
        let len = message.len() as u32 - 5;
        message[1..5].copy_from_slice(&len.to_be_bytes());
        frame(&mut self.output, DATA, END_STREAM, id, &message);
        self.window -= message.len() as i64;
        self.waiting.insert(id, Waiting { writer, begin: Instant::now(), answered: false });
    }

    /// One frame of what has come; whether there was one.
    fn take(&mut self) -> Result<bool> {
        if self.input.len() < 9 {
            return Ok(false);
        }
        let len = u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]) as usize;
        if self.input.len() < 9 + len {
            return Ok(false);
        }
        let (kind, flags) = (self.input[3], self.input[4]);
        let id = u32::from_be_bytes([self.input[5], self.input[6], self.input[7], self.input[8]]);
        self.input.advance(9);
        let payload = self.input.split_to(len);
        match kind {
            DATA => {
                let waiting = self.waiting.get_mut(&id).context("an answer to nothing")?;
                waiting.answered |= len > 5;
                ensure!(flags & END_STREAM == 0, "an answer without trailers");
            }
            HEADERS if flags & END_STREAM != 0 => {
                let waiting = self.waiting.remove(&id).context("an answer to nothing")?;
                ensure!(waiting.answered, "a put was refused");
                self.times.push(waiting.begin.elapsed());
                self.line.push_back(waiting.writer);
            }
            SETTINGS if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.output, PING, ACK, 0, &payload),
            WINDOW_UPDATE if id == 0 => {
                self.window += i64::from(u32::from_be_bytes(payload[..].try_into().context("a window")?));
            }
            RST_STREAM | GOAWAY => bail!("the server ends the connection: {payload:?}"),
            _ => {}
        }
        Ok(true)
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
}
