"""An HTTP server with one loop, for the tests of --close-idle: an app that was never changed.

kept.py [--listen ADDR:PORT]... [--workers N] [--user ID]
It keeps connections for ever, and closes one when its client has. `/` answers at once, `/events/N` sends
an event each N seconds, `/after/N` answers after N seconds. SIGUSR1 prints `usr1`.
"""

import argparse
import os
import selectors
import signal
import socket
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", action="append")
arguments.add_argument("--workers", type=int, default=0)
arguments.add_argument("--user", type=int)
arguments.add_argument("--deaf", action="store_true", help="takes no notice of an end")
arguments.add_argument("--lingers", action="store_true", help="ends a second after SIGTERM")
options = arguments.parse_args()


def say(word):
    os.write(1, (word + "\n").encode())


listeners = []
for address in options.listen:
    host, port = address.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((host.strip("[]"), int(port)))
    listener.listen(4096)
    listener.setblocking(False)
    listeners.append(listener)
signal.signal(signal.SIGUSR1, lambda *_: say("usr1"))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if options.lingers:
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(1))
say("listening")
for _ in range(options.workers):
    if os.fork() == 0:
        break
else:
    while options.workers:
        signal.pause()
if options.user is not None:
    os.setgroups([])
    os.setgid(options.user)
    os.setuid(options.user)

loop = selectors.EpollSelector()
for listener in listeners:
    loop.register(listener, selectors.EVENT_READ, None)
ended = []
later = []  # (time, connection, what, period)


def send(connection, body):
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def received(connection, state):
    try:
        piece = connection.recv(65536)
    except BlockingIOError:
        return
    except OSError:
        piece = b""
    if not piece:
        loop.unregister(connection)
        if options.deaf:
            ended.append(connection)
        else:
            connection.close()
        later[:] = [entry for entry in later if entry[1] is not connection]
        return
    state += piece
    while b"\r\n\r\n" in state:
        path = bytes(state).split(b" ", 2)[1].decode()
        del state[: state.index(b"\r\n\r\n") + 4]
        if path.startswith("/events/"):
            connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            later.append((time.monotonic(), connection, b"5\r\nevent\r\n", float(path[8:])))
        elif path.startswith("/after/"):
            later.append((time.monotonic() + float(path[7:]), connection, None, None))
        else:
            send(connection, b"hello")


while True:
    timeout = max(0, min(entry[0] for entry in later) - time.monotonic()) if later else None
    for key, _ in loop.select(timeout):
        if key.data is not None:
            received(key.fileobj, key.data)
            continue
        try:
            connection, _ = key.fileobj.accept()
        except BlockingIOError:
            continue
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.register(connection, selectors.EVENT_READ, bytearray())
    now = time.monotonic()
    for entry in [entry for entry in later if entry[0] <= now]:
        later.remove(entry)
        due, connection, event, period = entry
        try:
            if event is None:
                send(connection, b"hello")
            else:
                connection.send(event)
                later.append((due + period, connection, event, period))
        except OSError:
            pass
