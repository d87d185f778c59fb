"""A server as an observer would meet one: named threads, sockets of several families, open, deleted and anonymous files."""

import _socket
import _thread
import os
import posix
import select
import signal
import time

NAMES = [b"acceptor", b"worker-0", b"worker-1", b"io (slow) R 9", "nom-é".encode(), b"raw-\xff\xfe"]


def thread(name, done):
    with open(b"/proc/self/task/%d/comm" % _thread.get_native_id(), "wb") as file:
        file.write(name)
    done.append(name)
    while True:
        select.select([], [], [])


def sockets():
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 8080))
    listener.listen(16)
    client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    client.connect(("127.0.0.1", 8080))
    accepted, _ = listener._accept()
    six = _socket.socket(_socket.AF_INET6, _socket.SOCK_STREAM)
    six.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
    six.bind(("::", 8443))
    six.listen(1)
    udp = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 5353))
    path = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    path.bind("/tmp/app.sock")
    path.listen(4)
    abstract = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    abstract.bind(b"\0lab-abstract")
    pair = _socket.socketpair()
    return listener, client, accepted, six, udp, path, abstract, pair


def files():
    log = posix.open("/tmp/app.log", posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o640)
    posix.write(log, b"started\n")
    gone = posix.open("/tmp/gone.dat", posix.O_RDWR | posix.O_CREAT, 0o600)
    posix.unlink("/tmp/gone.dat")
    memory = os.memfd_create("buffer")
    posix.write(memory, b"kept in memory only")
    return log, gone, memory, posix.pipe()


def main():
    kept = sockets(), files()
    done = []
    for name in NAMES:
        _thread.start_new_thread(thread, (name, done))
    while len(done) < len(NAMES):
        time.sleep(0.005)
    posix.chdir("/tmp")
    os.close(os.open("/tmp/server-ready", os.O_CREAT | os.O_WRONLY))
    while kept:
        signal.pause()


main()
