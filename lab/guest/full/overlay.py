"""Programs and a library on an overlay, as every container has them: of its lower layer and of its upper one, and deleted."""

import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
BUSYBOX, LIBRARY = "/bin/busybox", "/lib/x86_64-linux-gnu/libz.so.1"
HOLD = "exec 3<>/run/hold; read x <&3"


def copy(source, target):
    with open(source, "rb") as original, open(target, "wb") as made:
        made.write(original.read())
    os.chmod(target, 0o755)
    return target


def run(path, argument):
    pid = os.posix_spawn(path, ["sh", "-c", HOLD, argument], {"PATH": "/bin:/usr/bin"})
    while os.readlink("/proc/%d/exe" % pid) != path:
        pass


layers = {name: "/tmp/overlay/" + name for name in ("lower", "upper", "work")}
for folder in (*layers.values(), "/mnt/overlay"):
    os.makedirs(folder)
copy(BUSYBOX, layers["lower"] + "/lower-program")
options = "lowerdir=%(lower)s,upperdir=%(upper)s,workdir=%(work)s" % layers
if libc.mount(b"overlay", b"/mnt/overlay", b"overlay", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "overlay")
run("/mnt/overlay/lower-program", "lower program")
run(copy(BUSYBOX, "/mnt/overlay/upper-program"), "upper program")
deleted = copy(BUSYBOX, "/mnt/overlay/deleted-program")
run(deleted, "deleted program")
os.unlink(deleted)

library = ctypes.CDLL(copy(LIBRARY, "/mnt/overlay/library.so"))
held = os.open("/mnt/overlay/lower-program", os.O_RDONLY)
# Code that differs from the file's.
place = ctypes.cast(library.zlibVersion, ctypes.c_void_p).value
if libc.mprotect(place & -4096, 4096, PROT_READ | PROT_WRITE | PROT_EXEC):
    raise OSError(ctypes.get_errno(), "mprotect")
ctypes.memmove(place, b"\x0f\x0b\x0f\x0b", 4)
libc.mprotect(place & -4096, 4096, PROT_READ | PROT_EXEC)
open("/run/full/overlay", "w").close()
signal.pause()
