"""Skep for Python: a client of its API and of agents, and agents in one line.

    with skep.Client() as client:
        print(client.call("hello", "/greet", json={"name": "you"}).json())

    skep.serve(lambda request: {"hello": request.json()["name"]})

What agents need (`serve` and its words) is the standard library; `httpx` is imported with the first client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._answer import Answer, Headers
from ._errors import (
    AgentError,
    ApiError,
    BadGateway,
    BadRequest,
    Conflict,
    ConnectionFailed,
    Forbidden,
    GatewayTimeout,
    NotFound,
    ProtocolError,
    RateLimited,
    ServerError,
    SkepError,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unresumable,
)
from ._records import Agent, Attempt, AuditEntry, Call, Health, Incident, Instance, Revealed, Secret
from ._serve import Refused, Request, Response, serve
from ._sse import Event
from ._version import __version__

if TYPE_CHECKING:
    from ._async_client import AsyncClient, AsyncHandle, AsyncStream
    from ._client import Client, Handle, Stream

__all__ = [
    "Agent",
    "AgentError",
    "Answer",
    "ApiError",
    "AsyncClient",
    "AsyncHandle",
    "AsyncStream",
    "Attempt",
    "AuditEntry",
    "BadGateway",
    "BadRequest",
    "Call",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Event",
    "Forbidden",
    "GatewayTimeout",
    "Handle",
    "Headers",
    "Health",
    "Incident",
    "Instance",
    "NotFound",
    "ProtocolError",
    "RateLimited",
    "Refused",
    "Request",
    "Response",
    "Revealed",
    "Secret",
    "ServerError",
    "SkepError",
    "Stream",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unresumable",
    "__version__",
    "serve",
]

_WITH_HTTPX = {
    "Client": "_client",
    "Handle": "_client",
    "Stream": "_client",
    "AsyncClient": "_async_client",
    "AsyncHandle": "_async_client",
    "AsyncStream": "_async_client",
}


def __getattr__(name: str) -> Any:
    """The clients, when they are asked for."""
    module = _WITH_HTTPX.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{module}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
