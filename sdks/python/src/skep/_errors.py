"""What can go wrong, as types. Decisions about trying again live in `_patience`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._answer import Answer


class SkepError(Exception):
    """Everything that this package raises, but `ValueError` and `TypeError` for wrong arguments."""


class ApiError(SkepError):
    """Skep refused, and says why (RFC 9457). Raised as the subclass for its status."""

    type: str
    """Where the code is documented, relative to the server: `/docs/errors/agent-not-found`."""
    title: str
    """A short summary that is the same for every occurrence."""
    status: int
    """The HTTP status."""
    detail: str
    """What happened this time."""
    code: str
    """The stable code, such as `agent-not-found`: what programs look at."""
    request_id: str
    """The id of the request, to look up in the server's log."""
    hint: str
    """The next thing to do."""
    retry_after: float | None
    """Seconds after which trying again may help, if the server says so."""
    call_id: str | None
    """The call that it is about, if it is about one."""

    def __init__(
        self,
        problem: Mapping[str, Any],
        *,
        retry_after: float | None = None,
        call_id: str | None = None,
    ) -> None:
        def text(name: str) -> str:
            value = problem.get(name)
            return value if isinstance(value, str) else ""

        status = problem.get("status")
        self.type, self.title = text("type"), text("title")
        self.status = status if isinstance(status, int) else 0
        self.detail, self.code, self.hint = text("detail"), text("code"), text("hint")
        self.request_id = text("request_id")
        self.retry_after, self.call_id = retry_after, call_id
        super().__init__(self.detail)

    def __str__(self) -> str:
        words = self.detail or self.title
        if self.hint:
            words = f"{words}. {self.hint}" if not words.endswith((".", "?", "!")) else f"{words} {self.hint}"
        return f"{words} [{self.code}, {self.request_id}]"


class BadRequest(ApiError):
    """400, 405, 408, 413, 415, 422, 431: the request itself is wrong."""


class Unauthorized(ApiError):
    """401: no key, or one that does not count."""


class Forbidden(ApiError):
    """403: a policy, a role or a scope says no."""


class NotFound(ApiError):
    """404, 410: there is no such thing, or none that this key may know of."""


class Conflict(ApiError):
    """409, 412: not in this state, or somebody else was first."""


class RateLimited(ApiError):
    """429: too many requests, a full queue, a quota. `retry_after` says when again."""


class ServerError(ApiError):
    """500 and above: the server, or an agent behind it, could not do it."""


class BadGateway(ServerError):
    """502: the agent gave no answer; with `call-dead` after all attempts."""


class Unavailable(ServerError):
    """503: not now. `retry_after` says when again, if somebody knows."""


class GatewayTimeout(ServerError):
    """504: the agent was silent for too long, or the call expired."""


class ConnectionFailed(SkepError):
    """No connection to the server, or it was lost, and patience is at its end."""

    sent: bool
    """Whether something of the request was sent: what became of it is not known then."""
    idempotency_key: str | None
    """The key of a call: the same request with it gets the answer of that call, whatever became of it."""
    call_id: str | None
    """The call, if its id came before the connection was lost. It goes on."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        self.idempotency_key, self.call_id = None, None


class TimedOut(SkepError):
    """The answer did not come within `timeout`. A call goes on; its key or id gets its answer later."""

    idempotency_key: str | None
    """The key of a call: the same request with it gets the answer of that call."""
    call_id: str | None
    """The call, if its id is known."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.idempotency_key, self.call_id = None, None


class ProtocolError(SkepError):
    """What answered does not speak as Skep does."""


class TooLarge(SkepError):
    """An answer or an event is over a bound of this client."""


class Unresumable(SkepError):
    """A stream was cut, and what came before cannot be continued: the agent was tried again and says
    something else. `client.calls.response(call_id)` has the whole answer."""

    call_id: str

    def __init__(self, call_id: str, reason: str) -> None:
        super().__init__(f"the stream of {call_id} cannot be continued where its connection was lost: {reason}")
        self.call_id = call_id


class AgentError(SkepError):
    """The agent's own answer is not the one that was asked for: not 2xx, or no event stream."""

    answer: Answer
    """What it answered."""

    def __init__(self, answer: Answer, wanted: str = "a success") -> None:
        about = f" ({answer.call_id})" if answer.call_id else ""
        super().__init__(f"the agent answered {answer.status}{about}, not {wanted}: {answer.text[:200]}")
        self.answer = answer


_FAMILIES: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    429: RateLimited,
    502: BadGateway,
    503: Unavailable,
    504: GatewayTimeout,
}


def of_status(status: int) -> type[ApiError]:
    """The type for a status."""
    if status in _FAMILIES:
        return _FAMILIES[status]
    return ServerError if status >= 500 else BadRequest
