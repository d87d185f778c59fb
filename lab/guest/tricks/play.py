"""Does one thing that an intruder's program does: python3 -I -S play.py WHAT TRICK.

Prints what whoever looks for it should find, as KEY=VALUE lines, and leaves running what has to run for it. The processes
are listed in /run/tricks/TRICK: the trick is off when they are killed.
"""

import _socket
import _struct
import os
import sys

sys.path.insert(0, "/lab/tricks")

from common import BUSYBOX, ENVIRONMENT, HOLD, PYTHON, held, here, spawn, started, victim, wait_for

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1


def deleted_executable():
    path = "/tmp/.trick"
    with open(BUSYBOX, "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    os.chmod(path, 0o755)
    pid = spawn(path, ["sh", "-c", 'rm "$0"; ' + HOLD, path])
    wait_for(lambda: not os.path.exists(path))
    return {"pid": pid, "path": path}


def memory_executable():
    writer = os.memfd_create("trick")
    with open(BUSYBOX, "rb") as source:
        os.write(writer, source.read())
    # A file that someone holds open for writing can't be executed.
    reader = os.open("/proc/self/fd/%d" % writer, os.O_RDONLY | os.O_CLOEXEC)
    os.close(writer)
    return {"pid": spawn("/proc/self/fd/%d" % reader, ["sh", "-c", HOLD]), "path": "/memfd:trick"}


def preloaded_library():
    path = "/tmp/.trick.so"
    with open("/proc/self/maps") as maps:
        library = next(line.split()[-1] for line in maps if "libz.so" in line)
    with open(library, "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    argv = ["python3", "-I", "-S", "-c", "import _signal; _signal.pause()"]
    pid = spawn(PYTHON, argv, {**ENVIRONMENT, "LD_PRELOAD": path})
    wait_for(lambda: path in open("/proc/%d/maps" % pid).read())
    return {"pid": pid, "path": path}


def false_name():
    """Its name and its arguments are those of a thread of the kernel."""
    name = b"[kworker/0:1]"

    def act():
        with open("/proc/self/stat") as stat:
            start, end = (int(word) for word in stat.read().rpartition(")")[2].split()[45:47])
        with open("/proc/self/mem", "r+b", 0) as memory:
            memory.seek(start)
            memory.write(name.ljust(end - start, b"\0"))
        with open("/proc/self/comm", "wb") as comm:
            comm.write(name.strip(b"[]"))
        return {"name": name.strip(b"[]").decode(), "path": os.readlink("/proc/self/exe")}

    return here(act)


def raw_socket():
    def act():
        held.append(_socket.socket(_socket.AF_INET, _socket.SOCK_RAW, _socket.IPPROTO_ICMP))
        return {}

    return here(act)


def packet_socket():
    def act():
        held.append(_socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, _socket.htons(ETH_P_ALL)))
        return {}

    return here(act)


def promiscuous_interface():
    """Until its socket is closed, the interface takes every packet."""
    interface = "dummy0"

    def act():
        sniffer = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW)
        request = _struct.pack("iHH8x", _socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0)
        sniffer.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        held.append(sniffer)
        return {"interface": interface}

    return here(act)


def listener():
    """A port for the module to hide."""

    def act():
        server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 31337))
        server.listen(8)
        held.append(server)
        return {"port": server.getsockname()[1]}

    return here(act)


PROGRAMS = {
    "victim": victim,
    "listener": listener,
    "deleted-executable": deleted_executable,
    "memory-executable": memory_executable,
    "preload-library": preloaded_library,
    "false-name": false_name,
    "raw-socket": raw_socket,
    "packet-socket": packet_socket,
    "promiscuous-interface": promiscuous_interface,
}


def main():
    _, name, trick = sys.argv
    programs = PROGRAMS
    if name not in programs:
        import calls

        programs = calls.PROGRAMS
    try:
        evidence = programs[name]()
    finally:
        os.makedirs("/run/tricks", exist_ok=True)
        with open("/run/tricks/" + trick, "w") as pids:
            pids.write(" ".join(str(pid) for pid in started))
    for key, value in evidence.items():
        print(f"{key}={value}")


main()
