"""What the kernel's tables of hooks and timers show: nftables chains in two network namespaces, and timers of several kinds."""

import ctypes
import os
import signal
import socket
import struct
import time

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN = 0, 3
INET, IPV4, ARP, NETDEV, IPV6 = 1, 2, 3, 5, 10


def attribute(kind, *parts):
    data = b"".join(parts)
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def text(value):
    return value.encode() + b"\0"


class Batch:
    """One transaction of nftables."""

    def __init__(self):
        self.messages = []

    def message(self, kind, flags, family, resource, *attributes):
        body = struct.pack(">BBH", family, 0, resource) + b"".join(attributes)
        head = struct.pack("IHHII", len(body) + 16, kind, NLM_F_REQUEST | flags, len(self.messages) + 1, 0)
        self.messages.append(head + body)

    def chain(self, family, name, kind, hook, priority, device=None):
        flags = NLM_F_CREATE | NLM_F_ACK
        self.message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, flags, family, 0, attribute(1, text("lab")))
        place = attribute(1, struct.pack(">I", hook)) + attribute(2, struct.pack(">i", priority))
        if device:
            place += attribute(3, text(device))
        parts = attribute(1, text("lab")), attribute(3, text(name)), attribute(4 | 0x8000, place), attribute(7, text(kind))
        self.message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, flags, family, 0, *parts)

    def commit(self):
        inner, self.messages = self.messages, []
        self.message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES)
        begin = self.messages.pop()
        self.message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.bind((0, 0))
            netlink.send(begin + b"".join(inner) + self.messages.pop())
            netlink.settimeout(5)
            answered = 0
            while answered < len(inner):
                answer = netlink.recv(65536)
                while answer:
                    length, kind = struct.unpack_from("IH", answer)
                    error = struct.unpack_from("i", answer, 16)[0]
                    if kind == 2 and error:
                        raise OSError(-error, os.strerror(-error))
                    answered += 1
                    answer = answer[(length + 3) & ~3 :]


def chains():
    first = Batch()
    first.chain(IPV4, "in", "filter", 1, 5)
    first.chain(IPV6, "out", "filter", 3, -7)
    first.chain(ARP, "in", "filter", 0, 0)
    first.chain(NETDEV, "ingress", "filter", 0, 17, "lo")
    first.commit()
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    # Address translation has hooks of its own, which the first namespace is to be without.
    second = Batch()
    second.chain(IPV4, "pre", "nat", 0, -100)
    second.chain(INET, "post", "filter", 4, 300)
    second.commit()
    return os.stat("/proc/self/ns/net").st_ino


def timers():
    """A TCP connection that is kept alive, an interval timer, timer descriptors of two clocks, and a sleeper."""
    server = socket.create_server(("127.0.0.1", 7099))
    client = socket.create_connection(("127.0.0.1", 7099))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    held = [server, client, server.accept()]
    signal.setitimer(signal.ITIMER_REAL, 100_000)
    for clock, seconds in ((1, 200_000), (7, 300_000)):
        descriptor = libc.timerfd_create(clock, 0)
        times = (ctypes.c_int64 * 4)(0, 0, seconds, 0)
        if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(times), None):
            raise OSError(ctypes.get_errno(), "timerfd")
    if not os.fork():
        time.sleep(400_000)
    return held


held = timers()
namespace = chains()
with open("/run/full/.kernel", "w") as file:
    file.write(str(namespace))
os.rename("/run/full/.kernel", "/run/full/kernel")
signal.pause()
