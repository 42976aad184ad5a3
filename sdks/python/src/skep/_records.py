"""What the management API says, as records. Every field has a default and unknown ones stay in `raw`, so that
neither an older nor a newer server breaks a program. Times are RFC 3339 in UTC, durations text (`30s`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

R = TypeVar("R", bound="Record")


def _many(record: type[Record]) -> Any:
    return field(default=(), metadata={"many": record})


def _map() -> Any:
    return field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """Something that the API says."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)
    """All that was said, also what this version does not know."""

    _names: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def read(cls: type[R], said: Mapping[str, Any]) -> R:
        """The record in a JSON object. What is absent or null has its default."""
        values: dict[str, Any] = {"raw": said}
        for known in fields(cls):
            value = said.get(cls._names.get(known.name, known.name))
            if known.name == "raw" or value is None:
                continue
            if "one" in known.metadata:
                value = known.metadata["one"].read(value)
            elif "many" in known.metadata:
                value = tuple(known.metadata["many"].read(it) for it in value)
            values[known.name] = value
        return cls(**values)


@dataclass(frozen=True)
class Instance(Record):
    """One running copy of a revision."""

    id: str = ""
    revision: int = 0
    state: str = ""
    """`stopped`, `asleep`, `starting`, `ready`, `unready`, `backoff`, `crash_loop` or `stopping`."""
    pid: int | None = None
    port: int = 0
    started_at: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Agent(Record):
    """A named thing that answers calls."""

    id: str = ""
    name: str = ""
    desired: str = ""
    """What its owner wants: `running` or `stopped`."""
    state: str = ""
    """The state in one word: that of the instance, else `stopped`."""
    reason: str | None = None
    """Why it is in this state, when there is more to say."""
    revision: int = 0
    replicas: int = 0
    """Copies that are wanted now."""
    restarts: int = 0
    instance: Instance | None = field(default=None, metadata={"one": Instance})
    """The instance that serves, or will."""
    instances: tuple[Instance, ...] = _many(Instance)
    rollout: Mapping[str, Any] = _map()
    calls: Mapping[str, int] = _map()
    """Calls by state."""
    spec: Mapping[str, Any] = _map()
    """The current revision's specification."""
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True)
class Attempt(Record):
    """One try of a call that did not end it."""

    number: int = 0
    """Counted from 1."""
    instance: str = ""
    epoch: int = 0
    started_at: str = ""
    ended_at: str = ""
    status: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Call(Record):
    """One durable request to an agent."""

    id: str = ""
    agent: str = ""
    state: str = ""
    """`accepted`, `running`, `succeeded`, `failed`, `dead`, `cancelled` or `expired`."""
    method: str = ""
    target: str = ""
    """Path and query as the agent sees them."""
    attempts: int = 0
    status: int | None = None
    """The agent's status, once it has answered."""
    reason: str | None = None
    idempotency_key: str | None = None
    replay_of: str | None = None
    request_bytes: int = 0
    response_bytes: int | None = None
    accepted_at: str = ""
    due_at: str | None = None
    deadline_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    instance: str | None = None
    history: tuple[Attempt, ...] = _many(Attempt)
    """Earlier attempts and why each ended; of a single call only."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended (a dead one can be redriven)."""
        return self.state not in ("", "accepted", "running")


@dataclass(frozen=True)
class Incident(Record):
    """Something that happened to agents, instances, calls or the server: an event of the API."""

    _names: ClassVar[Mapping[str, str]] = {"kind": "type"}

    id: str = ""
    """A number that grows: where to go on."""
    time: str = ""
    kind: str = ""
    """`type` on the wire, such as `instance.ready`. New ones may come with any version."""
    agent: str | None = None
    instance: str | None = None
    revision: int | None = None
    call: str | None = None
    by: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Secret(Record):
    """A secret without its value."""

    id: str = ""
    name: str = ""
    description: str = ""
    tags: Mapping[str, str] = _map()
    latest: int = 0
    """Its newest version."""
    keep: int = 0
    check: bool = False
    canary: bool = False
    ttl: str | None = None
    rotate_every: str | None = None
    rotate_at: str | None = None
    created_at: str = ""
    updated_at: str = ""


@dataclass(frozen=True, repr=False)
class Revealed(Record):
    """A value that somebody asked to see. Its `repr` does not show it."""

    id: str = ""
    version: int = 0
    value: str | None = None
    """The value, when it is text."""
    value_base64: str | None = None
    """The value in base64, when it is not."""

    def __repr__(self) -> str:
        return f"Revealed(id={self.id!r}, version={self.version})"


@dataclass(frozen=True)
class AuditEntry(Record):
    """An entry of the audit log."""

    number: int = 0
    """Its number in the log, from 0."""
    entry: Mapping[str, Any] = _map()
    """What it tells."""
    personal: tuple[Mapping[str, Any], ...] = ()
    """The personal data that belongs to it: `kind`, `person`, `value`."""


@dataclass(frozen=True)
class Health(Record):
    """How well the server is."""

    status: str = ""
    """`ok`, `degraded` or `failed`."""
    version: str = ""
    """Of the binary; in detailed health only, as is what follows."""
    uptime_s: int = 0
    checks: tuple[Mapping[str, Any], ...] = ()
    agents: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Page(Record):
    """One page of a list: its rows, and where the next begins."""

    items: tuple[Mapping[str, Any], ...] = ()
    next: str | None = None
