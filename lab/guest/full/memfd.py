"""Files without a name in any directory: a memfd that is sealed, one that is mapped, one of huge pages, and a deleted file kept open."""

import fcntl
import mmap
import os
import signal

F_ADD_SEALS = 1033
F_SEAL_SHRINK, F_SEAL_WRITE = 2, 8

sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
os.write(sealed, b"sealed content\n" * 500)
fcntl.fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE)
mapped = os.memfd_create("mapped")
os.truncate(mapped, 65536)
area = mmap.mmap(mapped, 65536)
area[4096:4100] = b"data"
with open("/proc/sys/vm/nr_hugepages", "w") as setting:
    setting.write("2")
huge = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
os.truncate(huge, 6 << 20)
fcntl.fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK)
# Of three huge pages the last two are written, and no more are taken from the pool.
MAP_NORESERVE = 0x4000
huge_area = mmap.mmap(huge, 6 << 20, flags=mmap.MAP_SHARED | MAP_NORESERVE)
for page in (512, 1000, 1024):
    huge_area[page * 4096 : page * 4096 + 5] = b"%5d" % page
deleted = os.open("/tmp/deleted-but-open", os.O_RDWR | os.O_CREAT, 0o600)
os.write(deleted, b"still here\n" * 1000)
os.unlink("/tmp/deleted-but-open")
open("/run/full/memfd", "w").close()
signal.pause()
