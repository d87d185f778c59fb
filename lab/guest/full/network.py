"""Two network namespaces joined by a veth pair, and in them and in the first one sockets of every family in several states."""

import ctypes
import fcntl
import os
import signal
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
MS_BIND = 4096
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400
RTM_NEWLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWNEXTHOP = 16, 19, 20, 24, 28, 104
UDPLITE = 136
# What the program holds is open until the guest ends.
held = []


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attribute(kind, *parts):
    data = b"".join(parts)
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def number(value):
    return struct.pack("I", value)


def text(value):
    return value.encode() + b"\0"


def address(value):
    return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)


def family(value):
    return socket.AF_INET6 if ":" in value else socket.AF_INET


class Namespace:
    """A network namespace; `with` it, what is made belongs to it."""

    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def __init__(self):
        check(libc.unshare(CLONE_NEWNET))
        self.fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        check(libc.setns(self.home, CLONE_NEWNET))

    def __enter__(self):
        check(libc.setns(self.fd, CLONE_NEWNET))

    def __exit__(self, *_):
        check(libc.setns(self.home, CLONE_NEWNET))


def ask(kind, *parts):
    """A request of rtnetlink in this namespace."""
    body = b"".join(parts)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
        link.send(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        error = struct.unpack_from("i", link.recv(4096), 16)[0]
        if error:
            raise OSError(-error, "rtnetlink %d: %s" % (kind, os.strerror(-error)))


def add_veth(left, right):
    def side(name, mac, namespace):
        return (attribute(3, text(name)), attribute(1, bytes.fromhex(mac)), attribute(28, number(namespace.fd)))

    header = bytes(16)
    peer = attribute(1, header, *side("right0", "0277000000b2", right))
    info = attribute(18, attribute(1, b"veth"), attribute(2, peer))
    ask(RTM_NEWLINK, header, *side("left0", "0277000000a1", left), info)


def bridge_and_tunnel():
    """A bridge with a port, and a tunnel that has no address of a link."""
    for name, kind in (("bridge0", b"bridge"), ("port0", b"dummy")):
        ask(RTM_NEWLINK, bytes(16), attribute(3, text(name)), attribute(18, attribute(1, kind)))
    index = socket.if_nametoindex("port0")
    ask(RTM_SETLINK, struct.pack("BxHiII", 0, 0, index, 0, 0), attribute(10, number(socket.if_nametoindex("bridge0"))))
    tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    # TUNSETIFF of IFF_TUN | IFF_NO_PI, and an address whose other end is another.
    fcntl.ioctl(tunnel, 0x400454CA, struct.pack("16sH22x", b"tunnel0", 0x1001))
    held.append(tunnel)
    for name in ("bridge0", "port0", "tunnel0"):
        up(name)
    add_address("bridge0", "172.30.0.1", 16, broadcast="172.30.255.255")
    add_address("tunnel0", "10.88.0.1", 32, peer="10.88.0.2")
    add_address("tunnel0", "fd88::1", 128, peer="fd88::2")


def up(name):
    ask(RTM_SETLINK, struct.pack("BxHiII", 0, 0, socket.if_nametoindex(name), 1, 1))


def add_address(name, value, bits, *, peer=None, broadcast=None, label=None):
    local = address(value)
    parts = [attribute(2, local), attribute(1, address(peer) if peer else local)]
    if broadcast:
        parts.append(attribute(4, address(broadcast)))
    if label:
        parts.append(attribute(3, text(label)))
    # IFA_F_NODAD: usable at once.
    ask(RTM_NEWADDR, struct.pack("BBBBi", family(value), bits, 2, 0, socket.if_nametoindex(name)), *parts)


def add_route(to, bits, *parts, table=254, kind=1, scope=0):
    header = struct.pack("BBBBBBBBI", family(to), bits, 0, 0, table, 4, scope, kind, 0)
    destination = [attribute(1, address(to))] if bits else []
    ask(RTM_NEWROUTE, header, *destination, *parts)


def via(gateway):
    return attribute(5, address(gateway))


def out(name):
    return attribute(4, number(socket.if_nametoindex(name)))


def hops(name, *gateways):
    index = socket.if_nametoindex(name)
    entries = (via(gateway) for gateway in gateways)
    return attribute(9, *(struct.pack("HBBi", 8 + len(entry), 0, 0, index) + entry for entry in entries))


def add_neighbour(name, value, mac, state):
    header = struct.pack("BxHiHBB", family(value), 0, socket.if_nametoindex(name), state, 0, 0)
    ask(RTM_NEWNEIGH, header, attribute(1, address(value)), attribute(2, bytes.fromhex(mac)))


def configure():
    left, right = Namespace(), Namespace()
    add_veth(left, right)
    os.makedirs("/run/netns", exist_ok=True)
    open("/run/netns/right", "w").close()
    check(libc.mount(b"/proc/self/fd/%d" % right.fd, b"/run/netns/right", None, MS_BIND, None))
    with right:
        up("lo")
        up("right0")
        add_address("right0", "10.77.0.2", 24, broadcast="10.77.0.255")
        add_address("right0", "fd77::2", 64)
        bridge_and_tunnel()
    with left:
        up("lo")
        up("left0")
        add_address("left0", "10.77.0.1", 24, broadcast="10.77.0.255", label="left0:main")
        add_address("left0", "10.77.0.11", 24)
        add_address("left0", "10.99.0.1", 32, peer="10.99.0.2")
        add_address("left0", "fd77::1", 64)
        add_neighbour("left0", "10.77.0.99", "020000000099", 0x80)
        add_neighbour("left0", "10.77.0.98", "020000000098", 0x04)
        add_neighbour("left0", "fd77::99", "020000000099", 0x80)
        routes()
    return left, right


def routes():
    # A metric of 100, a preferred source, an MTU, and a hop limit.
    add_route("0.0.0.0", 0, via("10.77.0.254"), out("left0"), attribute(6, number(100)))
    mtu = attribute(8, attribute(2, number(1400)), attribute(10, number(7)))
    add_route("203.0.113.0", 24, via("10.77.0.254"), out("left0"), mtu, attribute(7, address("10.77.0.11")))
    add_route("192.0.2.0", 24, kind=6)
    add_route("192.0.2.128", 25, kind=7)
    add_route("198.51.100.0", 24, hops("left0", "10.77.0.252", "10.77.0.253"))
    add_route("172.16.0.0", 12, via("10.77.0.251"), out("left0"), table=100)
    ask(RTM_NEWNEXTHOP, struct.pack("BBBBI", 2, 0, 4, 0, 0), attribute(1, number(7)), via("10.77.0.250"), attribute(5, number(socket.if_nametoindex("left0"))))
    add_route("172.31.0.0", 16, attribute(30, number(7)))
    add_route("::", 0, via("fd77::ff"), out("left0"), attribute(6, number(512)))
    add_route("2001:db8::", 32, kind=6)
    add_route("2001:db8:1::", 48, hops("left0", "fd77::fe", "fd77::fd"))
    add_route("2001:db8:2::", 48, via("fd77::fc"), out("left0"), mtu, table=100)


def keep(kind, protocol=0, *, of=socket.AF_INET, bind=None, listen=None, connect=None):
    made = socket.socket(of, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bind is not None:
        made.bind(bind)
    if listen is not None:
        made.listen(listen)
    if connect is not None:
        made.connect(connect)
    held.append(made)
    return made


def internet(left, right):
    stream, datagram, raw, six = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.AF_INET6
    with left:
        server = keep(stream, bind=("10.77.0.1", 7001), listen=5)
        both = keep(stream, of=six, bind=("::", 7002), listen=7)
        receiver = keep(datagram, bind=("10.77.0.1", 7003))
        receiver6 = keep(datagram, of=six, bind=("fd77::1", 7004))
        keep(datagram, of=six, bind=("::", 7005))
        keep(datagram, UDPLITE, bind=("10.77.0.1", 7006))
        keep(raw, socket.IPPROTO_ICMP)
        keep(raw, 253, bind=("10.77.0.1", 0), connect=("10.77.0.2", 0))
        keep(raw, socket.IPPROTO_ICMPV6, of=six)
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
            file.write("0 0")
        keep(datagram, socket.IPPROTO_ICMP, bind=("10.77.0.1", 77))
        keep(datagram, socket.IPPROTO_ICMPV6, of=six)
    with right:
        os.setegid(1000)
        os.seteuid(1000)
        client = keep(stream, connect=("10.77.0.1", 7001))
        os.seteuid(0)
        os.setegid(0)
        # Left in the queue of the server that does not accept it.
        keep(stream, connect=("10.77.0.1", 7001))
        client6 = keep(stream, of=six, connect=("fd77::1", 7002))
        closing = keep(stream, connect=("10.77.0.1", 7002))
        sender = keep(datagram, connect=("10.77.0.1", 7003))
        sender6 = keep(datagram, of=six, connect=("fd77::1", 7004))
    accepted = server.accept()[0]
    held.extend((accepted, both.accept()[0], both.accept()[0]))
    client.send(b"x" * 123)
    client6.send(b"y" * 45)
    sender.send(b"z" * 50)
    sender6.send(b"z" * 60)
    closing.shutdown(socket.SHUT_WR)


def packets(left):
    with left:
        everything = socket.ntohs(3)
        keep(socket.SOCK_RAW, everything, of=socket.AF_PACKET, bind=("left0", 3))
        keep(socket.SOCK_DGRAM, socket.ntohs(0x0800), of=socket.AF_PACKET)
        keep(socket.SOCK_RAW, of=socket.AF_PACKET)
    keep(socket.SOCK_RAW, everything, of=socket.AF_PACKET)


def settle():
    """What sockets for any packet have received stays in their queues; nothing comes after it."""
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    for made in held:
        if not isinstance(made, socket.socket):
            continue
        if made.type == socket.SOCK_RAW or made.family == socket.AF_PACKET:
            made.setsockopt(socket.SOL_SOCKET, 26, struct.pack("H6xQ", 1, ctypes.addressof(drop)))


def locals_():
    stream, datagram, sequence = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    unix = socket.AF_UNIX
    os.makedirs("/run/full-net", exist_ok=True)
    server = keep(stream, of=unix, bind="/run/full-net/stream", listen=3)
    client = keep(stream, of=unix, connect="/run/full-net/stream")
    held.append(server.accept()[0])
    client.send(b"a" * 77)
    keep(stream, of=unix, connect="/run/full-net/stream")
    receiver = keep(datagram, of=unix, bind="/run/full-net/datagram")
    keep(datagram, of=unix, connect="/run/full-net/datagram").send(b"b" * 33)
    keep(sequence, of=unix, bind=b"\0lab\0abstract", listen=1)
    keep(sequence, of=unix, connect=b"\0lab\0abstract")
    keep(datagram, of=unix, bind="")
    pair = socket.socketpair(unix, stream)
    held.extend((*pair, receiver))
    pair[0].send(b"c" * 11)
    gone = keep(stream, of=unix, bind="/run/full-net/gone", listen=1)
    os.unlink("/run/full-net/gone")
    held.append(gone)


def netlinks(left):
    keep(socket.SOCK_RAW, 0, of=socket.AF_NETLINK, bind=(0, 0x11))
    keep(socket.SOCK_DGRAM, 15, of=socket.AF_NETLINK, bind=(4711, 1))
    keep(socket.SOCK_RAW, 16, of=socket.AF_NETLINK)
    with left:
        keep(socket.SOCK_RAW, 0, of=socket.AF_NETLINK, bind=(4712, 0))


def others():
    """Of families that have no table in /proc/net; a kernel may lack one."""
    # AF_XDP, AF_ALG and AF_VSOCK.
    for family, kind in ((44, socket.SOCK_RAW), (38, socket.SOCK_SEQPACKET), (40, socket.SOCK_STREAM)):
        try:
            keep(kind, of=family)
        except OSError:
            pass


def main():
    left, right = configure()
    packets(left)
    internet(left, right)
    settle()
    locals_()
    netlinks(left)
    others()
    if not os.fork():
        # Shares every descriptor, and lives in the namespace to the right.
        right.__enter__()
        signal.pause()
    open("/run/full/network", "w").close()
    signal.pause()


main()
