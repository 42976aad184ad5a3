"""Server-sent events (WHATWG HTML, section 9.2): reading them within bounds, and continuing a stream behind
what was handed on. Pure: bytes in, events out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ._errors import TooLarge

MOST_EVENT_BYTES = 16 << 20
"""Bytes of one event; a longer one is an error."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_STAMP = re.compile(r"([0-9]{1,10})\.([0-9]{1,18})")

DIFFERS = "the agent was tried again and answers differently"
FROM_THE_MIDDLE = "it was read from the middle, and the agent was tried again"


@dataclass(frozen=True)
class Event:
    """One server-sent event. An agent's handler may give it, too."""

    data: str = ""
    """What it says. Its lines have `\\n` between them."""
    event: str = "message"
    """Its type."""
    id: str = ""
    """Where to go on behind it: the agent's own, or Skep's `ATTEMPT.INDEX`. Not that of an event before."""

    def json(self) -> Any:
        """The data as JSON. `ValueError` when it is none."""
        return json.loads(self.data)


class Parser:
    """Bytes as they come, into events."""

    def __init__(self, most: int = MOST_EVENT_BYTES) -> None:
        self._most = most
        self._held = bytearray()
        self._looked = 0
        self._begun = False
        self._clear()

    def _clear(self) -> None:
        self._data: list[str] = []
        self._event, self._id = "", ""
        self._size = 0

    def push(self, chunk: bytes) -> list[Event]:
        """The events that are whole now. `TooLarge` when one is over the bound."""
        self._held += chunk
        if not self._begun and len(self._held) >= 3:
            self._begun = True
            if self._held.startswith(b"\xef\xbb\xbf"):
                del self._held[:3]
        found: list[Event] = []
        start, at = 0, self._looked
        while end := _LINE_END.search(self._held, at):
            # The other half of a line's end may still come.
            if end.group() == b"\r" and end.end() == len(self._held):
                break
            self._bound(end.start() - start)
            self._line(self._held[start : end.start()].decode("utf-8", "replace"), found)
            start = at = end.end()
        del self._held[:start]
        self._looked = max(len(self._held) - 1, 0)
        self._bound(len(self._held))
        return found

    def _bound(self, more: int) -> None:
        if self._size + more > self._most:
            raise TooLarge(f"an event of the stream is over {self._most} bytes")

    def _line(self, line: str, found: list[Event]) -> None:
        if not line:
            # An event without data is none.
            if self._data:
                found.append(Event("\n".join(self._data), self._event or "message", self._id))
            self._clear()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(line)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value


def _stamp(id: str) -> tuple[int, int] | None:
    """Attempt and index of an id that Skep gave."""
    found = _STAMP.fullmatch(id)
    return (int(found[1]), int(found[2])) if found else None


class Restart(Exception):
    """What comes does not show where the stream goes on: it has to be read from its start."""


class Differs(Exception):
    """The stream cannot be continued; says why."""


class Splice:
    """Continues a stream behind what was handed on of it.

    What comes after a loss is the same attempt's stream, behind the last event; or another attempt's from
    its start. Then what was handed on must come again, is compared, and is not handed on twice. Skep's own
    ids name the attempt, and are not compared.
    """

    def __init__(self, begin: str | None = None, most: int = MOST_EVENT_BYTES) -> None:
        self._begin, self._most = begin, most
        self._parser = Parser(most)
        self._count, self._digest = 0, hashlib.sha256()
        self._last: tuple[int, int] | None = None
        self._expected: tuple[int, int] | None = None
        self._again: tuple[int, hashlib._Hash] | None = None
        self._in_doubt = False

    def resume(self) -> str | None:
        """The connection was lost: `Last-Event-ID` of the request for the rest."""
        self._parser = Parser(self._most)
        self._expected, self._again = None, None
        if self._count == 0:
            return self._begin
        if self._last and not self._in_doubt:
            attempt, index = self._last
            self._expected = (attempt, index + 1)
            return f"{attempt}.{index}"
        if self._begin is not None:
            raise Differs(FROM_THE_MIDDLE)
        self._again = (0, hashlib.sha256())
        return None

    def push(self, chunk: bytes) -> list[Event]:
        """The events that were not handed on before."""
        return [event for event in self._parser.push(chunk) if self._is_new(event)]

    def finish(self) -> None:
        """The stream is whole."""
        if self._expected:
            # It ended behind the last event, or before it.
            self._in_doubt = True
            raise Restart
        if self._again:
            raise Differs(DIFFERS)

    def _is_new(self, event: Event) -> bool:
        stamp = _stamp(event.id)
        if self._expected and stamp != self._expected:
            self._in_doubt = True
            raise Restart
        self._expected = None
        mark = json.dumps([event.event, event.data, None if stamp else event.id]).encode()
        is_new = self._again is None
        if self._again:
            count, digest = self._again
            digest.update(mark)
            self._again = (count + 1, digest)
            if count + 1 < self._count:
                return False
            if digest.digest() != self._digest.digest():
                raise Differs(DIFFERS)
            self._again = None
        else:
            self._count += 1
            self._digest.update(mark)
        self._last, self._in_doubt = stamp, False
        return is_new
