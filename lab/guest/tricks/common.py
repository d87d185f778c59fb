"""What the programs of the tricks share: processes that are started and stay."""

import _signal
import os
import time

BUSYBOX = "/bin/busybox"
PYTHON = "/usr/bin/python3"
HOLD = "exec 3<>/run/hold; read x <&3"
ENVIRONMENT = {"PATH": "/bin:/usr/bin", "HOME": "/root"}

started = []
# Open until the process ends.
held = []


def spawn(path, argv, environment=ENVIRONMENT, prepare=None):
    """A program in a session of its own; returns when it runs."""
    pid = os.fork()
    if pid:
        started.append(pid)
        wait_for(lambda: os.readlink("/proc/%d/exe" % pid) != os.readlink("/proc/self/exe") or path == PYTHON)
        return pid
    try:
        os.setsid()
        if prepare:
            prepare()
        os.execve(path, argv, environment)
    finally:
        os._exit(127)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the trick did not come about")
        time.sleep(0.01)


def here(act):
    """A process of this program itself that does something and stays; returns its pid and what `act` returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        started.append(pid)
        os.close(writer)
        with os.fdopen(reader) as told:
            evidence = dict(line.split("=", 1) for line in told.read().splitlines())
        if evidence.pop("error", None):
            raise RuntimeError("the trick failed")
        return {"pid": pid, **evidence}
    os.close(reader)
    try:
        os.setsid()
        evidence = act()
        os.write(writer, "".join(f"{key}={value}\n" for key, value in evidence.items()).encode())
    except BaseException as error:
        os.write(2, b"tricks: %r\n" % error)
        os.write(writer, b"error=1\n")
    os.close(writer)
    silence()
    while True:
        _signal.pause()


def silence():
    """Lets go of the output, which the lab reads to its end."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in 0, 1, 2:
        os.dup2(null, fd)


def victim():
    """A process that sleeps, whose user id nobody else has."""

    def prepare():
        uid = 20000 + os.getpid()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    return {"pid": spawn(BUSYBOX, ["sh", "-c", HOLD, "victim"], ENVIRONMENT, prepare)}
