"""Descriptors of every kind, and mounts: a bind mount, one in a namespace of its own, a disk, and files on them."""

import ctypes
import mmap
import os
import signal
import socket

libc = ctypes.CDLL(None, use_errno=True)
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


MS_BIND = 4096
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x44000

MS_RDONLY, MS_SYNCHRONOUS, MS_REMOUNT, MS_NOATIME = 1, 16, 32, 1024

for folder in ("/mnt", "/mnt/tmpfs", "/mnt/bound", "/mnt/source", "/mnt/frozen", "/mnt/thawed"):
    os.makedirs(folder, exist_ok=True)
check(libc.mount(b"labfs", b"/mnt/tmpfs", b"tmpfs", 6, b"size=1m,mode=700"))
with open("/mnt/source/file", "w") as file:
    file.write("bound\n" * 100)
check(libc.mount(b"/mnt/source", b"/mnt/bound", None, MS_BIND, None))
# A file system made read-only while another mount of it stays as it was.
check(libc.mount(b"frozen", b"/mnt/frozen", b"tmpfs", MS_NOATIME, b"nr_blocks=100,nr_inodes=50"))
open("/mnt/frozen/file", "w").close()
check(libc.mount(b"/mnt/frozen", b"/mnt/thawed", None, MS_BIND, None))
check(libc.mount(b"frozen", b"/mnt/frozen", None, MS_REMOUNT | MS_RDONLY | MS_SYNCHRONOUS, None))

locked = mmap.mmap(-1, 16384)
check(libc.mlock(ctypes.addressof(ctypes.c_char.from_buffer(locked)), 8192))

def disk():
    """A file system on a block device: a file with a hole, and one of which the cache has lost all but a few pages."""
    with open("/tmp/disk.img", "wb") as image:
        image.truncate(8 << 20)
    os.makedirs("/mnt/disk")
    if os.system("mke2fs -F -b 4096 /tmp/disk.img >/dev/null && mount -t ext2 -o loop /tmp/disk.img /mnt/disk"):
        raise OSError("no file system on a block device")
    with open("/mnt/disk/sparse", "wb") as file:
        file.write(b"head\n" * 100)
        file.seek(10 * 4096)
        file.write(b"tail\n" * 2000)
    with open("/mnt/disk/partial", "wb") as file:
        for page in range(64):
            file.write(b"page %4d\n" % page * 409 + b".....\n")
    os.sync()
    partial = os.open("/mnt/disk/partial", os.O_RDONLY)
    os.posix_fadvise(partial, 0, 0, os.POSIX_FADV_DONTNEED)
    # Nothing is read ahead.
    os.posix_fadvise(partial, 0, 0, os.POSIX_FADV_RANDOM)
    for page in (0, 10, 11, 40):
        os.pread(partial, 100, page * 4096)
    return partial


held = [
    disk(),
    os.open("/mnt/bound/file", os.O_RDONLY),
    os.open("/mnt/tmpfs/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640),
    os.open("/mnt", os.O_RDONLY | os.O_DIRECTORY),
    os.open("/etc/passwd", 0o10000000),
    os.open("/proc/self/ns/net", os.O_RDONLY),
    *os.pipe(),
    check(libc.epoll_create1(0)),
    check(libc.eventfd(3, 0)),
    check(libc.timerfd_create(1, 0)),
    check(libc.inotify_init1(0)),
    check(libc.syscall(434, os.getpid(), 0)),
]
os.write(held[2], b"one line\n")
os.lseek(held[1], 42, os.SEEK_SET)
pair = socket.socketpair()
os.mkfifo("/tmp/fifo")
fifo = os.open("/tmp/fifo", os.O_RDWR)
odd = os.open("/mnt/tmpfs/odd \\ name\t(deleted)", os.O_RDWR | os.O_CREAT)

# Values that a 64-bit float does not hold: a size, a position, and where a mapping begins.
vast = os.open("/mnt/tmpfs/vast", os.O_RDWR | os.O_CREAT)
os.ftruncate(vast, (1 << 62) + 12345)
os.lseek(vast, (1 << 62) + 77, os.SEEK_SET)
far = mmap.mmap(vast, 4096, offset=1 << 60)
far[:4] = b"far\n"
os.pwrite(vast, b"end\n", (1 << 62) + 12341)

# A working directory that is removed.
os.mkdir("/tmp/removed")
os.chdir("/tmp/removed")
os.rmdir("/tmp/removed")

if not os.fork():
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(None, b"/", None, MS_REC_PRIVATE, None))
    check(libc.mount(b"hidden", b"/mnt/source", b"tmpfs", 0, None))
    inner = os.open("/mnt/source/inner", os.O_RDWR | os.O_CREAT)
    open("/run/full/files", "w").close()
    signal.pause()
signal.pause()
