"""What each network namespace of the guest says of itself: files of /proc/net, and dumps of rtnetlink, as JSON."""

import ctypes
import os
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
FILES = "tcp tcp6 udp udp6 udplite udplite6 raw raw6 icmp icmp6 unix netlink packet dev route if_inet6 ipv6_route arp".split()
DUMPS = {"link": (18, 17, 16), "address": (22, 0, 8), "route": (26, 0, 12), "neighbour": (30, 0, 12)}
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300


def namespaces():
    """One path for each, whoever keeps it: a process, a descriptor or a mount."""
    found = {}

    def add(path):
        try:
            found.setdefault(os.stat(path).st_ino, os.open(path, os.O_RDONLY))
        except OSError:
            pass

    for pid in filter(str.isdigit, os.listdir("/proc")):
        add("/proc/%s/ns/net" % pid)
        try:
            for fd in os.listdir("/proc/%s/fd" % pid):
                path = "/proc/%s/fd/%s" % (pid, fd)
                if os.readlink(path).startswith("net:["):
                    add(path)
        except OSError:
            pass
    with open("/proc/self/mountinfo") as file:
        for line in file:
            if " - nsfs " in line:
                add(line.split()[4])
    return found


def dump(kind, family, length):
    """[[header, {attribute: value}], ...], in hexadecimal digits."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(struct.pack("IHHII", 16 + length, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + struct.pack("B", family) + bytes(length - 1))
        entries = []
        while True:
            data = link.recv(1 << 20)
            while data:
                size, of = struct.unpack_from("IH", data)
                if of in (2, 3):
                    return entries
                body = data[16:size]
                attributes, at = {}, length
                while at + 4 <= len(body):
                    n, name = struct.unpack_from("HH", body, at)
                    attributes[name & 0x3FFF] = body[at + 4 : at + n].hex()
                    at += (n + 3) & ~3
                entries.append([body[:length].hex(), attributes])
                data = data[(size + 3) & ~3 :]


def read(name):
    try:
        with open("/proc/self/net/" + name, encoding="latin1") as file:
            return file.read()
    except OSError:
        return ""


def json(value):
    """There is no module of that name in the guest."""
    if isinstance(value, dict):
        return "{%s}" % ",".join("%s:%s" % (json(str(name)), json(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return "[%s]" % ",".join(map(json, value))
    return '"%s"' % "".join(c if " " <= c <= "~" and c not in '"\\' else "\\u%04x" % ord(c) for c in value)


truth = {}
for inode, fd in namespaces().items():
    libc.setns(fd, CLONE_NEWNET)
    truth[inode] = {"files": {name: read(name) for name in FILES}}
    for name, (kind, family, length) in DUMPS.items():
        truth[inode][name] = dump(kind, family, length)
print(json(truth))
