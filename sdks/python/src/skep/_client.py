"""The blocking client. `_async_client` is its twin; what both do is in `_requests` and `_plans`."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload

import httpx

from . import _plans as plans
from . import _requests as requests
from ._answer import Answer
from ._patience import WITHIN
from ._plans import MOST_BODY_BYTES, Emit, Plan, Reach, Streaming
from ._records import Agent, AuditEntry, Call, Health, Incident, Record, Revealed, Secret
from ._sse import Event
from ._transport import Wire, blocking
from ._version import USER_AGENT

T = TypeVar("T")
R = TypeVar("R", bound=Record)
TIMEOUT = 60.0
"""Seconds of silence of the management API."""


class Stream(Generic[T]):
    """What a stream gives, as it comes; each thing once. Ends with its stream, or with `close`.

    The request is sent when the first is asked for. Closing ends the reading, and not the call.
    """

    def __init__(self, wire: Wire, plan: Plan[None], of: Streaming | None, read: Any = None) -> None:
        self._wire, self._plan, self._of, self._read = wire, plan, of, read

    @property
    def call_id(self) -> str | None:
        """The call whose answer this is, once that has begun: `client.calls.attach(call_id)` reads it again."""
        return self._of.call_id if self._of else None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        step = self._wire.until_emitted(self._plan)
        if not isinstance(step, Emit):
            raise StopIteration
        item: T = self._read(step.item) if self._read else step.item
        return item

    def close(self) -> None:
        """Reads no more."""
        self._plan.close()
        self._wire.close()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Handle:
    """A call that is durable and goes on by itself."""

    def __init__(self, client: Client, call_id: str) -> None:
        self._client = client
        self.call_id = call_id
        """`call_…`"""

    def wait(self, timeout: float | None = None) -> Answer:
        """The agent's answer, as `client.calls.wait` gives it."""
        return self._client.calls.wait(self.call_id, timeout)

    def get(self) -> Call:
        """How far it is."""
        return self._client.calls.get(self.call_id)

    def cancel(self) -> Call:
        """Ends it."""
        return self._client.calls.cancel(self.call_id)

    def __repr__(self) -> str:
        return f"Handle({self.call_id!r})"


class Client:
    """A client of one Skep server. Threads may share one; it keeps connections, so keep it.

    `server`: its address. Default: `SKEP_SERVER`; in an agent that Skep runs, `SKEP_URL`; else
    `http://127.0.0.1:7537`.
    `api_key`: default `SKEP_API_KEY`, the file `SKEP_API_KEY_FILE`, the login that `skep login` has kept for
    the address; in an agent, `SKEP_TOKEN`.
    `workspace`: for who belongs to several. Default: `SKEP_WORKSPACE`.
    `timeout`: seconds of silence of the management API. Calls to agents have timeouts of their own.
    `patience`: seconds without progress after which a server that cannot be reached, or that refuses for now,
    is given up. One that was never there fails at once.
    `ca_file`: a PEM file with the certificates to trust, instead of the system's.
    `http`: an `httpx.Client` of yours, for proxies or client certificates; it is yours to close.

    `ValueError` when an argument cannot be used. Nothing is sent yet.
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        workspace: str | None = None,
        timeout: float = TIMEOUT,
        patience: float = WITHIN,
        ca_file: str | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._settings = requests.settings(server, api_key, workspace)
        self._timeout, self._patience = timeout, patience
        self._reach = Reach()
        self._owns_http = http is None
        self._http = blocking(ca_file) if http is None else http
        self.agents = Agents(self)
        self.calls = Calls(self)
        self.events = Events(self)
        self.secrets = Secrets(self)
        self.audit = Audit(self)

    @property
    def server(self) -> str:
        """The server's address."""
        return self._settings.url

    def close(self) -> None:
        """Closes its connections."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.url!r})"

    def _wire(self) -> Wire:
        return Wire(self._http, self._settings, USER_AGENT)

    def _do(self, op: requests.Op[T]) -> T:
        return self._wire().run(plans.api(self._reach, op, self._patience, self._timeout))

    def _list(self, listing: requests.Listing[R]) -> Generator[R, None, None]:
        cursor: str | None = None
        while True:
            page = self._do(listing.page(cursor))
            for item in page.items:
                yield listing.record.read(item)
            cursor = page.next
            if cursor is None:
                return

    def _stream(self, of: Streaming) -> Stream[Event]:
        return Stream(self._wire(), of.plan(), of)

    def health(self, *, detailed: bool = False) -> Health:
        """How well the server is. A `failed` one is an answer, and no error. Only `detailed` needs a key."""
        return self._do(requests.health(detailed))

    @overload
    def call(
        self,
        agent: str,
        path: str = "/",
        *,
        method: str = "POST",
        json: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        respond_async: Literal[False] = False,
        timeout: float | None = None,
        max_bytes: int = MOST_BODY_BYTES,
    ) -> Answer: ...

    @overload
    def call(
        self,
        agent: str,
        path: str = "/",
        *,
        method: str = "POST",
        json: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        respond_async: Literal[True],
        timeout: float | None = None,
        max_bytes: int = MOST_BODY_BYTES,
    ) -> Handle: ...

    def call(
        self,
        agent: str,
        path: str = "/",
        *,
        method: str = "POST",
        json: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        respond_async: bool = False,
        timeout: float | None = None,
        max_bytes: int = MOST_BODY_BYTES,
    ) -> Answer | Handle:
        """Calls an agent. Whatever it answers is the answer, also outside 2xx; what Skep refuses is an error.

        A call (any method but GET, HEAD and OPTIONS) is durable and answered once: it gets a random
        idempotency key unless it has one, and is sent again under that same key through lost connections,
        restarts of the server, 429 and 503 that pass. Other requests are sent again only if nothing of them
        was sent.

        `path`: path and query as the agent sees them. `json` or `content`: the body.
        `respond_async`: give a `Handle` as soon as the call is durable, instead of the answer.
        `timeout`: seconds to wait, `TimedOut` behind them; the call goes on. Default: as long as it may run.
        `max_bytes`: an answer over it is `TooLarge`.

        Raises `ApiError`, `ConnectionFailed`, `TimedOut`, `TooLarge`; `ValueError` for wrong arguments.
        """
        request = requests.to_agent(
            agent,
            path,
            method=method,
            json=json,
            content=content,
            headers=headers,
            idempotency_key=idempotency_key,
            accept="*/*",
            prefer="respond-async" if respond_async else None,
        )
        if respond_async:
            call_id = self._wire().run(plans.submit(self._reach, request, self._patience, timeout))
            return Handle(self, call_id)
        return self._wire().run(plans.call(self._reach, request, None, self._patience, timeout, max_bytes))

    def stream(
        self,
        agent: str,
        path: str = "/",
        *,
        method: str = "POST",
        json: Any = None,
        content: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Stream[Event]:
        """Calls an agent that answers with server-sent events; gives them as they come.

        A call's stream goes on by itself where its connection was lost, with every event once; `Unresumable`
        when the agent was tried again and says something else. Events over 16 MiB are `TooLarge`, an answer
        that is no event stream is an `AgentError`; the rest is as with `call`.
        """
        request = requests.to_agent(
            agent,
            path,
            method=method,
            json=json,
            content=content,
            headers=headers,
            idempotency_key=idempotency_key,
            accept="text/event-stream",
        )
        return self._stream(Streaming(self._reach, request, None, None, self._patience))


class Agents:
    """Agents and what is done with them. Each method raises `ApiError`, `ConnectionFailed` or `TimedOut`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, *, page_size: int | None = None) -> Iterator[Agent]:
        """All agents, by name; page by page as they are asked for."""
        return self._client._list(requests.agents_list(page_size))

    def get(self, name: str) -> Agent:
        """One agent."""
        return self._client._do(requests.agent_get(name))

    def deploy(self, spec: Mapping[str, Any]) -> Agent:
        """Deploys an agent, or a new revision of one. The same specification again changes nothing."""
        return self._client._do(requests.agent_deploy(spec))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Stops and forgets an agent; with `force` also when it has open calls."""
        self._client._do(requests.agent_remove(name, force))

    def start(self, name: str) -> Agent:
        """Starts an agent that was stopped."""
        return self._client._do(requests.agent_do(name, "start"))

    def stop(self, name: str) -> Agent:
        """Stops an agent. Its asynchronous calls wait."""
        return self._client._do(requests.agent_do(name, "stop"))

    def restart(self, name: str) -> Agent:
        """Restarts an agent; one in a crash loop is tried again."""
        return self._client._do(requests.agent_do(name, "restart"))

    def rollback(self, name: str, revision: int | None = None) -> Agent:
        """Goes back to a revision; default: the one before."""
        return self._client._do(requests.agent_rollback(name, revision))

    def scale(self, name: str, replicas: int | Mapping[str, Any]) -> Agent:
        """Deploys the agent's specification with so many copies: a number, or `{"min": 0, "max": 4}`."""
        return self._client._do(requests.scaled(self.get(name), replicas))


class Calls:
    """Calls as records, and their answers. Each method raises `ApiError`, `ConnectionFailed` or `TimedOut`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self, *, agent: str | None = None, state: str | None = None, page_size: int | None = None
    ) -> Iterator[Call]:
        """Calls, newest first; page by page as they are asked for."""
        return self._client._list(requests.calls_list(agent, state, page_size))

    def get(self, call_id: str) -> Call:
        """One call, with its attempts."""
        return self._client._do(requests.call_get(call_id))

    def wait(self, call_id: str, timeout: float | None = None, *, max_bytes: int = MOST_BODY_BYTES) -> Answer:
        """The agent's answer to a call, stored or once it comes. How the call ended without one is an
        `ApiError`: `call-dead`, `call-cancelled`, `call-expired`. `timeout` in seconds."""
        client = self._client
        plan = plans.call(client._reach, None, call_id, client._patience, timeout, max_bytes)
        return client._wire().run(plan)

    def attach(self, call_id: str, *, last_event_id: str | None = None) -> Stream[Event]:
        """The event stream that a call is answered with, from its start or behind an event."""
        client = self._client
        return client._stream(Streaming(client._reach, None, call_id, last_event_id, client._patience))

    def cancel(self, call_id: str) -> Call:
        """Ends a call that is not wanted any more."""
        return self._client._do(requests.call_do(call_id, "cancel"))

    def replay(self, call_id: str) -> Call:
        """Makes a new call of the same request."""
        return self._client._do(requests.call_do(call_id, "replay"))

    def redrive(self, call_id: str) -> Call:
        """Gives a dead call another round of attempts."""
        return self._client._do(requests.call_do(call_id, "redrive"))

    def redrive_all(self, *, agent: str | None = None) -> int:
        """Gives every dead call, or those of one agent, another round; tells how many."""
        return self._client._do(requests.calls_redrive(agent))

    def purge(self, call_id: str) -> None:
        """Forgets a call that has ended."""
        self._client._do(requests.call_purge(call_id))


class Events:
    """What happened to agents, instances, calls and the server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        agent: str | None = None,
        kind: str | None = None,
        since: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[Incident]:
        """Events from `since` on (RFC 3339, or `10m` back), oldest first; without it, the newest page."""
        return self._client._list(requests.incidents_list(agent, kind, since, page_size))

    def stream(
        self,
        *,
        agent: str | None = None,
        kind: str | None = None,
        since: str | None = None,
        after: str | None = None,
    ) -> Stream[Incident]:
        """Events as they happen, each once, for as long as it is read: from `since` or behind the event
        `after`, else from now."""
        client = self._client
        request = requests.incidents_stream(agent, kind, since, after)
        plan = plans.incidents(client._reach, request, client._patience)
        return Stream(client._wire(), plan, None, Incident.read)


class Secrets:
    """The vault: what is in it, and a value when it is asked for by `reveal`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self, *, query: str | None = None, tags: str | None = None, page_size: int | None = None
    ) -> Iterator[Secret]:
        """Secrets without their values. `query`: words of the name; `tags`: `team=red,env`."""
        return self._client._list(requests.secrets_list(query, tags, page_size))

    def get(self, name: str) -> Secret:
        """One secret, by its name or id, without its value."""
        return self._client._do(requests.secret_get(name))

    def reveal(self, name: str, *, reason: str, version: int | None = None, field: str | None = None) -> Revealed:
        """A value. `reason` stands in the audit log; `field` is one of a value that is a JSON object."""
        return self._client._do(requests.secret_reveal(name, reason, version, field))


class Audit:
    """The audit log."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        principal: str | None = None,
        action: str | None = None,
        resource: str | None = None,
        decision: str | None = None,
        request: str | None = None,
        since: str | None = None,
        until: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[AuditEntry]:
        """Entries: by whom, which action (`agent:deploy`, or all of `agent`), about what, `allow` or `deny`,
        of which request, and when (RFC 3339, or `10m` back)."""
        query = {
            "principal": principal,
            "action": action,
            "resource": resource,
            "decision": decision,
            "request": request,
            "since": since,
            "until": until,
            "limit": page_size,
        }
        return self._client._list(requests.audit_list(query))

    def get(self, number: int) -> AuditEntry:
        """One entry."""
        return self._client._do(requests.audit_get(number))
