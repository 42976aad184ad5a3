"""The HTTP around the agent, with the standard library only: routes, JSON, event streams, and an
end on SIGTERM that cuts nothing off. What the agent does stands in agent.py."""

import json
import os
import signal
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refused(Exception):
    """Says no to a request: a status and why."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status, self.why = status, why


class Request:
    """What came in."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body

    def json(self):
        """The body, which must be a JSON object."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Refused(400, "the body is not a JSON object")
        return value

    def text(self, name, default=None):
        """A field of the body that must be a text."""
        value = self.json().get(name, default)
        if not isinstance(value, str):
            raise Refused(400, f"`{name}` is missing, or is not a text")
        return value


class Events:
    """An answer that comes as server-sent events: each is a dictionary."""

    def __init__(self, events):
        self.events = events


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


def handler(routes, busy):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections open between calls
        disable_nagle_algorithm = True

        def answer_one(self):
            with busy:
                length = int(self.headers.get("Content-Length") or 0)
                path = self.path.split("?")[0]
                request = Request(path, self.headers, self.rfile.read(length))
                try:
                    route = routes.get((self.command, path))
                    if route is None:
                        known = ", ".join(f"{method} {path}" for method, path in routes)
                        raise Refused(404, f"there is no {self.command} {path}; there are: {known}")
                    answer = route(request)
                except Refused as refused:
                    self.send(refused.status, {"error": refused.why})
                    return
                except Exception:
                    traceback.print_exc()
                    self.send(500, {"error": "the agent failed; see its log"})
                    return
                if isinstance(answer, Events):
                    self.stream(answer.events)
                else:
                    self.send(200, answer)

        do_GET = do_POST = answer_one

        def send(self, status, value):
            data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self, events):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-cache")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                data = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args):
            pass  # Skep knows every call; the log is for what the agent has to say

    return Handler


def serve(routes):
    """Serves routes, `{("POST", "/ask"): function}`, until SIGTERM."""
    busy = Busy()
    routes = {("GET", "/ping"): lambda request: {"status": "Healthy"}, **routes}
    port = int(os.environ.get("PORT", "8080"))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler(routes, busy))

    def stop(*_):
        # shutdown() waits for serve_forever(), which runs in the thread of this handler.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening on port {port}", flush=True)
    server.serve_forever()
    server.socket.close()
    busy.wait()  # nothing is cut off; idle connections end with the process
