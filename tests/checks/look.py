"""Looks from inside a guest whether something is so: python3 -I -S look.py WHAT [ARGUMENT]... ends with 0 or 1."""

import _socket
import _struct
import os
import sys


def memory(address, size):
    """Of the kernel, by its own file of itself in the form of a core dump."""
    with open("/proc/kcore", "rb", 0) as core:
        head = core.read(64)
        table, entry, count = _struct.unpack_from("<Q", head, 32)[0], *_struct.unpack_from("<HH", head, 54)
        core.seek(table)
        for at in range(count):
            kind, _, offset, start, _, length = _struct.unpack_from("<IIQQQQ", core.read(entry))
            if kind == 1 and start <= address < start + length:
                found = offset + address - start
        core.seek(found)
        return core.read(size)


def points(address, target):
    """A pointer of the kernel is this one."""
    return memory(int(address, 0), 8) == _struct.pack("<Q", int(target, 0))


def gate(address, target):
    """An interrupt's handler is this one."""
    low, middle, high = _struct.unpack("<H4xHI", memory(int(address, 0), 12))
    return low | middle << 16 | high << 32 == int(target, 0)


def bytes_at(address, code):
    """The code there begins like this."""
    return memory(int(address, 0), len(code) // 2) == bytes.fromhex(code)


def lacks(pid):
    """The list of all tasks has no process of this one's user: getpriority() walks it, and /proc does not."""
    try:
        os.getpriority(os.PRIO_USER, 20000 + int(pid))
        return False
    except ProcessLookupError:
        return True


def hangup(errno):
    """vhangup() fails so."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return libc.vhangup() < 0 and ctypes.get_errno() == int(errno)


def connects(port):
    client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    return client.connect_ex(("127.0.0.1", int(port))) == 0


def types():
    """A key is pressed on a terminal."""
    master, _ = os.openpty()
    return os.write(master, b"x") == 1


_, what, *rest = sys.argv
sys.exit(not globals()[what](*rest))
