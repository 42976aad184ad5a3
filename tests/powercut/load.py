"""The clients of the power cuts, and the oracle that compares what was promised with what is there."""

import hashlib
import http.client
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

CLIENTS = 16
PATIENCE_S = 180
LOOK_S = 0.1
AGENT = "work"
PAGE = 1000
# How often a check whose connection broke is made.
TRIES = 4
# Bodies above this are files of their own in the data folder.
LARGE_BYTES = 16 << 10
LARGEST_BYTES = 1 << 20
# A connection that is cut, refused or gives half an answer.
BROKEN = (OSError, http.client.HTTPException)


class Api:
    """One connection to the server."""

    def __init__(self, address, key):
        self.address, self.key = address, key
        self.connection = None
        self.asked = 0

    def insist(self, method, path, *more):
        """[`ask`], again on a new connection when one breaks: for what may be repeated."""
        for left in reversed(range(TRIES)):
            asked, began = self.asked, time.monotonic()
            try:
                return self.ask(method, path, *more)
            except BROKEN as failure:
                taken = time.monotonic() - began
                print(f"  note: {method} {path}: {failure!r} after {taken:.1f} s, {asked} on it before")
                if not left:
                    raise

    def ask(self, method, path, body=b"", headers=None, timeout=PATIENCE_S):
        """Status, headers and the whole body; raises when they do not come whole."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            body = answer.read()
            self.asked += 1
            return answer.status, answer.headers, body
        except BROKEN:
            self.connection.close()
            self.connection, self.asked = None, 0
            raise


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Call:
    """One request with a body of its own, and what the client was told of it."""

    def __init__(self, key, chance):
        self.key = key
        kind = chance.random()
        if kind < 0.70:
            self.size = chance.randrange(2, 4 << 10)
        elif kind < 0.97:
            self.size = chance.randrange(LARGE_BYTES, 128 << 10)
        else:
            self.size = chance.randrange(128 << 10, LARGEST_BYTES)
        self.waits = chance.random() < 0.5
        # The second answers with another body than it got: a blob of its own.
        self.path = chance.choice([f"/work?ms={chance.randrange(50)}", "/echo"])
        self.id = None
        self.answer = None

    def body(self):
        return (self.key + " " + random.Random(self.key).randbytes(self.size // 2).hex()).encode()

    def send(self, api, again=False):
        """Sends it; what comes back whole is what was acknowledged."""
        headers = {"Idempotency-Key": self.key, "Content-Type": "text/plain"}
        if not self.waits and not again:
            headers["Prefer"] = "respond-async"
        ask = api.insist if again else api.ask
        status, answered, body = ask("POST", f"/agents/{AGENT}{self.path}", self.body(), headers)
        if status in (200, 202):
            self.id = answered["Skep-Call-Id"]
        if status == 200:
            self.answer = digest(body)
        return status, body

    def fits(self, answer):
        """Whether this is the agent's answer to this very request."""
        if self.path != "/echo":
            return answer == self.body()
        try:
            return json.loads(answer)["body"].encode() == self.body()
        except (ValueError, KeyError):
            return False


class Load:
    """Clients that call until the connection breaks."""

    def __init__(self, machine, name, seed):
        self.machine, self.name = machine, name
        self.calls, self.odd = [], []
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.threads = [
            threading.Thread(target=self.client, args=(number, seed), daemon=True)
            for number in range(CLIENTS)
        ]
        for thread in self.threads:
            thread.start()

    def client(self, number, seed):
        chance = random.Random(f"{seed}-{number}")
        api = Api(self.machine.address, self.machine.key)
        mine = []
        count = 0
        while not self.stop.is_set():
            call = Call(f"{self.name}-{number}-{count}", chance)
            count += 1
            mine.append(call)
            with self.lock:
                self.calls.append(call)
            try:
                status, body = call.send(api)
                # A refusal promises nothing; it is sent again after the cut.
                if status not in (200, 202, 429, 503) or (status < 300 and not call.id):
                    self.odd.append(f"{call.key}: {status} {body[:200]!r}")
                look = chance.choice(mine)
                if look.id and not look.answer:
                    self.fetch(api, look)
            except BROKEN:
                # The power is gone: nothing was acknowledged.
                return

    @staticmethod
    def fetch(api, call):
        path = f"/api/v1/calls/{call.id}/response?wait=false"
        status, _, body = api.ask("GET", path)
        if status == 200:
            call.answer = digest(body)

    def end(self):
        """Ends the clients, after the power."""
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)
        return self.calls


def wait_for(what, look):
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_S:
        try:
            found = look()
            if found:
                return found
        except BROKEN:
            pass
        time.sleep(LOOK_S)
    raise TimeoutError(f"{what} did not come about")


def ready(machine):
    """Waits until the server and its agent answer."""
    health = Api(machine.address, machine.key)
    wait_for("health", lambda: health.ask("GET", "/api/v1/health/basic", timeout=5)[0] == 200)
    return Api(machine.address, machine.key)


def deploy(machine):
    api = ready(machine)
    # Each cut costs an attempt of what runs, so it must have many.
    calls = {"attempts": 100, "backoff": "10ms", "max_backoff": "100ms", "deadline": "24h"}
    spec = {"name": AGENT, "command": ["/bin/skep-test-agent"], "calls": calls}
    kind = {"Content-Type": "application/json"}
    status, _, body = api.ask("POST", "/api/v1/agents", json.dumps(spec).encode(), kind)
    if status >= 300:
        raise RuntimeError(f"the agent is refused: {status} {body!r}")
    look = lambda: json.loads(api.ask("GET", f"/api/v1/agents/{AGENT}")[2])["state"] == "ready"
    wait_for("the agent", look)


def pages(api, query=""):
    cursor = ""
    while cursor is not None:
        status, _, body = api.insist("GET", f"/api/v1/calls?limit={PAGE}{query}{cursor}")
        if status != 200:
            raise RuntimeError(f"the journal cannot be read: {status} {body[:300]!r}")
        page = json.loads(body)
        yield from page["items"]
        cursor = f"&cursor={page['next']}" if page.get("next") else None


class Oracle:
    """Compares the journal with what clients were told, over all rounds on one disk."""

    def __init__(self):
        self.calls = {}

    def check(self, machine, fresh, everything):
        """Every broken promise as a line of text; the calls that nobody answered are sent again."""
        api = ready(machine)
        self.calls.update((call.key, call) for call in fresh)
        wrong = self.losses(api, fresh)
        unanswered = [call for call in fresh if call.id is None]
        self.each(machine, unanswered, self.again, wrong)
        self.settle(api)
        wrong += self.journal(api)
        here = {call.key for call in fresh}
        # Older calls were compared in their own round already, so some of them will do.
        older = [call for key, call in self.calls.items() if key not in here]
        if not everything:
            older = random.sample(older, min(len(older), 200))
        self.each(machine, [*fresh, *older], self.stored, wrong)
        return wrong

    def losses(self, api, fresh):
        """Before anything is sent again: what was acknowledged must be there."""
        there = {row["id"] for row in pages(api)}
        return [f"{c.key}: {c.id} was acknowledged, is gone" for c in fresh if c.id and c.id not in there]

    @staticmethod
    def each(machine, calls, check, wrong):
        """Runs a check for each call, many at once."""
        local = threading.local()

        def one(call):
            if not hasattr(local, "api"):
                local.api = Api(machine.address, machine.key)
            return check(local.api, call)

        with ThreadPoolExecutor(CLIENTS) as pool:
            wrong += [line for line in pool.map(one, calls) if line]

    @staticmethod
    def again(api, call):
        status, body = call.send(api, again=True)
        if status != 200 or not call.fits(body):
            return f"{call.key}: sent again, answered {status} {body[:200]!r}"
        return None

    @staticmethod
    def settle(api):
        """Waits until nothing waits or runs."""
        for state in ("accepted", "running"):
            query = f"/api/v1/calls?limit=1&state={state}"
            wait_for(f"no call {state}", lambda: not json.loads(api.ask("GET", query)[2])["items"])

    def journal(self, api):
        """Each key once, succeeded, and nothing that nobody sent."""
        wrong, seen = [], {}
        for row in pages(api):
            key = row.get("idempotency_key")
            if key in seen:
                wrong.append(f"{key}: {row['id']} and {seen[key]} are the same call")
            seen[key] = row["id"]
            if key not in self.calls:
                wrong.append(f"{key}: nobody sent {row['id']}")
            if row["state"] != "succeeded":
                wrong.append(f"{key}: {row['id']} is {row['state']}, {row.get('reason')}")
        for call in self.calls.values():
            if call.id and seen.get(call.key) != call.id:
                wrong.append(f"{call.key}: the journal has {seen.get(call.key)} for {call.id}")
        return wrong

    @staticmethod
    def stored(api, call):
        """The stored request and answer are those that were sent and seen."""
        if call.id is None:
            return None
        status, _, body = api.insist("GET", f"/api/v1/calls/{call.id}/response?wait=false")
        if status != 200 or not call.fits(body):
            return f"{call.key}: the stored answer of {call.id} is {status}, {len(body)} bytes"
        if call.answer and call.answer != digest(body):
            return f"{call.key}: the stored answer of {call.id} is not the one that was given"
        call.answer = digest(body)
        status, _, body = api.insist("GET", f"/api/v1/calls/{call.id}/request")
        if status != 200 or body != call.body():
            return f"{call.key}: the stored request of {call.id} is {status}, {len(body)} bytes"
        return None
