"""Files without a name in any directory: a memfd that is sealed, one that is mapped, and a deleted file kept open."""

import fcntl
import mmap
import os
import signal

F_ADD_SEALS = 1033
F_SEAL_WRITE = 8

sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
os.write(sealed, b"sealed content\n" * 500)
fcntl.fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE)
mapped = os.memfd_create("mapped")
os.truncate(mapped, 65536)
area = mmap.mmap(mapped, 65536)
area[4096:4100] = b"data"
deleted = os.open("/tmp/deleted-but-open", os.O_RDWR | os.O_CREAT, 0o600)
os.write(deleted, b"still here\n" * 1000)
os.unlink("/tmp/deleted-but-open")
open("/run/full/memfd", "w").close()
signal.pause()
