# Run it in Skep from this folder: skep deploy hello --command "python3 agent.py"
"""The smallest useful agent: standard library only.

Skep gives it $PORT; it listens there, answers HTTP, and ends when it gets SIGTERM.
Try it with: skep call hello /greet -d '{"name": "you"}'
"""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Busy:
    """Counts the requests that are being answered."""

    def __init__(self):
        self.count, self.changed = 0, threading.Condition()

    def __enter__(self):
        with self.changed:
            self.count += 1

    def __exit__(self, *_):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def wait(self):
        with self.changed:
            self.changed.wait_for(lambda: self.count == 0)


busy = Busy()


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open between calls
    disable_nagle_algorithm = True

    def do_GET(self):
        with busy:
            if self.path == "/ping":
                self.answer(200, {"status": "Healthy"})
            else:
                self.answer(404, {"error": "try GET /ping or POST /greet"})

    def do_POST(self):
        with busy:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/greet":
                self.greet(body)
            else:
                self.answer(404, {"error": "try GET /ping or POST /greet"})

    def greet(self, body):
        try:
            name = json.loads(body or b"{}").get("name", "world")
        except (ValueError, AttributeError):
            self.answer(400, {"error": 'send a JSON object such as {"name": "you"}'})
            return
        print(f"greeting {name!r}, call {self.headers.get('Skep-Call-Id')}", flush=True)
        self.answer(200, {"greeting": f"hello, {name}"})

    def answer(self, status, value):
        data = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass  # Skep knows every call; the log is for what the agent has to say


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent)

    def stop(*_):
        # shutdown() waits for serve_forever(), which runs in the thread of this handler.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print("hello is ready", flush=True)
    server.serve_forever()
    server.socket.close()
    busy.wait()  # nothing is cut off; idle connections end with the process


if __name__ == "__main__":
    main()
