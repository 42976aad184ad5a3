"""What an agent answers, whole; and headers, which are the same for clients and agents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import AgentError


class Headers(Mapping[str, str]):
    """Headers by name, whatever its case. Several of one name are joined with commas."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({list(self._values)})"


@dataclass(frozen=True)
class Answer:
    """An agent's own answer, whatever its status."""

    status: int
    """The agent's status."""
    headers: Headers
    """Its headers."""
    content: bytes = field(repr=False)
    """Its body."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text in UTF-8; what is not UTF-8 is replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. `ValueError` when it is none."""
        return json.loads(self.content)

    @property
    def call_id(self) -> str | None:
        """The call that the answer belongs to; `None` when it was not journaled (GET, for example)."""
        return self.headers.get("skep-call-id")

    @property
    def request_id(self) -> str | None:
        """The id of the request, to look up in the server's log."""
        return self.headers.get("skep-request-id")

    @property
    def replayed(self) -> bool:
        """Whether this is the stored answer to an earlier request with the same idempotency key. A try of
        this very call whose answer got lost on its way is an earlier request, too."""
        return self.headers.get("idempotency-replayed") == "true"

    def raise_for_status(self) -> Answer:
        """Itself, if the status is 2xx; else raises `AgentError`."""
        if not self.ok:
            raise AgentError(self)
        return self
