"""Requests as values: what is asked, and how its answer is read. Pure; both clients send these."""

from __future__ import annotations

import json as _json
import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from ._records import (
    Agent,
    AuditEntry,
    Call,
    Health,
    Incident,
    Page,
    Record,
    Revealed,
    Secret,
)

T = TypeVar("T")
R = TypeVar("R", bound=Record)

DEFAULT_SERVER = "http://127.0.0.1:7537"
_HEADER_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_METHOD = re.compile(r"[A-Za-z]{1,32}")
# What is journaled unless an agent's `calls.methods` says something else.
_UNJOURNALED = frozenset({"GET", "HEAD", "OPTIONS", "CONNECT", "TRACE"})


@dataclass(frozen=True)
class Outgoing:
    """A request as it is sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    agent: str | None = None
    """The agent that it is for."""

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self.headers.get("idempotency-key")


@dataclass(frozen=True)
class Op(Generic[T]):
    """A request to the management API, and how to read its answer."""

    request: Outgoing
    read: Callable[[Any], T]
    statuses: frozenset[int] = frozenset()
    """Statuses besides 2xx that are answers."""


def header_value(name: str, value: str) -> str:
    """The value, if a header can have it."""
    if not _HEADER_TEXT.fullmatch(value):
        raise ValueError(f"{name} is made of visible ASCII characters")
    return value


def segment(text: str) -> str:
    """A text as one segment of a path."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is not a name")
    return quote(text, safe="")


def with_query(path: str, query: Mapping[str, Any]) -> str:
    """A path with what is not `None` as its query."""
    pairs = [(name, _text(value)) for name, value in query.items() if value is not None]
    return f"{path}?{urlencode(pairs, quote_via=quote)}" if pairs else path


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def is_journaled(method: str, methods: list[str] | None) -> bool:
    """Whether requests with this method are calls, as an agent's `calls.methods` say."""
    return method.upper() in methods if methods is not None else method.upper() not in _UNJOURNALED


def target(path: str) -> str:
    """Path and query of a request to an agent. What would lead out of `/agents/{agent}/` is refused."""
    if not path.startswith("/"):
        path = f"/{path}"
    if re.search(r"[\x00-\x20\x7f#\\]", path):
        raise ValueError("percent-encode spaces, `#`, `\\` and control characters in a path")
    bare = path.partition("?")[0]
    if any(unquote(part) in (".", "..") for part in bare.split("/")):
        raise ValueError("a path to an agent has no `.` and `..` segments")
    return quote(path, safe="/?&=%:@!$'()*+,;~-._[]")


def to_agent(
    agent: str,
    path: str,
    *,
    method: str,
    json: Any,
    content: bytes | str | None,
    headers: Mapping[str, str] | None,
    idempotency_key: str | None,
    accept: str,
    prefer: str | None = None,
) -> Outgoing:
    """A request to an agent. A call gets a key of its own unless it has one."""
    if not _METHOD.fullmatch(method):
        raise ValueError(f"{method!r} is not a method")
    if json is not None and content is not None:
        raise ValueError("give `json` or `content`, not both")
    # Compressed answers cannot be compared when one is read again.
    all_headers = {"accept": accept, "accept-encoding": "identity"}
    body = b""
    if json is not None:
        body = _json.dumps(json, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        all_headers["content-type"] = "application/json"
    elif content is not None:
        body = content.encode() if isinstance(content, str) else bytes(content)
    for name, value in (headers or {}).items():
        all_headers[name.lower()] = value
    if idempotency_key is not None:
        all_headers["idempotency-key"] = header_value("an idempotency key", idempotency_key)
    elif is_journaled(method, None):
        all_headers.setdefault("idempotency-key", f"auto_{uuid.uuid4().hex}")
    if prefer:
        known = all_headers.get("prefer")
        all_headers["prefer"] = f"{known}, {prefer}" if known else prefer
    path = f"/agents/{segment(agent)}{target(path)}"
    return Outgoing(method.upper(), path, all_headers, body, agent)


def attach(call_id: str, last_event_id: str | None, like: Outgoing | None = None) -> Outgoing:
    """Asks for a call's answer: stored, or as it comes in."""
    headers = {"accept-encoding": "identity", "accept": like.headers["accept"] if like else "*/*"}
    if last_event_id is not None:
        headers["last-event-id"] = header_value("the id of an event", last_event_id)
    return Outgoing("GET", f"/api/v1/calls/{segment(call_id)}/response?wait=true", headers)


def _api(method: str, path: str, body: Any = None) -> Outgoing:
    headers = {"accept": "application/json"}
    content = b""
    if body is not None:
        headers["content-type"] = "application/json"
        content = _json.dumps(body).encode()
    return Outgoing(method, f"/api/v1{path}", headers, content)


def _nothing(_: Any) -> None:
    return None


def _count(said: Any) -> int:
    return int(said.get("calls", 0))


@dataclass(frozen=True)
class Listing(Generic[R]):
    """A list of which each page is asked for when it is needed."""

    path: str
    query: Mapping[str, Any]
    record: type[R]

    def page(self, cursor: str | None) -> Op[Page]:
        """The page at a cursor."""
        query = dict(self.query)
        if cursor is not None:
            query["cursor"] = cursor
        return Op(_api("GET", with_query(self.path, query)), Page.read)


def agents_list(limit: int | None) -> Listing[Agent]:
    return Listing("/agents", {"limit": limit}, Agent)


def agent_get(name: str) -> Op[Agent]:
    return Op(_api("GET", f"/agents/{segment(name)}"), Agent.read)


def agent_deploy(spec: Mapping[str, Any]) -> Op[Agent]:
    return Op(_api("POST", "/agents", dict(spec)), Agent.read)


def agent_remove(name: str, force: bool) -> Op[None]:
    path = with_query(f"/agents/{segment(name)}", {"force": force or None})
    return Op(_api("DELETE", path), _nothing)


def agent_do(name: str, verb: str) -> Op[Agent]:
    return Op(_api("POST", f"/agents/{segment(name)}/{verb}"), Agent.read)


def agent_rollback(name: str, revision: int | None) -> Op[Agent]:
    body = {} if revision is None else {"to": revision}
    return Op(_api("POST", f"/agents/{segment(name)}/rollback", body), Agent.read)


def scaled(agent: Agent, replicas: int | Mapping[str, Any]) -> Op[Agent]:
    return agent_deploy({**agent.spec, "replicas": replicas if isinstance(replicas, int) else dict(replicas)})


def calls_list(agent: str | None, state: str | None, limit: int | None) -> Listing[Call]:
    return Listing("/calls", {"agent": agent, "state": state, "limit": limit}, Call)


def call_get(call_id: str) -> Op[Call]:
    return Op(_api("GET", f"/calls/{segment(call_id)}"), Call.read)


def call_do(call_id: str, verb: str) -> Op[Call]:
    return Op(_api("POST", f"/calls/{segment(call_id)}/{verb}"), Call.read)


def call_purge(call_id: str) -> Op[None]:
    return Op(_api("DELETE", f"/calls/{segment(call_id)}"), _nothing)


def calls_redrive(agent: str | None) -> Op[int]:
    return Op(_api("POST", with_query("/calls/redrive", {"agent": agent})), _count)


def incidents_list(agent: str | None, kind: str | None, since: str | None, limit: int | None) -> Listing[Incident]:
    return Listing("/events", {"agent": agent, "type": kind, "since": since, "limit": limit}, Incident)


def incidents_stream(agent: str | None, kind: str | None, since: str | None, after: str | None) -> Outgoing:
    query = {"agent": agent, "type": kind, "since": since, "after": after}
    request = _api("GET", with_query("/events/stream", query))
    return replace(request, headers={"accept": "text/event-stream", "accept-encoding": "identity"})


def behind(request: Outgoing, last: str | None) -> Outgoing:
    """The request for a stream of the API behind an event."""
    return request if last is None else replace(request, headers={**request.headers, "last-event-id": last})


def secrets_list(query: str | None, tags: str | None, limit: int | None) -> Listing[Secret]:
    return Listing("/secrets", {"query": query, "tags": tags, "limit": limit}, Secret)


def secret_get(name: str) -> Op[Secret]:
    return Op(_api("GET", f"/secrets/{segment(name)}"), Secret.read)


def secret_reveal(name: str, reason: str, version: int | None, field: str | None) -> Op[Revealed]:
    said = {"reason": reason, "version": version, "field": field}
    body = {name: value for name, value in said.items() if value is not None}
    return Op(_api("POST", f"/secrets/{segment(name)}/reveal", body), Revealed.read)


def audit_list(query: Mapping[str, Any]) -> Listing[AuditEntry]:
    return Listing("/audit/entries", query, AuditEntry)


def audit_get(number: int) -> Op[AuditEntry]:
    return Op(_api("GET", f"/audit/entries/{int(number)}"), AuditEntry.read)


def health(detailed: bool) -> Op[Health]:
    # A failed health is an answer, with 503.
    path = "/health/detailed" if detailed else "/health/basic"
    return Op(_api("GET", path), Health.read, frozenset({503}))


@dataclass(frozen=True)
class Settings:
    """Where the server is, and who asks."""

    url: str
    api_key: str | None = field(repr=False)
    workspace: str | None

    def headers(self, request: Outgoing) -> dict[str, str]:
        """The headers of a request, with who asks."""
        headers = dict(request.headers)
        if self.api_key is not None:
            # An Authorization of the caller's own is meant for the agent: our key goes beside it.
            if "authorization" in headers:
                headers["skep-api-key"] = self.api_key
            else:
                headers["authorization"] = f"Bearer {self.api_key}"
        if self.workspace is not None:
            headers["skep-workspace"] = self.workspace
        return headers


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _checked(url: str) -> str:
    parts = urlsplit(url)
    right = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    if not right or parts.username is not None:
        raise ValueError(f"{url!r} is not the address of a server, such as {DEFAULT_SERVER}")
    return url.rstrip("/")


def settings(server: str | None, api_key: str | None, workspace: str | None) -> Settings:
    """Arguments, else what the CLI reads (`SKEP_SERVER`, `SKEP_API_KEY` or `SKEP_API_KEY_FILE`,
    `SKEP_WORKSPACE`, the login of `skep login`), else what an agent is given (`SKEP_URL`, `SKEP_TOKEN`)."""
    named = server or _variable("SKEP_SERVER")
    own = None if named else _variable("SKEP_URL")
    url = _checked(named or own or DEFAULT_SERVER)
    key = api_key or _named_key()
    # An agent's token is for its own server, and for nobody else.
    key = key or (_variable("SKEP_TOKEN") if own else _kept_login(url))
    workspace = workspace or _variable("SKEP_WORKSPACE")
    return Settings(
        url,
        header_value("the API key", key) if key else None,
        header_value("the workspace", workspace) if workspace else None,
    )


def _named_key() -> str | None:
    key, file = _variable("SKEP_API_KEY"), _variable("SKEP_API_KEY_FILE")
    if key and file:
        raise ValueError("SKEP_API_KEY and SKEP_API_KEY_FILE are both set")
    return Path(file).read_text().strip() if file else key


def _kept_login(url: str) -> str | None:
    xdg = _variable("XDG_CONFIG_HOME")
    home = _variable("HOME")
    if xdg and Path(xdg).is_absolute():
        folder = Path(xdg)
    elif home:
        folder = Path(home) / ".config"
    else:
        return None
    try:
        return (folder / "skep" / "logins" / re.sub(r"[^a-z0-9.-]", "_", url.lower())).read_text().strip()
    except OSError:
        return None
