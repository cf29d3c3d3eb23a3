"""A stand-in for an engine: lists a model and says what it was given; a stubborn one stays."""

import json
import os
import resource
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import sortedcontainers

if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        answer = {
            "data": [{"id": "tiny"}],
            "argv": sys.argv[1:],
            "environment": dict(os.environ),
            "user": os.getuid(),
            "memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
            "installed": sortedcontainers.__file__,
        }
        self.wfile.write(json.dumps(answer).encode())


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
