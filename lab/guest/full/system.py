"""Rights, namespaces, tracing and cgroups that a process may have beside the usual: one process for each."""

import ctypes
import os
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

CLONE_NEWTIME = 0x80
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 22, 24, 28, 38, 47
PTRACE_SEIZE, PTRACE_TRACEME = 0x4206, 0
PTRACE_O_TRACECLONE, PTRACE_O_TRACESECCOMP, PTRACE_O_EXITKILL = 0x8, 0x80, 0x100000
CAP_CHOWN, CAP_NET_BIND_SERVICE, CAP_SYS_PTRACE, CAP_SYS_TIME = 0, 10, 19, 25
SECBIT_NOROOT, SECBIT_KEEP_CAPS_LOCKED = 1, 32


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(*arguments):
    return check(libc.prctl(*(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:5])))


def child(name, prepare):
    """A process with a name of its own that prepares itself and then sleeps for ever; returns once it is prepared."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        if os.read(reader, 1) != b"1":
            raise RuntimeError(name + " did not get ready")
        os.close(reader)
        return pid
    try:
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
        prepare(lambda: os.write(writer, b"1"))
    except BaseException as error:
        os.write(2, b"system: %s: %r\n" % (name.encode(), error))
    os._exit(1)


def forever(ready):
    ready()
    while True:
        signal.pause()


def capset(effective, permitted, inheritable):
    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Data(ctypes.Structure):
        _fields_ = [(key, ctypes.c_uint32) for key in ("effective", "permitted", "inheritable")]

    header = Header(0x20080522, 0)
    data = (Data * 2)(Data(effective, permitted, inheritable), Data(0, 0, 0))
    check(libc.capset(ctypes.byref(header), data))


def capabilities(ready):
    """Each of the five sets differs from the others."""
    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS_LOCKED)
    for capability in (CAP_SYS_TIME, 39):
        prctl(PR_CAPBSET_DROP, capability)
    bind, trace, chown = 1 << CAP_NET_BIND_SERVICE, 1 << CAP_SYS_PTRACE, 1 << CAP_CHOWN
    capset(bind | chown, bind | trace | chown, bind | trace)
    prctl(PR_CAP_AMBIENT, 2, CAP_NET_BIND_SERVICE)
    forever(ready)


def groups(ready):
    if os.path.exists("/proc/self/loginuid"):
        write("/proc/self/loginuid", "2001")
    os.setgroups(range(5000, 5300))
    os.setresgid(4001, 4002, 4003)
    os.setresuid(3001, 3002, 3003)
    forever(ready)


def no_new_privileges(ready):
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    forever(ready)


def seccomp_filter(ready):
    """Two filters that allow everything: BPF_RET | BPF_K, SECCOMP_RET_ALLOW."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    program = Program(1, bytes.fromhex("06000000" + "0000ff7f"))
    for _ in range(2):
        prctl(PR_SET_SECCOMP, 2, ctypes.addressof(program))
    forever(ready)


def seccomp_strict(ready):
    """Nothing but read, write and exit from here on, nor the time stamp counter: so without Python's own lock."""
    plain = ctypes.PyDLL(None)
    prctl_, read, buffer = plain.prctl, plain.read, ctypes.create_string_buffer(1)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    read(reader, buffer, 1)
    ready()
    prctl_(PR_SET_SECCOMP, 1, 0, 0, 0)
    read(reader, buffer, 1)


def own_user_namespace(ready):
    check(libc.unshare(CLONE_NEWUSER))
    with open("/proc/self/uid_map", "w") as ids:
        ids.write("0 0 1")
    forever(ready)


def own_time(ready):
    """Its child is in the namespaces for children."""
    check(libc.unshare(CLONE_NEWTIME))
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write("monotonic 86400 0\nboottime 86400 0")
    child("sys-time-child", forever)
    forever(ready)


def nested_pids(ready):
    """A process that is 1 in a namespace within a namespace, made by one whose children are elsewhere than itself."""
    check(libc.unshare(CLONE_NEWPID | CLONE_NEWCGROUP))

    def within(inner_ready):
        check(libc.unshare(CLONE_NEWPID))
        child("sys-pid-inner", forever)
        forever(inner_ready)

    child("sys-pid-outer", within)
    forever(ready)


def traced(ready):
    check(libc.ptrace(PTRACE_TRACEME, 0, None, None))
    ready()
    os.kill(os.getpid(), signal.SIGSTOP)


def tracer(ready):
    """Has stopped one process and watches another."""
    stopped = child("sys-traced", traced)
    os.waitpid(stopped, 0)
    watched = child("sys-seized", forever)
    options = PTRACE_O_TRACECLONE | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL
    check(libc.ptrace(PTRACE_SEIZE, watched, None, options))
    forever(ready)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def cgroups():
    """Groups with controllers, one of which is of threads; one that is frozen; one that is deep."""
    top = "/sys/fs/cgroup"
    for path in ("sys.slice", "sys.slice/app.service", "sys.slice/empty", "sys.slice/threads", "sys.slice/threads/pool", "sys.slice/a/b/c"):
        os.makedirs(f"{top}/{path}", exist_ok=True)
    write(f"{top}/cgroup.subtree_control", "+pids +cpu +memory")
    write(f"{top}/sys.slice/cgroup.subtree_control", "+pids +memory")
    write(f"{top}/sys.slice/a/cgroup.subtree_control", "+pids")
    write(f"{top}/sys.slice/threads/pool/cgroup.type", "threaded")
    write(f"{top}/sys.slice/app.service/pids.max", "50")


def in_cgroup(ready):
    write("/sys/fs/cgroup/sys.slice/app.service/cgroup.procs", "0")
    forever(ready)


def shell():
    """An interactive shell that has told its own history. The terminal stays open."""
    pid, terminal = os.forkpty()
    if not pid:
        os.execve("/bin/bash", ["bash", "--norc", "-i"], {"PATH": "/bin:/usr/bin", "HOME": "/run", "TERM": "dumb"})
    lines = ["echo caf\u00e9", "true 'two", "lines'", "true first", "history -d 4", "true " + "long " * 200]
    for line in (*lines, "HISTTIMEFORMAT='%s ' history > /run/system-history"):
        os.write(terminal, line.encode() + b"\n")
    return terminal


terminal = shell()
cgroups()
child("sys-caps", capabilities)
child("sys-groups", groups)
child("sys-nnp", no_new_privileges)
child("sys-filter", seccomp_filter)
child("sys-strict", seccomp_strict)
child("sys-userns", own_user_namespace)
child("sys-pidns", nested_pids)
child("sys-tracer", tracer)
child("sys-cgroup", in_cgroup)
write("/sys/fs/cgroup/sys.slice/empty/cgroup.freeze", "1")
try:
    child("sys-timens", own_time)
except RuntimeError:
    # Before 5.6, or without CONFIG_TIME_NS.
    pass
while not os.path.exists("/run/system-history"):
    time.sleep(0.01)
write("/run/full/system", "")
signal.pause()
