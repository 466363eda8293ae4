//! A process the shim is parent of: a container's init, or one that was put into a container by exec.

use std::ffi::{CString, c_int};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixListener;

use crate::log::{Lines, Log};
use crate::sys::{self, Fd, POLLIN, POLLOUT, PollFd};

/// While an attached client has this much to read, its container's output waits for it.
const MAX_PENDING: usize = 64 << 10;

pub struct Process {
    pub id: String,
    /// 0 until the helper has said.
    pub pid: c_int,
    /// The helper that is making it; 0 when that is done.
    pub helper: c_int,
    /// The connection to answer when the helper is done.
    pub asked_by: c_int,
    init: bool,
    report: Option<Fd>,
    log: Log,
    sources: Vec<Source>,
    /// The write end of its stdin, or the terminal.
    input: Option<Fd>,
    once: bool,
    console: Option<UnixListener>,
    /// The connection on which the terminal comes.
    handing_over: Option<Fd>,
    /// A size asked for before the terminal was there.
    size: Option<(u16, u16)>,
    tty: bool,
    clients: Vec<Client>,
    exit: Option<(c_int, (i64, i64))>,
}

/// Where output comes from: a pipe's read end or the terminal (which `input` then is as well).
struct Source {
    fd: Fd,
    stream: &'static str,
    lines: Lines,
}

/// Someone attached. Descriptors that were not asked for or have ended are None.
struct Client {
    stdin: Option<Fd>,
    to_stdin: Vec<u8>,
    outputs: Vec<Output>,
}

struct Output {
    stream: &'static str,
    fd: Fd,
    pending: Vec<u8>,
}

impl Process {
    /// Starts the helper that will make the process. `flags`: `t` terminal, `i` with stdin, `o` stdin ends
    /// with its first client. For an exec `fds` are stdin (with `i`), stdout and (without `t`) stderr.
    pub fn launch(
        id: &str,
        init: bool,
        log: &str,
        flags: &str,
        argv: &[&str],
        mut fds: Vec<Fd>,
        asked_by: c_int,
    ) -> Result<Process, String> {
        let text = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let (tty, stdin) = (flags.contains('t'), flags.contains('i'));
        let mut process = Process {
            id: id.to_owned(),
            pid: 0,
            helper: 0,
            asked_by,
            init,
            report: None,
            log: Log::open(log).map_err(|error| text(log, error))?,
            sources: Vec::new(),
            input: None,
            once: flags.contains('o'),
            console: None,
            handing_over: None,
            size: None,
            tty,
            clients: Vec::new(),
            exit: None,
        };
        let null = || {
            let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
            file.map(|file| Fd(file.into_raw_fd())).map_err(|error| text("/dev/null", error))
        };
        let pipe = || sys::pipe().map_err(|error| text("pipe", error));
        let mut child = [null()?, null()?, null()?];
        if tty {
            let path = format!("{id}.console");
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).map_err(|error| text("console", error))?;
            listener.set_nonblocking(true).map_err(|error| text("console", error))?;
            process.console = Some(listener);
            if !init {
                process.attach(flags, fds)?;
            }
        } else if init {
            if stdin {
                let (read, write) = pipe()?;
                child[0] = read;
                process.input = Some(write.nonblocking());
            }
            for (at, stream) in [(1, "stdout"), (2, "stderr")] {
                let (read, write) = pipe()?;
                child[at] = write;
                process.sources.push(Source { fd: read.nonblocking(), stream, lines: Lines::default() });
            }
        } else {
            let mut given = fds.drain(..);
            for (at, slot) in child.iter_mut().enumerate() {
                if at > 0 || stdin {
                    *slot = given.next().ok_or("too few descriptors")?;
                }
            }
        }
        let (report, say) = pipe()?;
        let argv: Vec<CString> = argv.iter().map(|a| CString::new(*a).unwrap_or_default()).collect();
        if argv.is_empty() {
            return Err("no helper".to_owned());
        }
        match sys::fork_process() {
            Ok(0) => in_child(&child, &say, &argv),
            Ok(pid) => process.helper = pid,
            Err(error) => return Err(text("fork", error)),
        }
        process.report = Some(report.nonblocking());
        Ok(process)
    }

    /// Takes the helper's report: the new process's pid or why there is none.
    pub fn helper_done(&mut self, status: c_int) -> Result<c_int, String> {
        self.helper = 0;
        let mut bytes = [0u8; 4096];
        let got = match self.report.take().map(|report| report.read(&mut bytes)) {
            Some(Ok(Some(n))) => n,
            _ => 0,
        };
        let text = String::from_utf8_lossy(&bytes[..got]).into_owned();
        match text.strip_prefix("pid ").and_then(|pid| pid.trim().parse().ok()) {
            Some(pid) => {
                self.pid = pid;
                self.accept_console();
                Ok(pid)
            }
            None if text.is_empty() => Err(format!("the helper ended with status {status:#x}")),
            None => Err(text),
        }
    }

    /// Takes the terminal's master side, if it has come. Whoever connects is a helper of ours; that it may
    /// be slow is no reason to wait for it here.
    fn accept_console(&mut self) {
        if let (None, Some(listener)) = (&self.handing_over, &self.console) {
            let Ok((stream, _)) = listener.accept() else { return };
            self.handing_over = Some(Fd(stream.into_raw_fd()).nonblocking());
        }
        let Some(stream) = &self.handing_over else { return };
        let mut fds = Vec::new();
        let mut bytes = [0u8; 256];
        if let Ok(None) = sys::receive(stream.0, &mut bytes, &mut fds) {
            return;
        }
        self.handing_over = None;
        self.console = None;
        let _ = std::fs::remove_file(format!("{}.console", self.id));
        if let Some(master) = fds.pop() {
            if let Ok(copy) = sys::dup_above(master.0, 3) {
                self.input = Some(Fd(copy).nonblocking());
            }
            self.sources.push(Source { fd: master.nonblocking(), stream: "stdout", lines: Lines::default() });
        }
        if let Some((rows, cols)) = self.size.take() {
            self.resize(rows, cols);
        }
    }

    fn console_fd(&self) -> Option<c_int> {
        let listening = self.console.as_ref().map(AsRawFd::as_raw_fd);
        self.handing_over.as_ref().map(|stream| stream.0).or(listening)
    }

    pub fn is_running(&self) -> bool {
        self.exit.is_none()
    }

    /// An exec that has ended and whose output has been passed on needs no memory; a container's init is
    /// kept until it is forgotten.
    pub fn is_over(&self) -> bool {
        !self.init && self.exit.is_some() && self.clients.is_empty()
    }

    pub fn interests(&self, polls: &mut Vec<PollFd>) {
        let mut want = |fd: c_int, events: i16| polls.push(PollFd { fd, events, revents: 0 });
        if let Some(console) = self.console_fd() {
            want(console, POLLIN);
        }
        let clogged = self.clients.iter().flat_map(|c| &c.outputs).any(|o| o.pending.len() >= MAX_PENDING);
        for source in &self.sources {
            if !clogged {
                want(source.fd.0, POLLIN);
            }
        }
        for client in &self.clients {
            match (&client.stdin, &self.input) {
                (_, Some(input)) if !client.to_stdin.is_empty() => want(input.0, POLLOUT),
                (Some(stdin), _) => want(stdin.0, POLLIN),
                _ => {}
            }
            for output in &client.outputs {
                // Without POLLOUT still seen: that the other end has gone.
                want(output.fd.0, if output.pending.is_empty() { 0 } else { POLLOUT });
            }
        }
    }

    pub fn pump(&mut self, ready: &dyn Fn(c_int, i16) -> bool, buffer: &mut [u8]) {
        if self.console_fd().is_some_and(|console| ready(console, POLLIN)) {
            self.accept_console();
        }
        for index in (0..self.sources.len()).rev() {
            if ready(self.sources[index].fd.0, POLLIN) {
                self.read_source(index, buffer);
            }
        }
        let mut close_input = false;
        for client in &mut self.clients {
            if client.to_stdin.is_empty() {
                let got = match &client.stdin {
                    Some(stdin) if ready(stdin.0, POLLIN) => stdin.read(buffer),
                    _ => Ok(None),
                };
                match got {
                    Ok(Some(n)) if n > 0 => client.to_stdin.extend_from_slice(&buffer[..n]),
                    Ok(None) => {}
                    _ => {
                        client.stdin = None;
                        close_input |= self.once && !self.tty;
                    }
                }
            }
            while let (Some(input), false) = (&self.input, client.to_stdin.is_empty()) {
                match input.write(&client.to_stdin) {
                    Ok(Some(n)) => drop(client.to_stdin.drain(..n)),
                    Ok(None) => break,
                    Err(_) => client.to_stdin.clear(),
                }
            }
            if self.input.is_none() {
                client.to_stdin = Vec::new();
            }
            client.outputs.retain_mut(|output| {
                if output.pending.is_empty() { !ready(output.fd.0, 0) } else { output.flush() }
            });
        }
        if close_input {
            self.input = None;
        }
        self.drop_finished_clients();
    }

    /// Whoever has no output left to get has detached; when the sources are at their end so are all.
    fn drop_finished_clients(&mut self) {
        let ended = self.sources.is_empty() && self.console.is_none() && self.pid != 0;
        self.clients.retain_mut(|client| {
            if ended {
                client.outputs.retain(|output| !output.pending.is_empty());
                client.stdin = None;
            }
            !client.outputs.is_empty() || client.stdin.is_some()
        });
    }

    fn read_source(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let source = &mut self.sources[index];
        match source.fd.read(buffer) {
            Ok(Some(n)) if n > 0 => {
                source.lines.push(&mut self.log, source.stream, &buffer[..n]);
                let outputs = self.clients.iter_mut().flat_map(|c| &mut c.outputs);
                for output in outputs.filter(|o| o.stream == source.stream) {
                    output.pending.extend_from_slice(&buffer[..n]);
                    // A client that has gone is noticed in `pump`.
                    output.flush();
                }
                true
            }
            Ok(None) => false,
            // The end; of a terminal it is EIO.
            _ => {
                let mut source = self.sources.remove(index);
                source.lines.end(&mut self.log, source.stream);
                self.drop_finished_clients();
                false
            }
        }
    }

    /// Notes the end; what the process has written by then is in the log before anyone hears of it.
    pub fn exited(&mut self, status: c_int, time: (i64, i64), buffer: &mut [u8]) {
        for index in (0..self.sources.len()).rev() {
            let mut rounds = 0;
            while rounds < 256 && self.sources.len() > index && self.read_source(index, buffer) {
                rounds += 1;
            }
        }
        self.exit = Some((status, time));
        if self.init {
            let text = format!("{} {}\n", exit_code(status), time.0 * 1_000_000_000 + time.1);
            let (file, new) = (format!("{}.exit", self.id), format!("{}.exit.new", self.id));
            let written = std::fs::File::create(&new).and_then(|mut f| f.write_all(text.as_bytes()));
            if written.is_ok() {
                let _ = std::fs::rename(new, file);
            }
        } else if self.tty {
            // Nobody else writes to an exec's terminal.
            self.sources.clear();
        }
        self.drop_finished_clients();
    }

    pub fn exit_event(&self) -> Vec<String> {
        let (status, time) = self.exit.unwrap_or((0, (0, 0)));
        let nanos = time.0 * 1_000_000_000 + time.1;
        vec!["exit".to_owned(), self.id.clone(), exit_code(status).to_string(), nanos.to_string()]
    }

    pub fn state_event(&self) -> Vec<String> {
        match self.exit {
            Some(_) => self.exit_event(),
            None => vec!["running".to_owned(), self.id.clone(), self.pid.to_string()],
        }
    }

    pub fn signal(&mut self, signal: c_int) -> std::io::Result<()> {
        if self.exit.is_some() {
            return Ok(());
        }
        // Not reaped yet, so the pid cannot be another's.
        sys::send_signal(if self.pid != 0 { self.pid } else { self.helper }, signal)
    }

    pub fn reopen_log(&mut self) -> std::io::Result<()> {
        self.log.reopen()
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        match &self.input {
            Some(input) if self.tty => sys::resize(input, rows, cols),
            _ => self.size = Some((rows, cols)),
        }
    }

    /// `flags` say which descriptors come: `i` stdin, then stdout, then `e` stderr.
    pub fn attach(&mut self, flags: &str, fds: Vec<Fd>) -> Result<(), String> {
        if self.exit.is_some() {
            return Err("the process has ended".to_owned());
        }
        let mut fds = fds.into_iter();
        let mut next = || fds.next().map(Fd::nonblocking).ok_or("too few descriptors");
        let stdin = if flags.contains('i') { Some(next()?) } else { None };
        let mut client = Client { stdin, to_stdin: Vec::new(), outputs: Vec::new() };
        client.outputs.push(Output { stream: "stdout", fd: next()?, pending: Vec::new() });
        if flags.contains('e') {
            client.outputs.push(Output { stream: "stderr", fd: next()?, pending: Vec::new() });
        }
        self.clients.push(client);
        Ok(())
    }
}

impl Output {
    /// False when the other end has gone.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.fd.write(&self.pending) {
                Ok(Some(n)) => drop(self.pending.drain(..n)),
                Ok(None) => return true,
                Err(_) => {
                    self.pending.clear();
                    return false;
                }
            }
        }
        self.pending = Vec::new();
        true
    }
}

/// As a shell has it: the exit status, or 128 and the signal.
fn exit_code(status: c_int) -> c_int {
    if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) }
}

fn in_child(stdio: &[Fd; 3], say: &Fd, argv: &[CString]) -> ! {
    let place = || -> std::io::Result<()> {
        let mut high = [0; 4];
        for (at, fd) in stdio.iter().chain([say]).enumerate() {
            high[at] = sys::dup_above(fd.0, 10)?;
        }
        for (to, fd) in high.into_iter().enumerate() {
            sys::move_fd(fd, to as c_int)?;
        }
        Ok(())
    };
    let error = match place() {
        Ok(()) => {
            sys::unblock_signals();
            sys::exec(argv)
        }
        Err(error) => error,
    };
    let _ = say.write(format!("{}: {error}", argv[0].to_string_lossy()).as_bytes());
    sys::exit(1)
}
