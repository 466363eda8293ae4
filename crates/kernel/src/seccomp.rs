//! Seccomp filters: rules on system calls compiled to classic BPF, and their loading.
//!
//! Source: the kernel's `Documentation/userspace-api/seccomp_filter.rst`, seccomp(2).

use std::io;

mod syscalls;

pub use syscalls::number;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Log,
    /// Fails with this error number.
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
    /// To a tracer, with this message.
    Trace(u16),
}

/// A comparison of one argument, as unsigned 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    pub compare: Compare,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & mask == value`.
    Masked(u64),
}

/// What is done with one system call when all conditions hold. The first rule that fits wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub syscall: u32,
    pub conditions: Vec<Condition>,
    pub action: Action,
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

/// The most instructions the kernel takes.
const MAX: usize = 4096;

impl Program {
    /// Compiles rules; calls without a fitting rule, and those of another architecture, get `default`.
    /// `None`: more than the kernel takes.
    pub fn compile(rules: &[Rule], default: Action) -> Option<Program> {
        let mut code = vec![
            jump(LOAD, 0, 0, 4), // seccomp_data.arch
            jump(JUMP_EQUAL, 1, 0, ARCHITECTURE),
            ret(default),
            jump(LOAD, 0, 0, 0), // seccomp_data.nr
        ];
        let mut at = 0;
        while at < rules.len() {
            let syscall = rules[at].syscall;
            let mut block = Vec::new();
            // All rules of a call stand together; those that come apart are found again below.
            let of_call: Vec<&Rule> = rules.iter().filter(|rule| rule.syscall == syscall).collect();
            if rules[..at].iter().any(|rule| rule.syscall == syscall) {
                at += 1;
                continue;
            }
            for rule in of_call {
                block.extend(compile_rule(rule));
            }
            block.push(ret(default));
            match u8::try_from(block.len()) {
                Ok(length) => code.push(jump(JUMP_EQUAL, 0, length, syscall)),
                Err(_) => {
                    code.push(jump(JUMP_EQUAL, 1, 0, syscall));
                    code.push(jump(JUMP, 0, 0, u32::try_from(block.len()).ok()?));
                }
            }
            code.append(&mut block);
            at += 1;
        }
        code.push(ret(default));
        (code.len() <= MAX).then_some(Program(code))
    }

    /// The kernel's own form, 8 bytes an instruction, for keeping in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 8);
        for i in &self.0 {
            bytes.extend_from_slice(&i.code.to_ne_bytes());
            bytes.extend_from_slice(&[i.jump_true, i.jump_false]);
            bytes.extend_from_slice(&i.k.to_ne_bytes());
        }
        bytes
    }

    /// What [`Program::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Option<Program> {
        if !bytes.len().is_multiple_of(8) || bytes.len() / 8 > MAX {
            return None;
        }
        let instruction = |b: &[u8]| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jump_true: b[2],
            jump_false: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        };
        Some(Program(bytes.chunks_exact(8).map(instruction).collect()))
    }

    /// Puts this thread and what it starts under the filter, for good. Needs CAP_SYS_ADMIN in its user
    /// namespace, or no_new_privs.
    pub fn load(&self) -> io::Result<()> {
        #[repr(C)]
        struct Program {
            length: u16,
            code: *const Instruction,
        }
        let length = u16::try_from(self.0.len()).map_err(io::Error::other)?;
        let program = Program { length, code: self.0.as_ptr() };
        // SAFETY: the program points to `length` instructions that live through the call, which copies them.
        let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn jump(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

fn ret(action: Action) -> Instruction {
    let value = match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    };
    jump(RETURN, 0, 0, value)
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// This condition holds.
    Pass,
    /// The rule does not fit.
    Fail,
}

/// The rule's conditions one after another, then its action; falls out at the end when it does not fit.
fn compile_rule(rule: &Rule) -> Vec<Instruction> {
    let conditions: Vec<_> = rule.conditions.iter().map(steps).collect();
    let total: usize = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for steps in &conditions {
        let end = code.len() + steps.len();
        for (instruction, on_true, on_false) in steps {
            let here = code.len();
            let distance = |to: To| match to {
                To::Next => 0,
                // Six conditions of six steps are far below 255.
                To::Pass => u8::try_from(end - here - 1).unwrap_or(u8::MAX),
                To::Fail => u8::try_from(total - here - 1).unwrap_or(u8::MAX),
            };
            code.push(Instruction {
                jump_true: distance(*on_true),
                jump_false: distance(*on_false),
                ..*instruction
            });
        }
    }
    code.push(ret(rule.action));
    code
}

fn steps(condition: &Condition) -> Vec<(Instruction, To, To)> {
    use To::{Fail, Next, Pass};
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let place = 16 + 8 * u32::from(condition.argument.min(5));
    let (load_high, load_low) =
        ((jump(LOAD, 0, 0, place + 4), Next, Next), (jump(LOAD, 0, 0, place), Next, Next));
    let test = |code: u16, k: u32, on_true: To, on_false: To| (jump(code, 0, 0, k), on_true, on_false);
    match condition.compare {
        Compare::Equal => {
            vec![load_high, test(JUMP_EQUAL, high, Next, Fail), load_low, test(JUMP_EQUAL, low, Pass, Fail)]
        }
        Compare::NotEqual => {
            vec![load_high, test(JUMP_EQUAL, high, Next, Pass), load_low, test(JUMP_EQUAL, low, Fail, Pass)]
        }
        Compare::Masked(mask) => vec![
            load_high,
            test(AND, (mask >> 32) as u32, Next, Next),
            test(JUMP_EQUAL, high, Next, Fail),
            load_low,
            test(AND, mask as u32, Next, Next),
            test(JUMP_EQUAL, low, Pass, Fail),
        ],
        Compare::Greater | Compare::GreaterOrEqual => {
            let code = if condition.compare == Compare::Greater { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            vec![
                load_high,
                test(JUMP_GREATER, high, Pass, Next),
                test(JUMP_EQUAL, high, Next, Fail),
                load_low,
                test(code, low, Pass, Fail),
            ]
        }
        Compare::Less | Compare::LessOrEqual => {
            let code = if condition.compare == Compare::Less { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            vec![
                load_high,
                test(JUMP_GREATER, high, Fail, Next),
                test(JUMP_EQUAL, high, Next, Pass),
                load_low,
                test(code, low, Fail, Pass),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn run(program: &Program, syscall: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&syscall.to_le_bytes());
        data.extend_from_slice(&ARCHITECTURE.to_le_bytes());
        data.extend_from_slice(&[0; 8]);
        arguments.iter().for_each(|a| data.extend_from_slice(&a.to_le_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let i = program.0[at];
            at += 1;
            let hop = |yes: bool| usize::from(if yes { i.jump_true } else { i.jump_false });
            match i.code {
                LOAD => a = u32::from_le_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap()),
                AND => a &= i.k,
                JUMP => at += i.k as usize,
                JUMP_EQUAL => at += hop(a == i.k),
                JUMP_GREATER => at += hop(a > i.k),
                JUMP_GREATER_EQUAL => at += hop(a >= i.k),
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn conditions_compare_64_bits() {
        let big = 1u64 << 40;
        for (compare, value, fits, fails) in [
            (Compare::Equal, big + 5, vec![big + 5], vec![5, big, big + 6]),
            (Compare::NotEqual, big + 5, vec![5, big], vec![big + 5]),
            (Compare::Less, big, vec![0, big - 1], vec![big, big + 1, u64::MAX]),
            (Compare::LessOrEqual, big, vec![0, big], vec![big + 1]),
            (Compare::Greater, big, vec![big + 1, u64::MAX], vec![0, big]),
            (Compare::GreaterOrEqual, big, vec![big, big * 2], vec![big - 1]),
            (Compare::Masked(0xf0), 0x10, vec![0x10, 0x1f, big + 0x15], vec![0, 0x20]),
        ] {
            let rule = Rule {
                syscall: 7,
                conditions: vec![Condition { argument: 2, compare, value }],
                action: Action::Allow,
            };
            let program = Program::compile(&[rule], Action::Errno(1)).unwrap();
            for (inputs, expected) in [(fits, 0x7fff_0000), (fails, 0x0005_0001)] {
                for input in inputs {
                    assert_eq!(
                        run(&program, 7, [0, 0, input, 0, 0, 0]),
                        expected,
                        "{compare:?} {value} {input}"
                    );
                }
            }
            assert_eq!(run(&program, 8, [0; 6]), 0x0005_0001);
            assert_eq!(Program::from_bytes(&program.to_bytes()), Some(program));
        }
    }

    #[test]
    fn first_fitting_rule_wins() {
        let rule = |value: u64, action: Action| Rule {
            syscall: 3,
            conditions: vec![Condition { argument: 0, compare: Compare::Equal, value }],
            action,
        };
        let other = Rule { syscall: 4, conditions: vec![], action: Action::Allow };
        let rules = [rule(1, Action::Allow), other, rule(2, Action::Errno(38)), rule(1, Action::KillProcess)];
        let program = Program::compile(&rules, Action::Trap).unwrap();
        let first = |value: u64| run(&program, 3, [value, 0, 0, 0, 0, 0]);
        assert_eq!((first(1), first(2), first(3)), (0x7fff_0000, 0x0005_0026, 0x0003_0000));
        assert_eq!(run(&program, 4, [0; 6]), 0x7fff_0000);
    }
}
