//! Seccomp profiles: the runtime's default one, and files in docker's format.
//!
//! The default allows what ordinary programs and containers' own capabilities need, as docker's and
//! containerd's do; everything else fails with EPERM, `clone3` with ENOSYS so that C libraries fall back to
//! `clone`, whose flags can be looked at.

use kernel::seccomp::{Action, Compare, Condition, Program, Rule, number};
use serde::Deserialize;
use serde_json::json;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// CLONE_NEW*: namespaces, all but time's.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Allowed to all.
const ORDINARY: &str = "accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown \
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve \
    execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
    fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate \
    futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd \
    getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority \
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents \
    io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr \
    lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll \
    ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages \
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid \
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid \
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs \
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask \
    uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid write writev";

/// Allowed with a capability.
const BY_CAPABILITY: [(&str, &str); 13] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday clock_settime clock_adjtime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
];

/// The default profile for a container with these capabilities.
pub fn default_profile(capabilities: &[String]) -> Result<Program, String> {
    let has = |name: &str| capabilities.iter().any(|have| have == name);
    let mut names: Vec<&str> = ORDINARY.split_whitespace().collect();
    for (capability, calls) in BY_CAPABILITY {
        if has(capability) {
            names.extend(calls.split_whitespace());
        }
    }
    if has("CAP_PERFMON") {
        names.push("perf_event_open");
    }
    let mut rules: Vec<Rule> =
        names.iter().filter_map(|name| rule(name, Vec::new(), Action::Allow)).collect();
    let condition = |argument: u8, compare: Compare, value: u64| vec![Condition { argument, compare, value }];
    // No sockets to the machine below (AF_VSOCK).
    rules.extend(rule("socket", condition(0, Compare::NotEqual, 40), Action::Allow));
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.extend(rule("personality", condition(0, Compare::Equal, persona), Action::Allow));
    }
    if !has("CAP_SYS_ADMIN") {
        rules.extend(rule("clone", condition(0, Compare::Masked(NAMESPACE_FLAGS), 0), Action::Allow));
        rules.extend(rule("clone3", Vec::new(), Action::Errno(ENOSYS)));
    }
    Program::compile(&rules, Action::Errno(EPERM))
        .ok_or_else(|| "the default seccomp profile is too long".to_owned())
}

/// The default profile as an OCI runtime wants it in `config.json`.
pub fn default_as_oci(capabilities: &[String]) -> serde_json::Value {
    let has = |name: &str| capabilities.iter().any(|have| have == name);
    let mut names: Vec<&str> = ORDINARY.split_whitespace().collect();
    for (capability, calls) in BY_CAPABILITY {
        if has(capability) {
            names.extend(calls.split_whitespace());
        }
    }
    let allow = |name: &str, op: &str, value: u64, two: u64| {
        let argument = json!({ "index": 0, "value": value, "valueTwo": two, "op": op });
        json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] })
    };
    let mut calls = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW" })];
    calls.push(allow("socket", "SCMP_CMP_NE", 40, 0));
    calls.extend(
        [0, 8, 0x20000, 0x20008, 0xffff_ffff].map(|persona| allow("personality", "SCMP_CMP_EQ", persona, 0)),
    );
    if !has("CAP_SYS_ADMIN") {
        calls.push(allow("clone", "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0));
        calls.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "syscalls": calls })
}

fn rule(name: &str, conditions: Vec<Condition>, action: Action) -> Option<Rule> {
    Some(Rule { syscall: number(name)?, conditions, action })
}

/// A profile as docker, containerd and the OCI runtime specification write it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: String,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Limits,
    #[serde(default)]
    excludes: Limits,
}

/// docker's "only with these capabilities" and "not with".
#[derive(Debug, Default, Deserialize)]
struct Limits {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Compiles a profile file. Names this architecture does not have are skipped, as libseccomp does.
pub fn from_file(text: &[u8], capabilities: &[String]) -> Result<Program, String> {
    let profile: Profile =
        serde_json::from_slice(text).map_err(|error| format!("seccomp profile: {error}"))?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut rules = Vec::new();
    let has = |name: &String| capabilities.contains(name);
    let arch = crate::image::manifest::host_architecture();
    for calls in &profile.syscalls {
        let in_arches = |limits: &Limits| limits.arches.iter().any(|name| name == arch);
        let included = calls.includes.caps.iter().all(has)
            && (calls.includes.arches.is_empty() || in_arches(&calls.includes));
        let excluded = calls.excludes.caps.iter().any(has) || in_arches(&calls.excludes);
        if !included || excluded {
            continue;
        }
        let what = action(&calls.action, calls.errno_ret)?;
        let conditions: Vec<Condition> =
            calls.args.iter().flatten().map(condition).collect::<Result<_, _>>()?;
        let single = Some(&calls.name).filter(|name| !name.is_empty());
        for name in calls.names.iter().chain(single) {
            rules.extend(rule(name, conditions.clone(), what));
        }
    }
    Program::compile(&rules, default).ok_or_else(|| "the seccomp profile is too long".to_owned())
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        other => return Err(format!("seccomp profile: action {other:?} is not supported")),
    })
}

fn condition(argument: &Argument) -> Result<Condition, String> {
    let (compare, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Compare::Equal, argument.value),
        "SCMP_CMP_NE" => (Compare::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Compare::Less, argument.value),
        "SCMP_CMP_LE" => (Compare::LessOrEqual, argument.value),
        "SCMP_CMP_GT" => (Compare::Greater, argument.value),
        "SCMP_CMP_GE" => (Compare::GreaterOrEqual, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Compare::Masked(argument.value), argument.value_two),
        other => return Err(format!("seccomp profile: comparison {other:?} is not known")),
    };
    match argument.index {
        0..=5 => Ok(Condition { argument: argument.index, compare, value }),
        other => Err(format!("seccomp profile: argument {other} does not exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_compile() {
        assert!(default_profile(&[]).is_ok());
        assert!(default_profile(&["CAP_SYS_ADMIN".into(), "CAP_BPF".into()]).is_ok());
        // A name in the lists that no table knows is a slip of the pen (or another architecture's).
        let all = BY_CAPABILITY.iter().map(|(_, calls)| *calls).chain([ORDINARY]);
        let unknown: Vec<&str> =
            all.flat_map(str::split_whitespace).filter(|name| number(name).is_none()).collect();
        if cfg!(target_arch = "x86_64") {
            assert_eq!(unknown, Vec::<&str>::new());
        }
        let file = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","fchmodat","nonsense"],"action":"SCMP_ACT_ERRNO","errnoRet":95,
            "args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert!(from_file(file, &[]).is_ok());
        for bad in ["", "{}", r#"{"defaultAction":"NO"}"#] {
            assert!(from_file(bad.as_bytes(), &[]).is_err(), "{bad}");
        }
    }
}
