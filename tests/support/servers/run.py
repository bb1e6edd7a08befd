"""Real servers, unchanged, under `drain-init --close-idle`: do they close 50 idle connections, and what do they say?

    run.py TOOLS BUILT         each server in turn, a line each; `N passed, N failed` is the last
    run.py --one NAME TOOLS BUILT   one, in the network that this runs in

tests/servers starts it as root. drain-init and the server run as PID 1 and its child, as an ordinary user without capabilities.
"""

import os
import re
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from served import HERE, PORT, servers

CLIENTS = 50
# SIGURG is what every server ignores: what it closes and logs is not due to its own stop.
OPTIONS = "--delay 0 --until-quiet 1s --close-idle 100ms --max-delay 10s --stop-signal URG -v".split()
USER = 65534
# On a loaded machine. What is measured ends long before.
LIMIT = 60


class Failed(Exception):
    pass


def until(what, holds, limit=LIMIT):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise Failed(f"{what}: not within {limit} s")


# ---- the server


class App:
    """drain-init as PID 1 with the server, in a process namespace of their own."""

    def __init__(self, server, folder, built):
        self.log = folder / "log"
        self.log.touch()
        put = lambda text: text.replace("FOLDER", str(folder)).replace("PORT", str(PORT))
        for name, text in (server.files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(put(text))
        if server.tls:
            make_certificate(folder)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, USER, USER)
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        with open(self.log, "ab") as log:
            self.run = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *user, "--no-new-privs"]
                + [f"{built}/drain-init", *OPTIONS, "--", *map(put, server.command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def signal(self, number):
        os.kill(int(Path(f"/proc/{self.run.pid}/task/{self.run.pid}/children").read_text()), number)

    def said(self, since=0):
        return self.log.read_bytes()[since:].decode(errors="replace").splitlines()

    def mark(self):
        return self.log.stat().st_size

    def over(self):
        return next((line for line in self.said() if "drain over after" in line), None)


def make_certificate(folder):
    pem = ["-keyout", folder / "key", "-out", folder / "certificate"]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test", *pem)
    both = ["-inkey", folder / "key", "-in", folder / "certificate"]
    openssl("pkcs12", "-export", *both, "-out", folder / "keystore", "-passout", "pass:password")


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def held():
    """How many connections the server still has."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(int(row[1].split(":")[1], 16) == PORT and row[3] in ("01", "08") for row in rows)


# ---- its clients


class Client:
    def __init__(self, tls):
        self.plain = self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=LIMIT)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.plain, suppress_ragged_eofs=False)
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = b""
        while not is_whole(answer):
            piece = self.socket.recv(65536)
            if not piece:
                raise Failed(f"no answer: {answer}")
            answer += piece
        self.socket.setblocking(False)

    def end(self):
        """How the server has ended it, or None."""
        try:
            return None if self.socket.recv(65536) else "closed"
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLError:
            return "without close_notify"
        except OSError as error:
            return f"error {error.errno}"

    def close(self, notify):
        if notify:
            try:
                self.socket.unwrap()
            except (OSError, ssl.SSLError):
                pass
        self.socket.close()


def is_whole(answer):
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    if not head.startswith(b"HTTP/1.1 200 ") or not length:
        raise Failed(f"the answer is {answer}")
    return len(body) == int(length[1])


def ends_of(clients, over):
    """How and when each was closed, until that."""
    ends = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while not over():
            for key, _ in selector.select(0.02):
                if how := key.data.end():
                    ends.append((how, time.monotonic()))
                    selector.unregister(key.fileobj)
                    key.data.close(False)
    return ends


# ---- what is looked at


def kinds(lines):
    """What the server said, apart from numbers and names of threads; without what drain-init says."""
    own = [line for line in lines if not line.startswith("drain-init: ")]
    return {re.sub(r"\b(0x)?[0-9a-f]*[0-9][0-9a-f]*\b", "N", line).strip() for line in own} - {""}


def closed_by_clients(server, app, notify):
    """What the server says when the clients close."""
    clients = [Client(server.tls) for _ in range(CLIENTS)]
    time.sleep(0.5)
    since = app.mark()
    for client in clients:
        client.close(notify)
    if server.deaf:
        time.sleep(1)
        if held() < CLIENTS:
            raise Failed("it is known to take no notice of its clients' own close, and does")
    else:
        until("the server closes what its clients have closed", lambda: held() == 0)
    time.sleep(0.5)
    return kinds(app.said(since))


def look(server, app):
    def serves():
        if app.run.poll() is not None:
            raise Failed(f"ended with {app.run.returncode}")
        try:
            return Client(server.tls)
        except OSError:
            return None

    first = until("it serves", serves)
    # Not in the tick of the answer: where the server then keeps its end open, the kernel's account does not tell
    # whether the request was answered, and the drain waits.
    time.sleep(0.2)
    first.close(server.tls)
    with_notify = closed_by_clients(server, app, True) if server.tls else set()
    without = closed_by_clients(server, app, False)

    clients = [Client(server.tls) for _ in range(CLIENTS)]
    time.sleep(1)
    if early := [how for client in clients if (how := client.end())]:
        raise Failed(f"{len(early)} were closed without a drain: {early[0]}")
    since = app.mark()
    began = time.monotonic()
    app.signal(signal.SIGTERM)
    # The app is told nothing that it heeds, so it has time to close what it wants to.
    is_over = lambda: (app.over() and time.monotonic() > began + 3) or time.monotonic() > began + LIMIT
    ends = ends_of(clients, is_over)
    over = app.over()
    if not over:
        raise Failed("the drain is not over")
    said = kinds(app.said(since))

    ways = {how for how, _ in ends}
    words = over.removeprefix("drain-init: ").split(":")[0]
    times = [at for _, at in ends]
    took = max(times, default=began) - began
    report = f"{len(ends)} of {CLIENTS} closed{f', the last {took:.2f} s after the stop signal' if ends else ''}; {words}"
    if server.tls and len(ways) == 1:
        report += "; its own close_notify " + ("came" if ways == {"closed"} else "did not come")
    more = said - without
    report += f"; its log: {describe(more)} than for a client's close"
    if server.tls:
        report += f" without close_notify, {describe(said - with_notify)} than with"
    if server.deaf:
        if ends or "quiet for 1s" not in over:
            raise Failed(f"it is known to take no notice: {report}")
    elif len(ends) != CLIENTS:
        raise Failed(report)
    # A server that takes longer than --until-quiet on a loaded machine closes them all, and is not waited for.
    elif max(times) - min(times) < 0.5 and f"closed {CLIENTS} of {CLIENTS} kept" not in over:
        raise Failed(report)
    if not ways <= {"closed", "without close_notify"}:
        raise Failed(f"{report}; {ways}")
    if more:
        raise Failed(f"{report}: {more}")
    return report


def describe(kinds):
    if not kinds:
        return "nothing more"
    return f"{len(kinds)} lines more ({min(kinds)[:60]})"


def one(name, tools, built):
    server = next(server for server in servers(tools, built) if server.name() == name)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        app = App(server, Path(folder), built)
        try:
            print(look(server, app))
        except (Failed, OSError) as error:
            print(error)
            print(*app.said()[-40:], sep="\n")
            sys.exit(1)
        finally:
            app.run.kill()
            app.run.wait()


# ---- all of them


def in_network(*words):
    """This, in a network of its own, and where an ordinary user can read it."""
    root = HERE.parents[2]
    here = ["/mnt" + str(Path(word).absolute()).removeprefix(str(root)) if Path(word).exists() else word for word in words]
    script = 'mount --bind "$0" /mnt && cd /mnt && exec "$@"'
    return subprocess.run(
        # Whatever ends this ends all that it has started.
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]
        + ["-c", script, str(root), sys.executable, *here],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def main(tools, built, only):
    tally = {True: 0, False: 0}
    lock = threading.Lock()

    def run(name, *words):
        done = in_network(*words)
        passed = done.returncode == 0
        said = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
        with lock:
            tally[passed] += 1
            print(f"servers: {name}: {said[0]} ... {'ok' if passed else 'FAILED'}", flush=True)
            if not passed:
                print(*said[1:], sep="\n    ", flush=True)

    # Two cores are enough for as many.
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(run, "gRPC", HERE / "calls.py", tools, built)] if only in (None, "gRPC") else []
        for server in servers(tools, built):
            if only in (None, server.name()):
                jobs.append(pool.submit(run, server.shown(), HERE / "run.py", "--one", server.name(), tools, built))
    for job in jobs:
        job.result()
    print(f"{tally[True]} passed, {tally[False]} failed")
    sys.exit(0 if tally[True] and not tally[False] else 1)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one(*sys.argv[2:])
    else:
        main(*sys.argv[1:3], sys.argv[3] if sys.argv[3:] else None)
