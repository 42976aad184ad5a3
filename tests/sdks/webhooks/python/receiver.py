"""A receiver of webhooks on the official library. Its folder says what it does: `keys`, the keys of which each is tried,
and `plan`, a line for each request that is to be answered otherwise than with 204: a status, perhaps with seconds for
Retry-After, or `hang`. What came stands in `heard`, a line of JSON each. The port is its word, or any."""

import json
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

folder = pathlib.Path(sys.argv[1])
port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
lock = threading.Lock()


def planned():
    file = folder / "plan"
    lines = file.read_text().splitlines() if file.exists() else []
    if not lines:
        return "204"
    file.write_text("".join(line + "\n" for line in lines[1:]))
    return lines[0]


def verified(body, headers):
    """Which of the keys verify it, by their place."""
    found = []
    keys = folder / "keys"
    for place, key in enumerate(keys.read_text().split() if keys.exists() else []):
        try:
            Webhook(key).verify(body, headers)
            found.append(place)
        except WebhookVerificationError:
            pass
    return found


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with lock:
            answer = planned()
            told = {
                "path": self.path,
                "headers": headers,
                "body": body,
                "verified": verified(body, headers),
                "answer": answer,
            }
            with open(folder / "heard", "a") as file:
                file.write(json.dumps(told) + "\n")
        if answer == "hang":
            threading.Event().wait()
        status, *after = answer.split()
        self.send_response(int(status))
        if after:
            self.send_header("retry-after", after[0])
        if status.startswith("3"):
            self.send_header("location", f"http://{self.headers['host']}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
