"""One case in the virtual machine, with drain-init and a server as an ordinary user without capabilities.

    case.py run|prestop closes|refused    --close-idle by PID 1 of a namespace, or by its hook
    case.py quiet|proc                    --until-quiet alone, with a client that comes for three seconds
"""

import os
import signal
import socket
import subprocess
import sys
import time

PORT = 8080
SERVER = ["python3", os.environ["KEPT"], "--listen", f"127.0.0.1:{PORT}"]
USER = "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs".split()
# A second is long here: an emulated machine takes tens of times as long for everything.
QUIET, LONGEST, LIMIT = 2, 40, 60
DRAIN = f"--delay 0 --until-quiet {QUIET}s --max-delay {LONGEST}s --grace 90s -v".split()


def fail(*said):
    print(*said, sep="\n")
    sys.exit(1)


def client():
    until = time.monotonic() + LIMIT
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", PORT), timeout=LIMIT)
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: vm\r\n\r\n")
    if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
        fail("no answer")
    return connection


def main(who, what):
    log = open("/tmp/case", "wb")
    closes_idle = who in ("run", "prestop")
    options = DRAIN + (["--close-idle", "100ms"] if closes_idle else [])
    # As in a container whose entrypoint is the server: the hook finds no drain-init.
    init = ["sh", "-c", '"$@" & wait', "sh"] if who == "prestop" else ["/drain-init", *options, "--"]
    command = [*USER, *init, *SERVER]
    if closes_idle:
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
    run = subprocess.Popen(command, stdout=log, stderr=log)
    connections = [client() for _ in range(3)]
    time.sleep(2)
    init_pid = run.pid
    if closes_idle:
        init_pid = int(open(f"/proc/{run.pid}/task/{run.pid}/children").read().split()[0])
    began = time.monotonic()
    if who == "prestop":
        inside = ["nsenter", "--target", str(init_pid), "--pid", "--mount"]
        ended = subprocess.Popen([*inside, *USER, "/drain-init", "prestop", *options], stdout=log, stderr=log)
    else:
        os.kill(init_pid, signal.SIGTERM)
        ended = run
    came = 0
    if not closes_idle:
        while time.monotonic() < began + 3:
            client().close()
            came += 1
            time.sleep(0.05)
        if who == "proc":
            # Where /proc is all there is, an open connection counts as one in flight.
            for connection in connections:
                connection.close()
        last = time.monotonic()
    try:
        ended.wait(LIMIT)
    except subprocess.TimeoutExpired:
        print("it does not end")
    took = time.monotonic() - began
    # unshare's --kill-child does not outlast the change of user.
    for pid in init_pid, run.pid:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    run.wait()
    text = open("/tmp/case", errors="replace").read()
    refused = text.count("idle connections cannot be closed: ")
    print(text, f"{took:.1f} s, {came} came")
    if what == "closes" and ("closed 3 of 3 kept" not in text or refused):
        fail("it closes none")
    if what == "refused" and (refused != 1 or not ("Yama" in text or "ptrace_scope" in text) or "quiet for" not in text):
        fail("it is not refused once, with what to do, or the drain is not over as without")
    if what == "" and not (QUIET <= time.monotonic() - last + 0.5 and took < LONGEST and came > 3 and "quiet for" in text):
        fail("the drain does not end with the traffic")


main(sys.argv[1], sys.argv[2] if sys.argv[2:] else "")
