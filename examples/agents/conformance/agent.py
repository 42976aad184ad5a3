# Run it in Skep from this folder: skep deploy -f agent.yaml
"""What the conformance kit of A2A asks of an agent, in AG-UI and the standard library.

The beginning of a message's id says what is to become of the task: https://github.com/a2aproject/a2a-tck, `scenarios/`.
Skep tells the message in `forwardedProps.a2a`; what asks in another protocol says the same as its text.
"""

import json
import os
import signal
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The kit waits for the end of a stream so long.
PATIENCE = float(os.environ.get("TCK_STREAMING_TIMEOUT", "2"))
stopped = threading.Event()
gates, gates_lock = {}, threading.Lock()


def gate(name):
    with gates_lock:
        return gates.setdefault(name, threading.Event())


class Run:
    """A run, and what is said in it."""

    def __init__(self, asked, write):
        self.ids = {"threadId": asked["threadId"], "runId": asked["runId"]}
        self.write = write
        props = (asked.get("forwardedProps") or {}).get("a2a") or {}
        self.message = props.get("message") or {}
        self.answers = [it.get("payload") for it in asked.get("resume") or []]
        said = [it["content"] for it in asked.get("messages", []) if it["role"] == "user"]
        # An answer is no message of the conversation.
        self.said = said[-1] if said and not self.answers else ""
        self.texts = 0

    @property
    def name(self):
        """What says what is to become of it."""
        return self.message.get("messageId") or (self.said if isinstance(self.said, str) else "")

    def say(self, type, **fields):
        self.write({"type": type, **fields})

    def start(self):
        self.say("RUN_STARTED", **self.ids)

    def text(self, *pieces):
        self.texts += 1
        id = f"{self.ids['runId']}-{self.texts}"
        self.say("TEXT_MESSAGE_START", messageId=id, role="assistant")
        for piece in pieces:
            self.say("TEXT_MESSAGE_CONTENT", messageId=id, delta=piece)
        self.say("TEXT_MESSAGE_END", messageId=id)

    def part(self, **part):
        """An artifact that is no text."""
        self.say("CUSTOM", name="a2a.file", value=part)

    def file(self):
        raw = b64encode(b"tck").decode()
        self.part(raw=raw, filename="output.txt", mediaType="text/plain")

    def work(self):
        self.say("STEP_STARTED", stepName="working")
        self.say("STEP_FINISHED", stepName="working")

    def end(self):
        self.say("RUN_FINISHED", **self.ids, outcome={"type": "success"})

    def fail(self, message, code):
        self.say("RUN_ERROR", message=message, code=code)

    def ask(self, reason, message):
        asked = {"id": f"ask-{self.ids['runId']}", "reason": reason, "message": message}
        outcome = {"type": "interrupt", "interrupts": [asked]}
        self.say("RUN_FINISHED", **self.ids, outcome=outcome)


def says(*pieces):
    def act(run):
        run.work()
        run.text(*pieces)
        run.end()

    return act


def delayed(times, text):
    def act(run):
        run.work()
        stopped.wait(times * PATIENCE)
        run.text(text)
        run.end()

    return act


def held(run):
    """Goes on when somebody opens the gate that the text names."""
    run.text("waiting")
    gate(run.said).wait()
    run.text("done")
    run.end()


def shown(make):
    def act(run):
        make(run)
        run.end()

    return act


def echo(run):
    """Gives back what it was asked, as it came."""
    run.part(data={"content": run.said, "message": run.message, "answers": run.answers})
    run.end()


def answered(run):
    run.text(f"Got {json.dumps(run.answers[0])}")
    run.end()


# The longer of two that begin alike stands first.
ACTS = {
    "tck-artifact-text": says("Generated text content"),
    "tck-artifact-file-url": shown(
        lambda run: run.part(url="https://example.com/output.txt", filename="output.txt", mediaType="text/plain")
    ),
    "tck-artifact-file": shown(Run.file),
    "tck-artifact-data": shown(lambda run: run.part(data={"key": "value", "count": 42})),
    "tck-stream-001": says("Stream hello from TCK"),
    "tck-stream-002": Run.end,
    "tck-stream-003": says("Stream task lifecycle"),
    "tck-stream-ordering-001": says("Ordered output"),
    "tck-stream-artifact-text": says("Streamed text content"),
    "tck-stream-artifact-file": shown(Run.file),
    "tck-stream-artifact-chunked": says("chunk-1 ", "chunk-2"),
    "tck-message-response": says("Direct message response"),
    "tck-input-required": lambda run: run.ask("input", "Please provide input"),
    "tck-auth-required": lambda run: run.ask("authentication", "Please sign in"),
    "tck-reject-task": lambda run: run.fail("rejected", "agent_rejected"),
    "tck-task-failure": lambda run: run.fail("failed", "agent_failed"),
    "tck-delayed-complete": delayed(1, "Done after delay"),
    "tck-long-running": delayed(2, "Done at last"),
    "test-resubscribe-message-id": delayed(2, "Done at last"),
    "held": held,
    "echo": echo,
}


def act(run):
    run.start()
    for beginning, does in ACTS.items():
        if run.name.startswith(beginning):
            return does(run)
    return answered(run) if run.answers else says("Hello from TCK")(run)


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/open/"):
            gate(self.path.removeprefix("/open/")).set()
        self.begin("application/json")
        self.wfile.write(b"{}\n")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.begin("text/event-stream")

        def write(event):
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.wfile.flush()

        act(Run(asked, write))

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent)
    server.daemon_threads = True  # who waits for a gate ends with it

    def stop(*_):
        stopped.set()
        # shutdown() waits for serve_forever(), which runs in the thread of this handler.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
