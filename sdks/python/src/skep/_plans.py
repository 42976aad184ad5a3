"""What a request does until it has its answer: sending, reading, waiting, attaching again. A plan is a
generator that yields steps and is handed what came of them; `_client` carries steps out, blocking or not.
So there is one text of it for both clients, and no I/O here."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ._answer import Answer, Headers
from ._errors import (
    AgentError,
    ApiError,
    ConnectionFailed,
    ProtocolError,
    SkepError,
    TimedOut,
    TooLarge,
    Unresumable,
    of_status,
)
from ._patience import Waits, judge
from ._requests import Op, Outgoing, agent_get, attach, behind, is_journaled
from ._sse import DIFFERS, MOST_EVENT_BYTES, Differs, Event, Parser, Restart, Splice

T = TypeVar("T")

MOST_BODY_BYTES = 256 << 20
"""Bytes of an answer that is read whole; a larger one is an error."""
MOST_PROBLEM_BYTES = 1 << 20
_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Headers

    @property
    def request_id(self) -> str | None:
        return self.headers.get("skep-request-id")

    @property
    def call_id(self) -> str | None:
        return self.headers.get("skep-call-id")

    @property
    def is_events(self) -> bool:
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind == _EVENT_STREAM and self.headers.get("content-encoding", "identity") == "identity"

    @property
    def is_accepted(self) -> bool:
        """Whether this is Skep's word that the call is durable, instead of the agent's answer."""
        here = f"/api/v1/calls/{self.call_id}"
        return self.status == 202 and self.call_id is not None and self.headers.get("location") == here


@dataclass(frozen=True)
class Send:
    """Send it; gives the `Head`. What was open before is closed."""

    request: Outgoing
    within: float | None = None
    """Seconds of silence after which it is given up."""


@dataclass(frozen=True)
class Read:
    """The next piece of the body; `None` at its end."""


@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Hand this on to who reads the stream."""

    item: Any


Step = Send | Read | Sleep | Emit
Plan = Generator[Step, Any, T]


@dataclass
class Reach:
    """What a client knows of its server over all requests."""

    reached: bool = False


class Trying:
    """The tries of one request, with its patience and its time."""

    def __init__(self, reach: Reach, patience: float, timeout: float | None = None) -> None:
        self._reach = reach
        self.waits = Waits(patience)
        self._until = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self.began = time.monotonic()

    def left(self) -> float | None:
        """Seconds until the timeout; raises `TimedOut` behind it."""
        if self._until is None:
            return None
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimedOut(f"no answer within {self._timeout:g} s")
        return left

    def send(self, request: Outgoing) -> Plan[Head]:
        """One try: the head of an answer that is not Skep's refusal."""
        self.began = time.monotonic()
        head: Head = yield Send(request, self.left())
        self._reach.reached = True
        yield from refused(head)
        return head

    def wait_out(self, error: Exception, safe: bool) -> Plan[bool]:
        """After a try that failed: false when that is the result, else the time for the next has come."""
        unreachable = isinstance(error, ConnectionFailed) and not error.sent
        self._reach.reached |= isinstance(error, ConnectionFailed) and error.sent
        at_least = judge(error, reached=self._reach.reached, safe=safe)
        if at_least is None:
            return False
        # A connection that stood for hours before it was lost cost no patience.
        wait = self.waits.next(at_least, time.monotonic() - self.began if unreachable else 0.0)
        if wait is None:
            return False
        left = self.left()
        yield Sleep(wait if left is None else min(wait, left))
        return True


def read_all(most: int, until: Trying | None = None) -> Plan[bytes]:
    """The body; `TooLarge` when it is over a bound."""
    body = bytearray()
    while (piece := (yield Read())) is not None:
        body += piece
        if len(body) > most:
            raise TooLarge(f"the answer is over {most} bytes")
        if until:
            until.left()
    return bytes(body)


def refused(head: Head) -> Plan[None]:
    """Raises what an answer says, if Skep refuses with it. An agent may send problem documents, too: they
    do not know the id of the request, which Skep's hold. They are left unread."""
    if head.status in (502, 503, 504) and head.request_id is None:
        raise ConnectionFailed(f"a gateway before the server answered {head.status}", sent=True)
    kind = head.headers.get("content-type")
    if head.status < 400 or kind != "application/problem+json" or head.request_id is None:
        return
    body = yield from read_all(MOST_PROBLEM_BYTES)
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("request_id") == head.request_id:
        raise of_status(head.status)(said, retry_after=_retry_after(head), call_id=head.call_id)
    # It was the agent's, and is read by now: whoever wants its body gets it again.
    raise _Own(head, body)


class _Own(Exception):
    """An agent's own problem document."""

    def __init__(self, head: Head, body: bytes) -> None:
        super().__init__()
        self.answer = Answer(head.status, head.headers, body)


def _retry_after(head: Head) -> float | None:
    text = head.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def api(reach: Reach, op: Op[T], patience: float, timeout: float) -> Plan[T]:
    """A request to the management API. Reading is repeated through lost connections, and everything that the
    server refused for now."""
    safe = op.request.method == "GET"
    trying = Trying(reach, patience)
    while True:
        try:
            trying.began = time.monotonic()
            head: Head = yield Send(op.request, timeout)
            reach.reached = True
            if head.status not in op.statuses:
                yield from refused(head)
            body = yield from read_all(MOST_BODY_BYTES)
        except _Own as own:
            raise ProtocolError(f"the server answered {own.answer.status} in words of its own") from None
        except (ApiError, ConnectionFailed) as error:
            if not (yield from trying.wait_out(error, safe)):
                raise
            continue
        return _read(op, head, body)


def _read(op: Op[T], head: Head, body: bytes) -> T:
    if not (200 <= head.status < 300 or head.status in op.statuses):
        raise ProtocolError(f"the server answered {head.status}: is this a Skep server?")
    if head.status == 204:
        return op.read({})
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ProtocolError("the server did not answer with a JSON object: is this a Skep server?")
    return op.read(said)


class Calling:
    """A request to an agent on its way: what is sent again, and what is attached to instead."""

    def __init__(self, reach: Reach, request: Outgoing | None, trying: Trying, call_id: str | None) -> None:
        self.request, self.call_id = request, call_id
        self._reach, self._trying = reach, trying
        # A key makes repeating safe; so does attaching.
        self._safe = request is None or request.key is not None
        self._lost: ConnectionFailed | None = None

    def head(self, last_event_id: str | None = None) -> Plan[Head]:
        """One try."""
        if self.call_id is not None:
            return (yield from self._trying.send(attach(self.call_id, last_event_id, self.request)))
        assert self.request is not None
        if self._lost is not None:
            lost = self._lost
            yield from self._look(lost)
            self._lost = None
        head = yield from self._trying.send(self.request)
        self.call_id = head.call_id
        return head

    def _look(self, lost: ConnectionFailed) -> Plan[None]:
        """Without a journal the key would not keep the agent from doing it twice: an agent may leave
        methods out (`calls.methods`)."""
        assert self.request is not None and self.request.agent is not None
        try:
            op = agent_get(self.request.agent)
            head = yield from self._trying.send(op.request)
            agent = _read(op, head, (yield from read_all(MOST_BODY_BYTES)))
        except ApiError as error:
            if judge(error, reached=True, safe=True) is not None:
                raise
            raise lost from error
        if not is_journaled(self.request.method, agent.spec.get("calls", {}).get("methods")):
            raise lost

    def again(self, error: SkepError) -> Plan[bool]:
        """After a try that failed."""
        if isinstance(error, ConnectionFailed) and error.sent and self.call_id is None:
            self._lost = self._lost or error
        # What was not journaled is not repeated once something of it was sent.
        return (yield from self._trying.wait_out(error, self._safe or self.call_id is not None))

    def name(self, error: SkepError) -> None:
        """Notes at the error what gets the answer later."""
        if isinstance(error, ConnectionFailed | TimedOut):
            error.call_id = self.call_id
            error.idempotency_key = self.request.key if self.request else None


def call(
    reach: Reach,
    request: Outgoing | None,
    call_id: str | None,
    patience: float,
    timeout: float | None,
    most: int,
) -> Plan[Answer]:
    """The agent's answer to a request, or to a call that is there."""
    trying = Trying(reach, patience, timeout)
    calling = Calling(reach, request, trying, call_id)
    try:
        while True:
            try:
                head = yield from calling.head()
                body = yield from read_all(most, trying)
                return Answer(head.status, head.headers, body)
            except _Own as own:
                return own.answer
            except (ApiError, ConnectionFailed) as error:
                if not (yield from calling.again(error)):
                    raise
    except SkepError as error:
        calling.name(error)
        raise


def submit(reach: Reach, request: Outgoing, patience: float, timeout: float | None) -> Plan[str]:
    """The id of a call that is durable."""
    trying = Trying(reach, patience, timeout)
    calling = Calling(reach, request, trying, None)
    try:
        while calling.call_id is None:
            try:
                head = yield from calling.head()
            except _Own as own:
                head = Head(own.answer.status, own.answer.headers)
                calling.call_id = head.call_id
            except (ApiError, ConnectionFailed) as error:
                if not (yield from calling.again(error)):
                    raise
                continue
            if calling.call_id is None or head.is_accepted:
                # Read to its end, its connection can be used again.
                body = yield from read_all(MOST_PROBLEM_BYTES, trying)
            if calling.call_id is None:
                raise AgentError(Answer(head.status, head.headers, body), "a call: is its method journaled?")
        return calling.call_id
    except SkepError as error:
        calling.name(error)
        raise


class Streaming:
    """An agent's event stream that goes on behind what was handed on of it."""

    def __init__(
        self, reach: Reach, request: Outgoing | None, call_id: str | None, begin: str | None, patience: float
    ) -> None:
        self._trying = Trying(reach, patience)
        self._calling = Calling(reach, request, self._trying, call_id)
        self._begin = begin
        self._splice = Splice(begin, MOST_EVENT_BYTES)
        self._first: Head | None = None

    @property
    def call_id(self) -> str | None:
        """The call, once its answer has begun."""
        return self._calling.call_id

    def plan(self) -> Plan[None]:
        """Emits the events, each once."""
        try:
            while True:
                try:
                    yield from self._part()
                    return
                except Restart:
                    continue
                except _Own as own:
                    raise AgentError(own.answer, "an event stream") from None
                except (ApiError, ConnectionFailed) as error:
                    # What is not journaled cannot be attached to.
                    gone = self._first is not None and self.call_id is None
                    if gone or not (yield from self._calling.again(error)):
                        raise
        except Differs as differs:
            raise Unresumable(self.call_id or "", str(differs)) from None
        except SkepError as error:
            self._calling.name(error)
            raise

    def _part(self) -> Plan[None]:
        """What one connection gives."""
        behind_this = self._splice.resume() if self._first else self._begin
        head = yield from self._calling.head(behind_this)
        if self._first is None:
            if not (200 <= head.status < 300 and head.is_events):
                body = yield from read_all(MOST_PROBLEM_BYTES)
                raise AgentError(Answer(head.status, head.headers, body), "an event stream")
            self._first = head
        elif head.status != self._first.status or not head.is_events:
            raise Differs(DIFFERS)
        while (piece := (yield Read())) is not None:
            for event in self._splice.push(piece):
                self._trying.waits.progress()
                yield Emit(event)
        self._splice.finish()


def incidents(reach: Reach, request: Outgoing, patience: float) -> Plan[None]:
    """Emits the server's own events for ever, each once: their ids last."""
    trying = Trying(reach, patience)
    last: str | None = None
    while True:
        try:
            head = yield from trying.send(behind(request, last))
            if not head.is_events:
                raise ProtocolError(f"the server answered {head.status}, and no event stream")
            parser = Parser()
            while (piece := (yield Read())) is not None:
                for event in parser.push(piece):
                    last = event.id or last
                    trying.waits.progress()
                    yield Emit(_said(event))
            raise ConnectionFailed("the server ended the stream", sent=True)
        except _Own as own:
            raise ProtocolError(f"the server answered {own.answer.status}") from None
        except (ApiError, ConnectionFailed) as error:
            if not (yield from trying.wait_out(error, True)):
                raise


def _said(event: Event) -> Any:
    try:
        return event.json()
    except ValueError:
        raise ProtocolError("an event of the server is not JSON") from None
