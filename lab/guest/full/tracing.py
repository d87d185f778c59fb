"""What looks on, and may change what runs: BPF programs and maps, kprobes, uprobes, function tracing, events."""

import ctypes
import os
import signal
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
SYS_PERF_EVENT_OPEN = 298
SYS_BPF = 321
MAP_CREATE, PROG_LOAD, RAW_TRACEPOINT_OPEN, MAP_FREEZE, LINK_CREATE = 0, 5, 17, 22, 28
HASH, ARRAY, PERCPU_ARRAY = 1, 2, 6
SOCKET_FILTER, KPROBE, TRACEPOINT, CGROUP_SKB, RAW_TRACEPOINT, TRACING_PROGRAM = 1, 2, 5, 8, 17, 26
TRACE_FENTRY, PERF_EVENT = 24, 41
SO_ATTACH_BPF = 50
PERF_TYPE_TRACEPOINT = 2
PERF_EVENT_IOC_SET_BPF = 0x40042408
TRACING = "/sys/kernel/tracing"
INSTANCE = TRACING + "/instances/lab"

EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
RETURN_0 = struct.pack("<BBhi", 0xB7, 0, 0, 0) + EXIT


def system(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def bpf(command, attributes):
    return system(SYS_BPF, command, ctypes.create_string_buffer(attributes, 144), 144)


def new_map(kind, name, key, value, entries, flags=0):
    return bpf(MAP_CREATE, struct.pack("<7I16s", kind, key, value, entries, flags, 0, 0, name))


def uses(*maps):
    """ld_imm64 r1, map"""
    return b"".join(struct.pack("<BBhiBBhi", 0x18, 0x11, 0, fd, 0, 0, 0, 0) for fd in maps)


def new_program(kind, name, code, expected=0, function=0):
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(65536)
    head = struct.pack("<IIQQIIQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence), 1, len(log), ctypes.addressof(log))
    return bpf(PROG_LOAD, head + struct.pack("<II16sII36xI", 0, 0, name, 0, expected, function))


def type_of_function(name):
    """The BTF id of a kernel function: types have no index, so all before it are counted."""
    with open("/sys/kernel/btf/vmlinux", "rb") as file:
        data = file.read()
    length, types, types_size, strings, strings_size = struct.unpack_from("<IIIII", data, 4)
    wanted = data.index(b"\0" + name + b"\0", length + strings) + 1 - length - strings
    words = memoryview(data)[length + types : length + types + types_size].cast("I")
    # Words of a type by its kind, and of each of its members.
    fixed = [3] * 32
    fixed[1] = fixed[14] = fixed[17] = 4
    fixed[3] = 6
    each = [0] * 32
    each[4] = each[5] = each[15] = each[19] = 3
    each[6] = each[13] = 2
    at = 0
    number = 1
    while True:
        info = words[at + 1]
        kind = info >> 24 & 31
        if kind == 12 and words[at] == wanted:
            return number
        at += fixed[kind] + each[kind] * (info & 0xFFFF)
        number += 1


def write(path, text):
    """False where this kernel has no such file, or refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    try:
        os.write(fd, text.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def perf_event(event):
    """An event of tracefs as perf has it."""
    with open(f"{TRACING}/events/{event}/id") as file:
        number = int(file.read())
    attributes = ctypes.create_string_buffer(struct.pack("<IIQQ", PERF_TYPE_TRACEPOINT, 112, number, 1), 112)
    return system(SYS_PERF_EVENT_OPEN, attributes, -1, 0, -1, 0)


for kind, path in (b"debugfs", b"/sys/kernel/debug"), (b"tracefs", TRACING.encode()):
    if not os.path.ismount(path):
        libc.mount(b"none", path, kind, 0, None)

array = new_map(ARRAY, b"lab_array", 4, 16, 8)
table = new_map(HASH, b"lab_hash", 8, 24, 100)
counters = new_map(PERCPU_ARRAY, b"lab_counters", 4, 8, 2)
bpf(MAP_FREEZE, struct.pack("<I", array))

receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, new_program(SOCKET_FILTER, b"lab_filter", uses(array, table) + RETURN_0))
# A function of its own that is called: compiled apart.
call = struct.pack("<BBhi", 0x85, 0x10, 0, 1) + EXIT
new_program(SOCKET_FILTER, b"lab_calls", call + RETURN_0)
raw = new_program(RAW_TRACEPOINT, b"lab_raw", uses(table) + RETURN_0)
name = ctypes.create_string_buffer(b"sched_process_exit")
link = bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(name), raw))
program = new_program(TRACEPOINT, b"lab_tracepoint", uses(counters) + RETURN_0)
libc.ioctl(perf_event("sched/sched_process_exec"), PERF_EVENT_IOC_SET_BPF, program)
entry = new_program(TRACING_PROGRAM, b"lab_fentry", RETURN_0, TRACE_FENTRY, type_of_function(b"vfs_symlink"))
try:
    entry_link = bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, entry))
except OSError:
    # Needs the function tracer.
    pass
os.makedirs("/sys/fs/cgroup/tracing.slice", exist_ok=True)
group = os.open("/sys/fs/cgroup/tracing.slice", os.O_RDONLY | os.O_DIRECTORY)
egress = new_program(CGROUP_SKB, b"lab_egress", struct.pack("<BBhi", 0xB7, 0, 0, 1) + EXIT, 1)
group_link = bpf(LINK_CREATE, struct.pack("<4I", egress, group, 1, 0))

events = TRACING + "/kprobe_events"
# A probe and a return probe of one function share a place; the others are at a place in the middle, in a module, and off.
write(events, "p:lab/entry vfs_fsync_range")
write(events, "r:lab/return vfs_fsync_range")
write(events, "p:lab/module dummy:dummy_xmit")
write(events, "p:lab/off vfs_truncate")
write(events, "p:lab/program vfs_rmdir")
# Only where an instruction begins.
any(write(events, f"p:lab/middle vfs_mkdir+{offset}") for offset in range(9, 64))
for event in "entry", "return", "module", "middle":
    write(f"{TRACING}/events/lab/{event}/enable", "1")
probe_link = bpf(LINK_CREATE, struct.pack("<4I", new_program(KPROBE, b"lab_kprobe", RETURN_0), perf_event("lab/program"), PERF_EVENT, 0))

with open("/tmp/probed", "wb") as file:
    file.write(b"\x90" * 8192)
write(TRACING + "/uprobe_events", "p:lab/user /tmp/probed:0x1010")
write(f"{TRACING}/events/lab/user/enable", "1")

os.makedirs(INSTANCE, exist_ok=True)
for function in "vfs_fallocate", "vfs_mknod":
    write(INSTANCE + "/set_ftrace_filter", function)
write(INSTANCE + "/current_tracer", "function")
for event in "sched/sched_process_fork", "module/module_load", "vsock/virtio_transport_alloc_pkt", "lab/entry":
    write(f"{INSTANCE}/events/{event}/enable", "1")
write(TRACING + "/events/signal/signal_generate/enable", "1")

open("/run/full/tracing", "w").close()
signal.pause()
