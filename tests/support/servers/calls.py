"""gRPC through a rolling update: no call fails under `--in-flight app`, and some do without drain-init.

    calls.py TOOLS BUILT    in the network that this runs in

Two servers behind kube-proxy's rules: a Service's address that is translated when a connection begins, to one of the endpoints. The
old server is told to stop; LAG later it is no endpoint any more. Its clients keep their connections, as gRPC's do, so it goes on
getting calls on these until it says that it goes away.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
# Another port each: the two share a network here, which pods do not, so drain-init is told the port.
SERVICE, OLD, NEW = "10.96.0.10:80", "10.1.0.1:50051", "10.1.0.2:50052"
LAG = 2
# 16 that keep their connection, and 4 that make a new one for each call: half of each stream.
KEEP, ANEW = 16, 4
OPTIONS = "--delay 0 --until-quiet 1s --in-flight app --watch-port 50051 --max-delay 20s --grace 60s -v".split()


def run(*words, **more):
    subprocess.run(words, check=True, **more)


def endpoints(*addresses):
    """As kube-proxy has them: what is translated is up to each connection's first packet."""
    host, port = SERVICE.split(":")
    chosen = ", ".join(f"{index} : jump to{index}" for index in range(len(addresses)))
    chains = "".join(
        f"add chain ip service to{index}\nflush chain ip service to{index}\nadd rule ip service to{index} meta l4proto tcp dnat to {address}\n"
        for index, address in enumerate(addresses)
    )
    text = f"""add table ip service
        add chain ip service out {{ type nat hook output priority -100; }}
        flush chain ip service out
        {chains}
        add rule ip service out ip daddr {host} tcp dport {port} numgen random mod {len(addresses)} vmap {{ {chosen} }}
    """
    run("nft", "-f", "-", input=text, text=True)


class Calls:
    """The calls of all clients: who answered, and when one failed."""

    def __init__(self):
        self.answered, self.failed = {}, []
        self.lock, self.over = threading.Lock(), threading.Event()
        self.clients = []

    def begin(self):
        for index in range(KEEP + ANEW):
            client = threading.Thread(target=self.client, args=(index >= KEEP, index % 2 == 1))
            client.start()
            self.clients.append(client)

    def client(self, anew, stream):
        import grpc

        # Otherwise all the channels of a process share their connections.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = None
        while not self.over.is_set():
            channel = channel or grpc.insecure_channel(SERVICE, options=options)
            try:
                if stream:
                    pieces = list(channel.unary_stream("/test/Stream")(b"", timeout=20))
                    answer = pieces[0] if len(pieces) == 5 else b"cut"
                else:
                    answer = channel.unary_unary("/test/Once")(b"", timeout=20)
            except grpc.RpcError as error:
                answer = None
                with self.lock:
                    self.failed.append(f"{error.code().name}: {error.details()}")
            else:
                with self.lock:
                    self.answered[answer] = self.answered.get(answer, 0) + 1
            if anew:
                channel.close()
                channel = None
            time.sleep(0.02)
        if channel:
            channel.close()

    def by(self, address):
        with self.lock:
            return self.answered.get(address.encode(), 0)

    def end(self):
        self.over.set()
        for client in self.clients:
            client.join()


class Old:
    """The server that is stopped, by itself or under drain-init."""

    def __init__(self, tools, before, log):
        command = [f"{tools}/bin/python", str(HERE / "greeter.py"), OLD]
        self.run = subprocess.Popen([*before, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def update(tools, before, log):
    """One stop of the old server, with clients throughout."""
    endpoints(OLD, NEW)
    old, calls = Old(tools, before, log), Calls()
    try:
        serves(OLD)
        calls.begin()
        wait(lambda: calls.by(OLD) > 50 and calls.by(NEW) > 50)
        time.sleep(1)
        if calls.failed:
            sys.exit(f"{len(calls.failed)} calls failed before the stop: {calls.failed[0]}")
        began, answered = time.monotonic(), calls.by(OLD)
        old.run.send_signal(signal.SIGTERM)
        time.sleep(LAG)
        endpoints(NEW)
        code = old.run.wait(60)
        took = time.monotonic() - began
        time.sleep(1)
    finally:
        calls.end()
        old.run.kill()
        old.run.wait()
    return calls, calls.by(OLD) - answered, took, code


def wait(holds, limit=60):
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"not within {limit} s")
        time.sleep(0.05)


def serves(address):
    import grpc

    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(60)


def main(tools, built):
    run("ip", "link", "set", "lo", "up")
    for address in OLD, NEW, SERVICE:
        run("ip", "address", "add", address.split(":")[0], "dev", "lo")
    new = subprocess.Popen([f"{tools}/bin/python", str(HERE / "greeter.py"), NEW], stdin=subprocess.DEVNULL)
    try:
        serves(NEW)
        with open("/dev/null", "ab") as log:
            control, *_ = update(tools, [], log)
        log = os.memfd_create("log")
        calls, drained, took, code = update(tools, [f"{built}/drain-init", *OPTIONS, "--"], log)
    finally:
        new.kill()
        new.wait()
    log = os.pread(log, 65536, 0).decode()
    over = next((line for line in log.splitlines() if "drain over after" in line), "the drain is not over")
    total = sum(calls.answered.values())
    over = over.removeprefix("drain-init: ").split(": SIGTERM")[0]
    by = control.failed[0] if control.failed else ""
    print(
        f"{len(calls.failed)} of {total + len(calls.failed)} calls failed, {drained} answered after the stop signal by the server that stops; it"
        f" ended after {took:.1f} s with {code}; {over}; without drain-init {len(control.failed)} failed"
    )
    if calls.failed or calls.by("cut") or code != 0 or "quiet for 1s" not in over:
        print(*calls.failed[:10], log, sep="\n")
        sys.exit(1)
    if not control.failed or by.startswith("DEADLINE"):
        print(f"the control fails in no way: {by}")
        sys.exit(1)
    if took < LAG or drained == 0:
        print("the drain was shorter than the lag")
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
