"""HTTP/1.1 as an agent needs it: requests are read strictly and within bounds, answers are written. Nothing of
agents here."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus

from ._answer import Headers

MOST_HEAD_BYTES = 64 << 10
"""Bytes of a request line with its headers."""
_MOST_CHUNK_LINE = 256
_MOST_TRAILER_LINES = 64
HEAD_TIMEOUT = 30.0
"""Seconds from a request's first byte to the end of its headers."""
STALL_TIMEOUT = 60.0
"""Seconds without a byte of a body, or in which a client takes nothing."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (/[\x21-\x7e]*|\*) HTTP/1\.([01])")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK = re.compile(r"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class Malformed(Exception):
    """The request is refused with a status, and its connection closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Gone(Exception):
    """The client is gone, or takes nothing any more."""


@dataclass(frozen=True)
class RequestHead:
    """A request without its body."""

    method: str
    target: str
    headers: Headers
    keep_alive: bool
    length: int | None
    """Bytes of the body; `None` when it is chunked."""


def parse_head(block: bytes) -> RequestHead:
    """The head in what stands before the empty line."""
    lines = block.decode("latin-1").split("\r\n")
    begin = _LINE.fullmatch(lines[0])
    if not begin:
        raise Malformed(400, "the request line cannot be read")
    pairs: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Malformed(400, "a header cannot be read")
        pairs.append((name.lower(), value))
    headers = Headers(pairs)
    words = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep_alive = "close" not in words and (begin[3] == "1" or "keep-alive" in words)
    names = [name for name, _ in pairs]
    return RequestHead(begin[1], begin[2], headers, keep_alive, _length(headers, names))


def _length(headers: Headers, names: list[str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    # Two lengths, or two ways to say it, could be read in two ways.
    if names.count("content-length") + names.count("transfer-encoding") > 1:
        raise Malformed(400, "the length of the body is said twice")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Malformed(501, "there is no transfer coding but `chunked`")
        return None
    if length is None:
        return 0
    if not _DIGITS.fullmatch(length):
        raise Malformed(400, "the length of the body is no number")
    return int(length)


class Connection(asyncio.StreamReaderProtocol):
    """One connection: its streams, and whether its client is there."""

    def __init__(self, reader: asyncio.StreamReader, served: object) -> None:
        super().__init__(reader, served, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
        self.gone = asyncio.Event()

    def eof_received(self) -> bool:
        """The client says nothing more: nobody half-closes who waits for an answer."""
        self.gone.set()
        return bool(super().eof_received())

    def connection_lost(self, error: Exception | None) -> None:
        """The connection broke, or was closed."""
        self.gone.set()
        super().connection_lost(error)


async def first_byte(reader: asyncio.StreamReader, idle: float) -> bytes:
    """The first byte of the next request; nothing when its client is gone, or idle for too long."""
    try:
        return await asyncio.wait_for(reader.read(1), idle)
    except (asyncio.TimeoutError, OSError):
        return b""


async def read_head(reader: asyncio.StreamReader, first: bytes) -> RequestHead:
    """The head of the request with this first byte."""
    try:
        rest = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_TIMEOUT)
    except asyncio.LimitOverrunError:
        raise Malformed(431, f"the headers are over {MOST_HEAD_BYTES} bytes") from None
    except asyncio.TimeoutError:
        raise Malformed(408, "the headers did not arrive in time") from None
    except (asyncio.IncompleteReadError, OSError):
        raise Gone from None
    # An empty line before a request is passed over (RFC 9112, section 2.2).
    return parse_head((first + rest).removeprefix(b"\r\n")[:-4])


async def read_body(reader: asyncio.StreamReader, head: RequestHead, most: int) -> bytes:
    """The body; refused when it is over a bound or does not come."""
    try:
        if head.length is None:
            return await _read_chunks(reader, most)
        if head.length > most:
            raise Malformed(413, f"the body is over {most} bytes")
        return await _exactly(reader, head.length)
    except asyncio.IncompleteReadError:
        raise Gone from None
    except asyncio.LimitOverrunError:
        raise Malformed(400, "a chunk's line is too long") from None
    except asyncio.TimeoutError:
        raise Malformed(408, "the body did not arrive in time") from None
    except OSError:
        raise Gone from None


async def _exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    """So many bytes, however slowly, as long as some come."""
    body = bytearray()
    while len(body) < count:
        piece = await asyncio.wait_for(reader.read(min(count - len(body), 64 << 10)), STALL_TIMEOUT)
        if not piece:
            raise asyncio.IncompleteReadError(bytes(body), count)
        body += piece
    return bytes(body)


async def _line(reader: asyncio.StreamReader) -> str:
    line = await asyncio.wait_for(reader.readuntil(b"\r\n"), STALL_TIMEOUT)
    if len(line) > _MOST_CHUNK_LINE:
        raise Malformed(400, "a chunk's line is too long")
    return line[:-2].decode("latin-1")


async def _read_chunks(reader: asyncio.StreamReader, most: int) -> bytes:
    body = bytearray()
    while True:
        size = _CHUNK.fullmatch(await _line(reader))
        if not size:
            raise Malformed(400, "a chunk's size cannot be read")
        count = int(size[1], 16)
        if len(body) + count > most:
            raise Malformed(413, f"the body is over {most} bytes")
        if count == 0:
            break
        body += await _exactly(reader, count)
        if await _exactly(reader, 2) != b"\r\n":
            raise Malformed(400, "a chunk has no end")
    for _ in range(_MOST_TRAILER_LINES):
        if not await _line(reader):
            return bytes(body)
    raise Malformed(431, "the trailers have no end")


def head_bytes(status: int, pairs: list[tuple[str, str]]) -> bytes:
    """The head of an answer. `ValueError` for headers that cannot be sent."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}"]
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name!r} cannot be sent")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Writes; `Gone` when the client does not take it."""
    try:
        writer.write(data)
        await asyncio.wait_for(writer.drain(), STALL_TIMEOUT)
    except (asyncio.TimeoutError, OSError):
        raise Gone from None
