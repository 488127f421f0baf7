//! System calls that fail in this process and its children from now on, as on a system that does not have them.
#![allow(dead_code)] // each test uses some of it

/// A call, an argument of it with bits of which one must be set (a mask of 0 means any call), and the error.
pub struct Denied {
    pub call: libc::c_long,
    pub argument: u32,
    pub bits: u32,
    pub errno: i32,
}

/// Files without a name.
pub const NO_TMPFILE: Denied = Denied {
    call: libc::SYS_openat,
    argument: 2,
    bits: (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32,
    errno: libc::EOPNOTSUPP,
};

/// A name for them.
pub const NO_LINK: Denied = Denied { call: libc::SYS_linkat, argument: 0, bits: 0, errno: libc::EPERM };

/// Room in advance.
pub const NO_FALLOCATE: Denied =
    Denied { call: libc::SYS_fallocate, argument: 0, bits: 0, errno: libc::EOPNOTSUPP };

/// More room than the user may have. (Quotas themselves are in few kernels of test machines.)
pub const OVER_QUOTA: Denied = Denied { errno: libc::EDQUOT, ..NO_FALLOCATE };

pub fn deny(all: &[Denied]) {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump = |what: u32| libc::BPF_JMP | libc::BPF_K | what;
    let ret = libc::BPF_RET | libc::BPF_K;
    let mut program = Vec::new();
    for denied in all {
        let refuse = libc::SECCOMP_RET_ERRNO | denied.errno as u32;
        program.push(statement(load, 0, 0, 0));
        if denied.bits == 0 {
            program.push(statement(jump(libc::BPF_JEQ), 0, 1, denied.call as u32));
        } else {
            program.push(statement(jump(libc::BPF_JEQ), 0, 3, denied.call as u32));
            program.push(statement(load, 0, 0, 16 + 8 * denied.argument));
            program.push(statement(jump(libc::BPF_JSET), 0, 1, denied.bits));
        }
        program.push(statement(ret, 0, 0, refuse));
    }
    program.push(statement(ret, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a whole program, which the kernel copies.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    assert!(!failed, "{}", std::io::Error::last_os_error());
}
