"""A process whose first thread has ended while another runs: all that /proc/PID tells of it then is in /proc/PID/task/TID."""

import _thread
import ctypes
import mmap
import os
import signal
import socket
import time

libc = ctypes.CDLL(None, use_errno=True)
SYS_exit = 60
# Not the name of the program: Python looks for its library from there.
PROGRAM, PYTHON = "/tmp/.headless", "/usr/bin/python3"

if os.environ.get("HEADLESS") is None:
    with open(PYTHON, "rb") as source, open(PROGRAM, "wb") as target:
        target.write(source.read())
    os.chmod(PROGRAM, 0o755)
    os.chdir("/var/log")
    environment = {"PATH": "/bin:/usr/bin", "HEADLESS": "its environment"}
    os.execve(PROGRAM, [PYTHON, "-S", "/lab/full/threads.py", "headless argument"], environment)

memfd = os.memfd_create("headless")
os.write(memfd, b"what it hides\n")
held = os.open("/tmp/headless-open", os.O_RDWR | os.O_CREAT, 0o600)
server = socket.create_server(("127.0.0.1", 7098))
client = socket.create_connection(("127.0.0.1", 7098))
accepted = server.accept()
code = mmap.mmap(-1, 8192, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
code[:8] = bytes.fromhex("554889e531c05dc3")
os.unlink(PROGRAM)


def rest():
    task = "/proc/self/task/%d/stat" % os.getpid()
    while open(task).read().rpartition(") ")[2][0] != "Z":
        time.sleep(0.01)
    open("/run/full/threads", "w").close()
    while True:
        time.sleep(100_000)


signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
_thread.start_new_thread(rest, ())
libc.syscall(SYS_exit, 0)
