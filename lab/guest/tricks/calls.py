"""Tricks that are made of system calls that Python has no name for. Importing ctypes takes an emulated guest long."""

import ctypes
import os
import struct

from common import held, here, victim, wait_for

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

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


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


def tracing():
    traced = victim()["pid"]

    def act():
        check(libc.ptrace(PTRACE_SEIZE, traced, None, None))
        return {}

    return {"pid": traced, "tracer": here(act)["pid"]}


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
    "inject-memory": memory_of_its_own,
    "inject-process": memory_of_another,
    "trace-process": tracing,
    "bpf-kprobe": bpf_kprobe,
    "bpf-writer": bpf_writer,
}
