"""A service for an image without any package: it is ready when its database accepts connections."""

import json
import os
import pathlib
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

VERSION = pathlib.Path("/srv/version").read_text()


def has_database():
    try:
        url = urlsplit(os.environ["DATABASE_URL"])
        socket.create_connection((url.hostname, url.port), 1).close()
    except OSError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        facts = {"version": VERSION, "uid": os.getuid(), "token": os.environ.get("TOKEN")}
        body = json.dumps(facts).encode()
        self.send_response(200 if has_database() else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if sys.argv[1:] == ["migrate"]:
    sys.exit(0 if has_database() else 1)
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
sys.stdout.write(f"{VERSION} ended in order\n")
