//! Which devices a cgroup's processes may use, on cgroup v2: a small eBPF program attached to the group.
//! (On v1 the devices controller does it.)

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Char,
    Block,
}

/// An allowance. `None` stands for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allow {
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl Allow {
    /// `access` as in `rwm`.
    pub fn new(kind: Kind, major: Option<u32>, minor: Option<u32>, access: &str) -> Allow {
        let has = |letter: char| access.contains(letter);
        Allow { kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
    }

    /// Bits as in `linux/bpf.h`.
    fn access(self) -> i32 {
        i32::from(self.mknod) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

/// What every container may use, as with runc: nodes may be made, the harmless ones opened.
pub fn usual() -> Vec<Allow> {
    let char = |major: u32, minor: Option<u32>| Allow::new(Kind::Char, Some(major), minor, "rwm");
    let mut all = vec![Allow::new(Kind::Char, None, None, "m"), Allow::new(Kind::Block, None, None, "m")];
    // null, zero, full, random, urandom; tty, console, ptmx; pseudo terminals.
    all.extend([3, 5, 7, 8, 9].map(|minor| char(1, Some(minor))));
    all.extend([0, 1, 2].map(|minor| char(5, Some(minor))));
    all.push(char(136, None));
    all
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program: 1 for what one of the allowances covers, else 0.
fn program(allowed: &[Allow]) -> Vec<Instruction> {
    // r2: kind, r3: access wanted, r4: major, r5: minor; see struct bpf_cgroup_dev_ctx.
    let mut code = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(MOVE_REGISTER, 3, 2, 0, 0),
        op(AND, 2, 0, 0, 0xffff),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for allow in allowed {
        let kind = match allow.kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        let mut block = vec![op(JUMP_NOT_EQUAL, 2, 0, 0, kind)];
        // Nothing wanted beyond what is allowed.
        block.push(op(MOVE_REGISTER, 6, 3, 0, 0));
        block.push(op(AND, 6, 0, 0, !allow.access() & 7));
        block.push(op(JUMP_NOT_EQUAL, 6, 0, 0, 0));
        for (register, number) in [(4, allow.major), (5, allow.minor)] {
            if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
                block.push(op(JUMP_NOT_EQUAL, register, 0, 0, number));
            }
        }
        block.push(op(MOVE, 0, 0, 0, 1));
        block.push(op(EXIT, 0, 0, 0, 0));
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            if instruction.code == JUMP_NOT_EQUAL {
                instruction.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
            }
        }
        code.append(&mut block);
    }
    code.extend([op(MOVE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    code
}

/// Restricts the cgroup at `dir` (in a v2 tree) to the allowed devices, in place of nothing: programs of
/// parents still apply. It holds as long as the cgroup.
pub fn restrict(dir: &Path, allowed: &[Allow]) -> io::Result<()> {
    let code = program(allowed);
    let license = c"Apache-2.0";
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: 15, // BPF_PROG_TYPE_CGROUP_DEVICE
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let group = std::fs::File::open(dir)?;
    // SAFETY: BPF_PROG_LOAD (5) reads the attribute, the code and the licence, all alive here.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 5, &load, std::mem::size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor, owned by nobody else.
    let loaded = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) };
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: 6,  // BPF_CGROUP_DEVICE
        flags: 2, // BPF_F_ALLOW_MULTI: beside what is there, all must allow
    };
    // SAFETY: BPF_PROG_ATTACH (8) reads the attribute.
    let done = unsafe { libc::syscall(libc::SYS_bpf, 8, &attach, std::mem::size_of::<Attach>()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A cgroup in the v2 tree, removed at the end.
    struct Group(std::path::PathBuf);

    impl Drop for Group {
        fn drop(&mut self) {
            for _ in 0..100 {
                if std::fs::remove_dir(&self.0).is_ok() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn only_allowed_devices_open() {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v2 =
            mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let (Some(v2), true) = (v2, rustix::process::geteuid().is_root()) else {
            eprintln!("skipped: needs root and a cgroup v2 tree");
            return;
        };
        let group = Group(Path::new(v2).join(format!("r8s-devices-{}", std::process::id())));
        std::fs::create_dir(&group.0).unwrap();
        if let Err(error) = restrict(
            &group.0,
            &[Allow::new(Kind::Char, Some(1), Some(3), "rw"), Allow::new(Kind::Char, Some(1), Some(5), "r")],
        ) {
            eprintln!("skipped: the kernel takes no device programs: {error}");
            return;
        }
        let try_in = |line: &str| {
            let script = format!("echo $$ > {}/cgroup.procs && {line}", group.0.display());
            Command::new("sh")
                .args(["-c", &script])
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        assert!(try_in(": > /dev/null"));
        assert!(try_in("head -c 1 /dev/zero > /dev/null"));
        assert!(!try_in(": > /dev/zero"));
        assert!(!try_in(": < /dev/full"));
    }
}
