"""A backing service: counts its starts in its data folder, and answers on PORT with a password."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

FOLDERS = dict(arg.split("=", 1) for arg in sys.argv[1:] if "=" in arg)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.strip("/") != os.environ["PASSWORD"]:
            self.send_error(401)
            return
        starts = (Path(FOLDERS["/data"]) / "starts").read_text()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(starts.encode())

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if os.environ.get("FAULT") == "deaf":
        sys.stdout.write("I do not listen\n")
        sys.stdout.flush()
        time.sleep(60)
    with (Path(FOLDERS["/data"]) / "starts").open("a") as file:
        file.write("x")
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
