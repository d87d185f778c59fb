"""Does one thing that an intruder's program does: python3 -I -S play.py NAME.

Prints what whoever looks for it should find, as KEY=VALUE lines, and leaves running what has to run for it. The processes
are listed in /run/tricks/NAME: the trick is off when they are killed.
"""

import ctypes
import os
import signal
import socket
import struct
import sys
import time

BUSYBOX = "/bin/busybox"
PYTHON = "/usr/bin/python3"
HOLD = "exec 3<>/run/hold; read x <&3"
ENVIRONMENT = {"PATH": "/bin:/usr/bin", "HOME": "/root"}
# push %rbp; mov %rsp,%rbp; mov $42,%eax; pop %rbp; ret, and so on: what functions look like.
CODE = bytes.fromhex("55 4889e5 b82a000000 5d c3" + "90" * 5) * 16

PROT_RWX = 7
MAP_PRIVATE_ANONYMOUS = 0x22
PTRACE_SINGLESTEP, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE = 9, 12, 13, 16, 17, 0x4206
SYS_READ, SYS_POLL = "0", "7"
SYS_MMAP = 9
SYS_GETDENTS64 = 217
SYS_PERF_EVENT_OPEN = 298
SYS_BPF = 321
PROG_LOAD, RAW_TRACEPOINT_OPEN = 5, 17
KPROBE, RAW_TRACEPOINT = 2, 17
PERF_EVENT_IOC_SET_BPF = 0x40042408
ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
started = []


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def spawn(path, argv, environment=ENVIRONMENT, prepare=None):
    """A program in a session of its own; returns when it runs."""
    pid = os.fork()
    if pid:
        started.append(pid)
        wait_for(lambda: os.readlink("/proc/%d/exe" % pid) != os.readlink("/proc/self/exe") or path == PYTHON)
        return pid
    try:
        os.setsid()
        if prepare:
            prepare()
        os.execve(path, argv, environment)
    finally:
        os._exit(127)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the trick did not come about")
        time.sleep(0.01)


def here(act):
    """A process of this program itself that does something and stays; returns its pid and what `act` returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        started.append(pid)
        os.close(writer)
        with os.fdopen(reader) as told:
            evidence = dict(line.split("=", 1) for line in told.read().splitlines())
        if evidence.pop("error", None):
            raise RuntimeError("the trick failed")
        return {"pid": pid, **evidence}
    os.close(reader)
    try:
        os.setsid()
        evidence = act()
        os.write(writer, "".join(f"{key}={value}\n" for key, value in evidence.items()).encode())
    except BaseException as error:
        os.write(2, b"tricks: %r\n" % error)
        os.write(writer, b"error=1\n")
    os.close(writer)
    silence()
    while True:
        signal.pause()


def silence():
    """Lets go of the output, which the lab reads to its end."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in 0, 1, 2:
        os.dup2(null, fd)


def victim():
    """A process that sleeps, whose user id nobody else has."""

    def prepare():
        uid = 20000 + os.getpid()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    return {"pid": spawn(BUSYBOX, ["sh", "-c", HOLD, "victim"], ENVIRONMENT, prepare)}


def memory_of_its_own():
    """Code that was written into memory, and run there."""

    def act():
        address = libc.mmap(None, 4096, PROT_RWX, MAP_PRIVATE_ANONYMOUS, -1, 0)
        ctypes.memmove(address, CODE, len(CODE))
        if ctypes.CFUNCTYPE(ctypes.c_int)(address)() != 42:
            raise RuntimeError("the code did not run")
        return {"address": hex(address)}

    return here(act)


def memory_of_another():
    """Has another process map memory, at the system call it waits in, and writes code there."""
    pid = victim()["pid"]
    wait_for(lambda: open("/proc/%d/syscall" % pid).read().split()[0] in (SYS_READ, SYS_POLL))
    check(libc.ptrace(PTRACE_ATTACH, pid, None, None))
    os.waitpid(pid, 0)
    registers = (ctypes.c_ulong * 27)()
    check(libc.ptrace(PTRACE_GETREGS, pid, None, ctypes.addressof(registers)))
    call = (ctypes.c_ulong * 27)(*registers)
    # user_regs_struct: r10, r9, r8, rax, rdx, rsi, rdi, orig_rax and rip, which is behind the two bytes of SYSCALL.
    values = {7: MAP_PRIVATE_ANONYMOUS, 8: 0, 9: -1, 10: SYS_MMAP, 12: PROT_RWX, 13: 4096, 14: 0, 15: -1, 16: registers[16] - 2}
    for index, value in values.items():
        call[index] = value & (1 << 64) - 1
    check(libc.ptrace(PTRACE_SETREGS, pid, None, ctypes.addressof(call)))
    check(libc.ptrace(PTRACE_SINGLESTEP, pid, None, None))
    os.waitpid(pid, 0)
    check(libc.ptrace(PTRACE_GETREGS, pid, None, ctypes.addressof(call)))
    address = call[10]
    check(libc.ptrace(PTRACE_SETREGS, pid, None, ctypes.addressof(registers)))
    check(libc.ptrace(PTRACE_DETACH, pid, None, None))
    memory = os.open("/proc/%d/mem" % pid, os.O_WRONLY)
    os.pwrite(memory, CODE, address)
    os.close(memory)
    return {"pid": pid, "address": hex(address)}


def deleted_executable():
    path = "/tmp/.trick"
    with open(BUSYBOX, "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    os.chmod(path, 0o755)
    pid = spawn(path, ["sh", "-c", 'rm "$0"; ' + HOLD, path])
    wait_for(lambda: not os.path.exists(path))
    return {"pid": pid, "path": path}


def memory_executable():
    writer = os.memfd_create("trick")
    with open(BUSYBOX, "rb") as source:
        os.write(writer, source.read())
    # A file that someone holds open for writing can't be executed.
    reader = os.open("/proc/self/fd/%d" % writer, os.O_RDONLY | os.O_CLOEXEC)
    os.close(writer)
    return {"pid": spawn("/proc/self/fd/%d" % reader, ["sh", "-c", HOLD]), "path": "/memfd:trick"}


def tracing():
    traced = victim()["pid"]

    def act():
        check(libc.ptrace(PTRACE_SEIZE, traced, None, None))
        return {}

    return {"pid": traced, "tracer": here(act)["pid"]}


def preloaded_library():
    path = "/tmp/.trick.so"
    with open("/proc/self/maps") as maps:
        library = next(line.split()[-1] for line in maps if "libz.so" in line)
    with open(library, "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    argv = ["python3", "-I", "-S", "-c", "import signal; signal.pause()"]
    pid = spawn(PYTHON, argv, {**ENVIRONMENT, "LD_PRELOAD": path})
    wait_for(lambda: path in open("/proc/%d/maps" % pid).read())
    return {"pid": pid, "path": path}


def false_name():
    """Its name and its arguments are those of a thread of the kernel."""
    name = b"[kworker/0:1]"

    def act():
        with open("/proc/self/stat") as stat:
            start, end = (int(word) for word in stat.read().rpartition(")")[2].split()[45:47])
        ctypes.memmove(start, name.ljust(end - start, b"\0"), end - start)
        with open("/proc/self/comm", "wb") as comm:
            comm.write(name.strip(b"[]"))
        return {"name": name.strip(b"[]").decode(), "path": os.readlink("/proc/self/exe")}

    return here(act)


held = []


def raw_socket():
    def act():
        held.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        return {}

    return here(act)


def packet_socket():
    def act():
        held.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        return {}

    return here(act)


def promiscuous_interface():
    """Until its socket is closed, the interface takes every packet."""
    interface = "dummy0"

    def act():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        request = struct.pack("iHH8x", socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0)
        sniffer.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        held.append(sniffer)
        return {"interface": interface}

    return here(act)


def listener():
    """A port for the module to hide."""

    def act():
        server = socket.create_server(("127.0.0.1", 31337))
        held.append(server)
        return {"port": server.getsockname()[1]}

    return here(act)


def system(number, *arguments):
    return check(libc.syscall(number, *arguments))


def instruction(code, destination=0, source=0, offset=0, value=0):
    return struct.pack("<BBhi", code, destination | source << 4, offset, value)


def bpf(command, attributes):
    return system(SYS_BPF, command, ctypes.create_string_buffer(attributes, 144), 144)


def program(kind, name, code):
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    head = struct.pack("<IIQQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence))
    return bpf(PROG_LOAD, head + struct.pack("<IIQII16s", 0, 0, 0, 0, 0, name))


RETURN_0 = instruction(0xB7) + instruction(0x95)


def bpf_kprobe():
    """A program that is called at each listing of a folder."""

    def act():
        function = ctypes.create_string_buffer(b"__x64_sys_getdents64")
        with open("/sys/bus/event_source/devices/kprobe/type") as kind:
            number = int(kind.read())
        # type, size, config, period, ..., config1 (the function's name), config2 (the offset in it)
        event = struct.pack("<IIQQ32xQQ48x", number, 120, 0, 1, ctypes.addressof(function), 0)
        attributes = ctypes.create_string_buffer(event, 120)
        descriptor = system(SYS_PERF_EVENT_OPEN, attributes, -1, 0, -1, 0)
        check(libc.ioctl(descriptor, PERF_EVENT_IOC_SET_BPF, program(KPROBE, b"trick_kprobe", RETURN_0)))
        return {"name": "trick_kprobe", "symbol": function.value.decode()}

    return here(act)


def bpf_writer():
    """A program that is called at each system call, and may write into the memory of who makes it."""

    def act():
        code = (
            # The second argument of the tracepoint is the number of the system call.
            instruction(0x79, 1, 1, 8),
            instruction(0x55, 1, 0, 6, SYS_GETDENTS64),
            instruction(0x7A, 10, 0, -8),
            instruction(0xB7, 1),
            instruction(0xBF, 2, 10),
            instruction(0x07, 2, 0, 0, -8),
            instruction(0xB7, 3, 0, 0, 8),
            # bpf_probe_write_user
            instruction(0x85, 0, 0, 0, 36),
        )
        name = ctypes.create_string_buffer(b"sys_enter")
        loaded = program(RAW_TRACEPOINT, b"trick_writer", b"".join(code) + RETURN_0)
        held.append(bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), loaded)))
        return {"name": "trick_writer", "symbol": "sys_enter"}

    return here(act)


PROGRAMS = {
    "victim": victim,
    "listener": listener,
    "inject-memory": memory_of_its_own,
    "inject-process": memory_of_another,
    "deleted-executable": deleted_executable,
    "memory-executable": memory_executable,
    "trace-process": tracing,
    "preload-library": preloaded_library,
    "false-name": false_name,
    "raw-socket": raw_socket,
    "packet-socket": packet_socket,
    "promiscuous-interface": promiscuous_interface,
    "bpf-kprobe": bpf_kprobe,
    "bpf-writer": bpf_writer,
}


def main():
    _, name, run_as = sys.argv
    try:
        evidence = PROGRAMS[name]()
    finally:
        os.makedirs("/run/tricks", exist_ok=True)
        with open("/run/tricks/" + run_as, "w") as pids:
            pids.write(" ".join(str(pid) for pid in started))
    for key, value in evidence.items():
        print(f"{key}={value}")


main()
