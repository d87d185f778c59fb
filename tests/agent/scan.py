"""Holds texts where a scan has to find them: over a page border of the heap, in a memfd, and in a file without a name.

The texts come as hexadecimal digits of their bytes XOR 0x55, so that they are nowhere else in memory."""

import ctypes
import os
import signal
import sys

heap, memfd, deleted = sys.argv[1:4]


def put(into, at, digits):
    for i in range(0, len(digits), 2):
        into[at + i // 2] = int(digits[i : i + 2], 16) ^ 0x55


# Small enough to be on the heap, large enough to have a page's border in it.
room = bytearray(16384)
start = ctypes.addressof((ctypes.c_char * len(room)).from_buffer(room))
at = -start % 4096 + 4096 - 5
put(room, at, heap)

one = bytearray(4096 + 300)
put(one, 4096 + 7, memfd)
held = os.memfd_create("scanned")
os.write(held, one)
put(one, 4096 + 7, memfd.replace(memfd, "55" * (len(memfd) // 2)))

two = bytearray(200)
put(two, 100, deleted)
gone = os.open("/tmp/scan-gone", os.O_RDWR | os.O_CREAT)
os.write(gone, two)
os.unlink("/tmp/scan-gone")
put(two, 100, "55" * (len(deleted) // 2))

with open("/tmp/scan-ready", "w") as ready:
    ready.write(f"{os.getpid()} {start + at:#x}")
signal.pause()
