"""greeter.py ADDRESS: a gRPC server that stops gracefully on SIGTERM. `/test/Once` takes 50 ms, `/test/Stream` sends five in 0.5 s."""

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

stopped = threading.Event()


def once(request, _):
    time.sleep(0.05)
    return NAME


def stream(request, _):
    for _ in range(5):
        time.sleep(0.1)
        yield NAME


NAME = sys.argv[1].encode()
server = grpc.server(ThreadPoolExecutor(64))
methods = {"Once": grpc.unary_unary_rpc_method_handler(once), "Stream": grpc.unary_stream_rpc_method_handler(stream)}
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", methods)])
if server.add_insecure_port(sys.argv[1]) == 0:
    sys.exit("cannot listen")
server.start()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
stopped.wait()
server.stop(10).wait()
