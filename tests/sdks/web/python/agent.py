"""An agent that asks the web when it is asked, and keeps what it was told in memory and in a file."""

import os
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

SEEN = []


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        told = b"well"
        if self.path.startswith("/ask/"):
            headers = {"Authorization": "Bearer " + os.environ["API_KEY"]}
            asked = urllib.request.Request(os.environ["TARGET"] + self.path[4:], headers=headers)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                told = answer.read()
            SEEN.append(told)
            (Path.home() / "seen.txt").write_bytes(b"".join(SEEN))
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Agent).serve_forever()
