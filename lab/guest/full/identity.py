"""Processes with privileges, limits, signals and namespaces of their own."""

import ctypes
import os
import signal
import struct

libc = ctypes.CDLL(None, use_errno=True)
BUSYBOX = b"/bin/busybox"
HOLD = b"exec 3<>/run/hold; read x <&3"
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAPBSET_DROP = 24
PR_SET_KEEPCAPS = 8
SYS_CAPSET = 126
CAP_NET_BIND_SERVICE = 10
CAP_NET_RAW = 13
CAP_SYS_TIME = 25
SYS_PRLIMIT64 = 302
CLONE_NEWTIME = 0x80
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def child(prepare, *argv):
    ready, done = os.pipe()
    pid = os.fork()
    if pid:
        os.close(done)
        # Ends when the program has taken over: both ends are closed on exec.
        os.read(ready, 1)
        os.close(ready)
        return pid
    try:
        os.setsid()
        prepare()
        os.execve(BUSYBOX, [b"sh", b"-c", HOLD, *argv], {})
    except BaseException as error:
        os.write(2, b"identity: %r: %r\n" % (argv, error))
    os._exit(127)


def confined():
    """An ordinary user with two capabilities, of which one of the others is out of its bounds, behind a filter that allows all."""
    check(libc.prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0))
    check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([1005, 27, 1003])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    mask = 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_RAW
    header = struct.pack("II", 0x20080522, 0)
    check(libc.syscall(SYS_CAPSET, header, struct.pack("6I", mask, mask, mask, 0, 0, 0)))
    for capability in (CAP_NET_BIND_SERVICE, CAP_NET_RAW):
        check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    program = struct.pack("H6xQ", 1, ctypes.addressof(allow))
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))


def limited():
    for resource, soft, hard in ((7, 77, 99), (9, 1 << 40, (1 << 64) - 1), (1, 123456789, 1 << 33), (13, 5, 30),
                                 (10, (1 << 62) + 1, (1 << 63) - 1)):
        check(libc.syscall(SYS_PRLIMIT64, 0, resource, struct.pack("QQ", soft, hard), None))


def signalled():
    """Stays in Python, where signals can be blocked, handled and sent to a thread."""
    pid = os.fork()
    if pid:
        return
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, 40})
    os.kill(os.getpid(), signal.SIGUSR1)
    # To the thread itself: tgkill.
    check(libc.syscall(234, os.getpid(), os.getpid(), 40))
    with open("/run/full/signalled-ready", "w"):
        pass
    while True:
        signal.pause()


def namespaced():
    """User, pid and time namespaces of its own."""
    if os.fork():
        return
    os.setsid()
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWTIME))
    # Its first child is the first process there.
    if os.fork():
        os._exit(0)
    os.execve(BUSYBOX, [b"sh", b"-c", HOLD, b"sh", b"namespaced"], {})


def main():
    import sys

    if sys.argv[1:] == ["signalled"]:
        return signalled()
    child(confined, b"sh", b"confined")
    child(limited, b"sh", b"limited")
    namespaced()
    if not os.fork():
        os.execv("/usr/bin/python3", ["python3", "-I", "-S", __file__, "signalled"])
    while not os.path.exists("/run/full/signalled-ready"):
        os.sched_yield()
    open("/run/full/identity", "w").close()
    os.wait()


main()
