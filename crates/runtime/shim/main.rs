//! The pod shim: one tiny process per pod sandbox that outlives the agent.
//!
//! It holds the pod's namespaces, is the parent of its containers (through short-lived helpers that create
//! them as the shim's own children), reaps everything, holds the containers' stdio, writes their logs, and
//! answers the agent on `shim.sock` in its directory. One thread, one poll loop, nothing polled by time.
//!
//! It knows nothing of images, CRI or the container's configuration. Built by the runtime crate's build
//! script as a static program of its own; `src/shim/protocol.rs` there is the other side of the socket.
#![allow(clippy::all)]

mod log;
mod pod;
mod process;
mod sys;

use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use process::Process;
use sys::{Fd, POLLERR, POLLHUP, POLLIN, POLLOUT, PollFd};

fn main() {
    sys::small_heap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let config = pod::Config::parse(&args);
    match sys::fork_process() {
        Ok(0) => {}
        Ok(_) => sys::exit(0),
        Err(error) => {
            println!("error fork: {error}");
            sys::exit(1)
        }
    }
    drop(args);
    match start(config) {
        Ok((mut shim, pause)) => {
            println!("ready {} {}", std::process::id(), pause);
            pod::leave_stdio();
            sys::trim_heap();
            shim.run()
        }
        Err(error) => {
            println!("error {error}");
            sys::exit(1)
        }
    }
}

fn start(config: pod::Config) -> Result<(Shim, c_int), String> {
    sys::set_name(c"r8s-shim");
    sys::new_session();
    sys::become_subreaper().map_err(|error| format!("subreaper: {error}"))?;
    let child_signals = sys::block_signals().map_err(|error| format!("signals: {error}"))?;
    std::env::set_current_dir(&config.dir).map_err(|error| format!("{}: {error}", config.dir))?;
    let pause = pod::make_namespaces(&config)?;
    let _ = std::fs::remove_file("shim.sock");
    let listener = UnixListener::bind("shim.sock").map_err(|error| format!("shim.sock: {error}"))?;
    listener.set_nonblocking(true).map_err(|error| format!("shim.sock: {error}"))?;
    Ok((
        Shim { listener, child_signals, connections: Vec::new(), processes: Vec::new(), strays: Vec::new() },
        pause,
    ))
}

/// One connection of the agent.
struct Connection {
    fd: Fd,
    input: Vec<u8>,
    fds: Vec<Fd>,
    output: Vec<u8>,
    /// Wants exits as they happen.
    watching: bool,
    closed: bool,
}

struct Shim {
    listener: UnixListener,
    child_signals: Fd,
    connections: Vec<Connection>,
    processes: Vec<Process>,
    /// Children that ended before their helper had said who they are.
    strays: Vec<(c_int, c_int, (i64, i64))>,
}

impl Shim {
    fn run(&mut self) -> ! {
        let mut buffer = vec![0u8; 16 << 10];
        let mut polls: Vec<PollFd> = Vec::new();
        loop {
            polls.clear();
            polls.push(PollFd { fd: self.listener.as_raw_fd(), events: POLLIN, revents: 0 });
            polls.push(PollFd { fd: self.child_signals.0, events: POLLIN, revents: 0 });
            for connection in &self.connections {
                let events = if connection.output.is_empty() { POLLIN } else { POLLIN | POLLOUT };
                polls.push(PollFd { fd: connection.fd.0, events, revents: 0 });
            }
            for process in &self.processes {
                process.interests(&mut polls);
            }
            sys::wait(&mut polls);
            let ready = |fd: c_int, events: i16| {
                polls.iter().any(|p| p.fd == fd && p.revents & (events | POLLERR | POLLHUP) != 0)
            };
            for process in &mut self.processes {
                process.pump(&ready, &mut buffer);
            }
            if ready(self.child_signals.0, POLLIN) {
                sys::drain(&self.child_signals);
                self.reap(&mut buffer);
            }
            for index in 0..self.connections.len() {
                let fd = self.connections[index].fd.0;
                if ready(fd, POLLIN) {
                    self.read_requests(index, &mut buffer);
                }
            }
            if ready(self.listener.as_raw_fd(), POLLIN) {
                while let Ok((stream, _)) = self.listener.accept() {
                    let fd = Fd(std::os::fd::IntoRawFd::into_raw_fd(stream)).nonblocking();
                    self.connections.push(Connection {
                        fd,
                        input: Vec::new(),
                        fds: Vec::new(),
                        output: Vec::new(),
                        watching: false,
                        closed: false,
                    });
                }
            }
            for connection in &mut self.connections {
                connection.flush();
            }
            for connection in self.connections.iter().filter(|c| c.closed) {
                for process in self.processes.iter_mut().filter(|p| p.asked_by == connection.fd.0) {
                    process.asked_by = -1;
                }
            }
            self.connections.retain(|connection| !connection.closed);
            self.processes.retain(|process| !process.is_over());
        }
    }

    fn reap(&mut self, buffer: &mut [u8]) {
        let time = sys::now();
        while let Some((pid, status)) = sys::reap() {
            if let Some(process) = self.processes.iter_mut().find(|p| p.pid == pid) {
                process.exited(status, time, buffer);
                let event = process.exit_event();
                self.tell_watchers(&event);
            } else if let Some(index) = self.processes.iter().position(|p| p.helper == pid) {
                self.helper_done(index, status, buffer);
            } else if self.processes.iter().any(|p| p.helper != 0) {
                self.strays.push((pid, status, time));
            }
        }
        if self.processes.iter().all(|p| p.helper == 0) {
            self.strays.clear();
        }
    }

    /// A helper has ended: its report says which process it made, or why not.
    fn helper_done(&mut self, index: usize, status: c_int, buffer: &mut [u8]) {
        let process = &mut self.processes[index];
        let connection = process.asked_by;
        let report = process.helper_done(status);
        match report {
            Ok(pid) => {
                reply(&mut self.connections, connection, &["ok", &pid.to_string()]);
                if let Some(at) = self.strays.iter().position(|(stray, ..)| *stray == pid) {
                    let (_, status, time) = self.strays.swap_remove(at);
                    self.processes[index].exited(status, time, buffer);
                    let event = self.processes[index].exit_event();
                    self.tell_watchers(&event);
                }
            }
            Err(error) => {
                reply(&mut self.connections, connection, &["error", &error]);
                self.processes.remove(index);
            }
        }
    }

    fn tell_watchers(&mut self, event: &[String]) {
        let fields: Vec<&str> = event.iter().map(String::as_str).collect();
        for connection in self.connections.iter_mut().filter(|c| c.watching) {
            connection.send(&fields);
        }
    }

    fn read_requests(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let connection = &mut self.connections[index];
            match sys::receive(connection.fd.0, buffer, &mut connection.fds) {
                Ok(Some(0)) | Err(_) => {
                    connection.closed = true;
                    return;
                }
                Ok(None) => return,
                Ok(Some(n)) => connection.input.extend_from_slice(&buffer[..n]),
            }
            while let Some(request) = self.connections[index].next_request() {
                let fds = std::mem::take(&mut self.connections[index].fds);
                let fields: Vec<&str> = request.split('\0').collect();
                self.answer(index, &fields, fds);
            }
        }
    }

    fn answer(&mut self, index: usize, request: &[&str], fds: Vec<Fd>) {
        let connection = self.connections[index].fd.0;
        if let ["run", id, kind, log, flags, argv @ ..] = request {
            if self.processes.iter().any(|p| p.id == *id) {
                return self.connections[index].send(&["error", "the id is in use"]);
            }
            match Process::launch(id, *kind == "init", log, flags, argv, fds, connection) {
                // The answer comes when the helper is done.
                Ok(process) => self.processes.push(process),
                Err(error) => self.connections[index].send(&["error", &error]),
            }
            return;
        }
        let outcome = match request {
            ["signal", id, signal] => {
                self.with(id, |p| p.signal(signal.parse().unwrap_or(0)).map_err(|error| error.to_string()))
            }
            ["reopen", id] => self.with(id, |p| p.reopen_log().map_err(|error| error.to_string())),
            ["resize", id, rows, cols] => self.with(id, |p| {
                p.resize(rows.parse().unwrap_or(0), cols.parse().unwrap_or(0));
                Ok(())
            }),
            ["attach", id, flags] => self.with(id, |p| p.attach(flags, fds)),
            ["forget", id] => {
                self.processes.retain(|p| p.id != *id || p.is_running());
                Ok(())
            }
            ["watch"] => {
                self.connections[index].watching = true;
                for process in &self.processes {
                    let event = process.state_event();
                    let fields: Vec<&str> = event.iter().map(String::as_str).collect();
                    self.connections[index].send(&fields);
                }
                Ok(())
            }
            ["quit"] => sys::exit(0),
            _ => Err("unknown request".to_owned()),
        };
        match outcome {
            Ok(()) => self.connections[index].send(&["ok"]),
            Err(error) => self.connections[index].send(&["error", &error]),
        }
    }

    fn with(&mut self, id: &str, act: impl FnOnce(&mut Process) -> Result<(), String>) -> Result<(), String> {
        match self.processes.iter_mut().find(|p| p.id == id) {
            Some(process) => act(process),
            None => Err("no such process".to_owned()),
        }
    }
}

fn reply(connections: &mut [Connection], fd: c_int, fields: &[&str]) {
    if let Some(connection) = connections.iter_mut().find(|c| c.fd.0 == fd && !c.closed) {
        connection.send(fields);
    }
}

impl Connection {
    fn send(&mut self, fields: &[&str]) {
        let payload = fields.join("\0");
        self.output.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.output.extend_from_slice(payload.as_bytes());
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.fd.write(&self.output) {
                Ok(Some(n)) => drop(self.output.drain(..n)),
                Ok(None) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
        self.output = Vec::new();
    }

    fn next_request(&mut self) -> Option<String> {
        let length = u32::from_le_bytes(self.input.get(..4)?.try_into().ok()?) as usize;
        let payload = self.input.get(4..4 + length)?;
        let request = String::from_utf8_lossy(payload).into_owned();
        self.input.drain(..4 + length);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Some(request)
    }
}
