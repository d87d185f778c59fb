"""Churns objects of every kind in a guest, each with its owner's process id in its name, until the guest ends.

Every name contains ownPID, every id is ID + PID, ports are SERVER + PID and CLIENT + PID: a row that mixes two owners
can be told from the row alone. The parents of the owners hold nothing of theirs, so nothing is inherited.
"""

import ctypes
import mmap
import os
import posix
import signal
import socket
import struct
import sys
import time
import _thread

BUSYBOX = "/bin/busybox"
TOP = "/tmp/busy"
CGROUPS = "/sys/fs/cgroup/busy"
ID, SERVER, CLIENT, LIMIT = 100000, 20000, 40000, 1 << 40
ADDRESS = "127.9.9.9"
CLONE_NEWNS, MS_REC_PRIVATE = 0x20000, 0x44000
PR_SET_NAME, SYS_CAPSET, SYS_PRLIMIT64, RLIMIT_RTTIME = 15, 126, 302, 15
# From here on up the bits of the process id are blocked signals.
FIRST_SIGNAL = 40
WINDOW = 6
ROUNDS = 13

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def identity(pid):
    """Everything that stays with a process, by its id."""
    own = "own%d" % pid
    folder = "%s/%s" % (TOP, own)
    libc.prctl(PR_SET_NAME, own.encode(), 0, 0, 0)
    os.makedirs(folder + "/mnt")
    os.makedirs("%s/%s" % (CGROUPS, own))
    with open("%s/%s/cgroup.procs" % (CGROUPS, own), "w") as file:
        file.write("0")
    if pid % 2:
        check(libc.unshare(CLONE_NEWNS))
        check(libc.mount(None, b"/", None, MS_REC_PRIVATE, None))
        check(libc.mount(own.encode(), (folder + "/mnt").encode(), b"tmpfs", 0, None))
    check(libc.syscall(SYS_PRLIMIT64, 0, RLIMIT_RTTIME, struct.pack("QQ", LIMIT + pid, LIMIT + pid), None))
    bits = [FIRST_SIGNAL + bit for bit in range(15) if pid >> bit & 1]
    signal.pthread_sigmask(signal.SIG_BLOCK, bits)
    sets = struct.pack("6I", 0xFFFFFFFF, 0xFFFFFFFF, pid, 0x1FF, 0x1FF, 0)
    check(libc.syscall(SYS_CAPSET, struct.pack("II", 0x20080522, 0), sets))
    os.chown(folder, ID + pid, ID + pid)
    os.chdir(folder)
    os.setgroups([ID + pid])
    os.setresgid(ID + pid, ID + pid, ID + pid)
    os.setresuid(ID + pid, ID + pid, ID + pid)
    return own


def hurried(connection):
    """Closing it leaves nothing behind, such as a TIME_WAIT, that holds the port."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return connection


class Object:
    """What a round has made, until it has had its time."""

    def __init__(self, pid, own, number):
        self.name = "%s-%d" % (own, number)
        self.file = os.open(self.name, os.O_RDWR | os.O_CREAT)
        os.write(self.file, b"x" * 5000)
        self.area = mmap.mmap(self.file, 4096)
        self.memfd = os.memfd_create(own)
        os.write(self.memfd, b"y" * 3000)
        if number % 2:
            self.memfd_area = mmap.mmap(self.memfd, 2048)
        if number % 3 == 0:
            os.rename(self.name, self.name + "-renamed")
            self.name += "-renamed"
        if number % 3 == 1:
            os.unlink(self.name)
            self.name = None
        self.sockets = [socket.socket(socket.AF_UNIX)]
        self.sockets[0].bind("\0%s-%d" % (own, number))
        self.sockets[0].listen(3)
        # Of one owner one round has the ports.
        if number % WINDOW == 0:
            server, client = hurried(socket.socket()), hurried(socket.socket())
            server.bind((ADDRESS, SERVER + pid))
            server.listen(2)
            client.bind((ADDRESS, CLIENT + pid))
            client.connect((ADDRESS, SERVER + pid))
            packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            packets.bind((ADDRESS, SERVER + pid))
            packets.connect((ADDRESS, CLIENT + pid))
            self.sockets += [hurried(server.accept()[0]), client, server, packets]

    def close(self):
        for one in self.sockets:
            one.close()
        self.area.close()
        os.close(self.file)
        os.close(self.memfd)
        if self.name:
            os.unlink(self.name)


def thread(own):
    libc.prctl(PR_SET_NAME, own.encode(), 0, 0, 0)
    time.sleep(0.005)


def churner():
    pid = os.getpid()
    own = identity(pid)
    held = []
    for number in range(ROUNDS):
        held.append(Object(pid, own, number))
        if number % 4 == 0:
            _thread.start_new_thread(thread, (own + "t",))
        if len(held) > WINDOW - 2:
            held.pop(0).close()
    for one in held:
        one.close()


def program():
    """Another program, by a name of its own, from a memfd, or from a file that has been removed."""
    pid = os.getpid()
    own = identity(pid)
    environment = {"OWNER": own, "LONG": "%s-" % own * 300}
    # It counts for a while, and forks nothing.
    argv = ["sh", "-c", "i=0; while [ $i -lt 400 ]; do i=$((i+1)); done", own, "%s-" % own * 200]
    os.set_inheritable(os.memfd_create(own), True)
    os.set_inheritable(os.open(own + "-open", os.O_RDWR | os.O_CREAT), True)
    os.link("../program", own)
    if pid % 4 < 2:
        os.execve(own, argv, environment)
    if pid % 4 == 2:
        reader = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
        os.unlink(own)
    else:
        writer = os.memfd_create(own)
        with open(BUSYBOX, "rb") as source:
            os.sendfile(writer, source.fileno(), 0, 1 << 26)
        # What is open for writing can't be executed.
        reader = os.open("/proc/self/fd/%d" % writer, os.O_RDONLY | os.O_CLOEXEC)
        os.close(writer)
    os.execve("/proc/self/fd/%d" % reader, argv, environment)


def spawn(main):
    pid = posix.fork()
    if pid:
        return pid
    try:
        main()
    except BaseException as error:
        posix.write(2, b"busy: %d: %r\n" % (os.getpid(), error))
        posix._exit(1)
    posix._exit(0)


def tidy(pid):
    """By name: a folder that is listed is open, and would be here and not with its owner."""
    own = "own%d" % pid
    folder = "%s/%s" % (TOP, own)
    for name in (own, own + "-open"):
        if os.path.exists(folder + "/" + name):
            os.unlink(folder + "/" + name)
    os.rmdir(folder + "/mnt")
    os.rmdir(folder)
    os.rmdir("%s/%s" % (CGROUPS, own))


def parent(main, most):
    libc.prctl(PR_SET_NAME, b"busy-parent", 0, 0, 0)
    running = set()
    while True:
        while len(running) < most:
            running.add(spawn(main))
        pid, _ = os.wait()
        running.discard(pid)
        try:
            tidy(pid)
        except OSError as error:
            posix.write(2, b"busy: tidy %d: %r\n" % (pid, error))


os.makedirs(TOP)
os.makedirs(CGROUPS)
with open(BUSYBOX, "rb") as source, open(TOP + "/program", "wb") as target:
    target.write(source.read())
os.chmod(TOP + "/program", 0o777)
for main, most in ((churner, 5), (program, 3)):
    if not posix.fork():
        os.setsid()
        parent(main, most)
open("/run/busy", "w").close()
