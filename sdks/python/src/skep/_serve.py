"""An agent made of a function: `serve`. Standard library only."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote

from . import _http as http
from ._answer import Headers
from ._sse import Event

MOST_BODY_BYTES = 64 << 20
"""Bytes of a request's body: as many as Skep lets through by default."""
MOST_CONNECTIONS = 1024
THREADS = 32
"""Handlers that are no coroutines and run at once. More wait."""
IDLE_TIMEOUT = 300.0
"""Seconds after which a connection without a request is closed."""
_PORT = 8080
_HEALTH = "/ping"
_BACKLOG = 256

Stream: TypeAlias = "Iterator[Any] | AsyncIterator[Any]"
Result: TypeAlias = "str | bytes | Mapping[str, Any] | list[Any] | Response | Stream | None"


@dataclass(frozen=True)
class Request:
    """What an agent is asked."""

    method: str
    path: str
    """The path, percent-decoded."""
    query: Mapping[str, str]
    """The query's parameters; of several with one name, the last."""
    headers: Headers
    body: bytes = field(repr=False)
    target: str = field(repr=False)
    """Path and query as they came."""

    @property
    def text(self) -> str:
        """The body as text in UTF-8. What is none is refused with 400."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise Refused(400, "the body is not UTF-8") from None

    def json(self) -> Any:
        """The body as JSON. What is none is refused with 400."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON") from None

    @property
    def call_id(self) -> str | None:
        """The call, `call_…`; `None` for what is not journaled, or when somebody else than Skep asks."""
        return self.headers.get("skep-call-id")

    @property
    def attempt(self) -> int:
        """Which attempt of the call this is, counted from 1."""
        text = self.headers.get("skep-attempt", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1

    @property
    def idempotency_key(self) -> str | None:
        """The client's key, else the call's id: the same for each attempt. Who remembers keys does each thing
        once."""
        return self.headers.get("idempotency-key")

    @property
    def traceparent(self) -> str | None:
        """The trace that the call belongs to (W3C Trace Context)."""
        return self.headers.get("traceparent")


@dataclass(frozen=True)
class Response:
    """An answer with more to say than its body."""

    body: Any = None
    """As a handler gives it: text, bytes, a mapping or list (JSON), or an iterator. Without a `content-type` of
    its own an iterator is an event stream; else its pieces, `str` or `bytes`, pass as they are."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """Raise it in a handler: the caller gets this status and detail, as a problem document (RFC 9457)."""

    def __init__(self, status: int, detail: str, title: str = "The agent refused") -> None:
        super().__init__(detail)
        if not 400 <= status <= 599:
            raise ValueError("a refusal has a status from 400 to 599")
        self.status, self.detail, self.title = status, detail, title


Handler: TypeAlias = "Callable[[Request], Result | Awaitable[Result]]"


def serve(
    handler: Handler,
    port: int | None = None,
    *,
    host: str = "0.0.0.0",
    max_body: int = MOST_BODY_BYTES,
    threads: int = THREADS,
) -> None:
    """Answers every request with what a function gives for it, until SIGTERM or Ctrl-C; then what runs ends.

    `handler`: a function or coroutine function of a `Request`. It gives text, bytes, a mapping or list (JSON),
    a `Response`, `None` (204), or a generator, asynchronous or not, for server-sent events: of text, of
    mappings (JSON), or of `Event`. Functions run in threads, `threads` at once; coroutines on one loop, and are
    cancelled when their caller is gone.
    `port`: default `PORT`, as Skep sets it, else 8080.
    `max_body`: bytes; a longer body is refused with 413.

    `GET /ping` says `Healthy`, or `HealthyBusy` while something runs. What a handler raises is logged on
    standard error and answered with 500 without a word of it; in the middle of a stream the connection is cut,
    so that half a stream does not look whole.
    """
    if port is None:
        port = int(os.environ.get("PORT") or _PORT)
    asyncio.run(_Agent(handler, max_body, threads).run(host, port))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _problem(status: int, title: str, detail: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(body, status, {"content-type": "application/problem+json"})


def _event(item: Any) -> bytes:
    """A piece of an event stream."""
    if not isinstance(item, Event):
        item = Event(item if isinstance(item, str) else _json(item).decode())
    lines = []
    for name, value in (("id", item.id), ("event", item.event if item.event != "message" else "")):
        if any(c in value for c in "\r\n\0"):
            raise ValueError(f"the {name} of an event is one line")
        if value:
            lines.append(f"{name}: {value}\n")
    data = item.data.replace("\r\n", "\n").replace("\r", "\n")
    lines += [f"data: {line}\n" for line in data.split("\n")]
    return ("".join(lines) + "\n").encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _raw(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    raise TypeError(f"a stream with a content-type gives str or bytes, not {type(item).__name__}")


def _is_stream(body: Any) -> bool:
    return isinstance(body, Iterator | AsyncIterator)


def _whole(response: Response) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of an answer that is no stream."""
    body, kind = response.body, None
    if body is None:
        data = b""
    elif isinstance(body, bytes | bytearray | memoryview):
        data, kind = bytes(body), "application/octet-stream"
    elif isinstance(body, str):
        data, kind = body.encode(), "text/plain; charset=utf-8"
    else:
        data, kind = _json(body), "application/json"
    return _headers(response, kind), data


# What is said of a connection or a length is ours to say.
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "trailer"})


def _headers(response: Response, kind: str | None) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in response.headers.items() if name.lower() not in _OURS]
    if kind and not any(name == "content-type" for name, _ in pairs):
        pairs.append(("content-type", kind))
    return pairs


@dataclass
class _Exchange:
    """A request that is being answered."""

    head: http.RequestHead
    writer: asyncio.StreamWriter
    gone: asyncio.Event
    begun: bool = False
    keep_alive: bool = True


class _Agent:
    """A handler that listens."""

    def __init__(self, handler: Handler, max_body: int, threads: int) -> None:
        self._handler, self._max_body = handler, max_body
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="skep-handler")
        self._busy = 0
        self._open: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.StreamWriter] = set()
        self._ending = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        """Listens until it is told to end, and then until nothing runs any more."""
        loop = asyncio.get_running_loop()

        def connection() -> http.Connection:
            reader = asyncio.StreamReader(http.MOST_HEAD_BYTES, loop)
            made: list[http.Connection] = []
            made.append(http.Connection(reader, lambda r, w: self._accepted(r, w, made[0].gone)))
            return made[0]

        server = await loop.create_server(connection, host, port, backlog=_BACKLOG)
        self._listen_to_signals(loop)
        _say(f"listening on {host}:{server.sockets[0].getsockname()[1]}")
        try:
            await self._ending.wait()
        finally:
            server.close()
            # Between two requests there is nothing to wait for.
            for writer in list(self._idle):
                writer.close()
            if self._open:
                await asyncio.wait(self._open)
            self._threads.shutdown(wait=False)

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._ending.set)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not in the main thread, or not on this system: whoever runs it ends it.
                return

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Event) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer, gone))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Event) -> None:
        """One connection."""
        try:
            if len(self._open) > MOST_CONNECTIONS:
                raise http.Malformed(503, "too many connections")
            while not self._ending.is_set():
                self._idle.add(writer)
                try:
                    first = await http.first_byte(reader, IDLE_TIMEOUT)
                finally:
                    self._idle.discard(writer)
                if not first:
                    return
                head = await http.read_head(reader, first)
                if not await self._exchange(head, reader, writer, gone):
                    return
        except http.Malformed as wrong:
            refusal = _problem(wrong.status, "The request cannot be taken", wrong.detail)
            pairs, data = _whole(refusal)
            await self._refuse(reader, writer, wrong.status, pairs, data)
        except http.Gone:
            pass
        finally:
            writer.close()

    async def _refuse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        status: int,
        pairs: list[tuple[str, str]],
        data: bytes,
    ) -> None:
        pairs = [*pairs, ("content-length", str(len(data))), ("connection", "close")]
        try:
            await http.send(writer, http.head_bytes(status, pairs) + data)
            # What still comes would reset the connection before the answer is read.
            writer.write_eof()
            left = self._max_body
            while left > 0 and (piece := await asyncio.wait_for(reader.read(64 << 10), 1.0)):
                left -= len(piece)
        except (http.Gone, OSError, asyncio.TimeoutError):
            pass

    async def _exchange(
        self,
        head: http.RequestHead,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gone: asyncio.Event,
    ) -> bool:
        """Answers a request; whether another may follow."""
        exchange = _Exchange(head, writer, gone, keep_alive=head.keep_alive)
        path, _, query = head.target.partition("?")
        if path == _HEALTH and head.method in ("GET", "HEAD") and head.length == 0:
            status = "HealthyBusy" if self._busy else "Healthy"
            await self._answer(exchange, Response({"status": status}))
            return exchange.keep_alive
        self._busy += 1
        try:
            fits = head.length is None or 0 < head.length <= self._max_body
            if fits and head.headers.get("expect", "").lower() == "100-continue":
                await http.send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await http.read_body(reader, head, self._max_body)
            pairs = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
            request = Request(head.method, unquote(path), pairs, head.headers, body, head.target)
            await self._handle(exchange, request)
        finally:
            self._busy -= 1
        return exchange.keep_alive

    async def _handle(self, exchange: _Exchange, request: Request) -> None:
        try:
            result = await self._called(exchange, request)
            response = result if isinstance(result, Response) else Response(result)
            if result is None:
                response = Response(None, 204)
            await self._answer(exchange, response)
        except http.Gone:
            raise
        except Refused as refused:
            if exchange.begun:
                raise http.Gone from refused
            await self._answer(exchange, _problem(refused.status, refused.title, refused.detail))
        except Exception:
            _say(f"{request.method} {request.path} failed, call {request.call_id}:\n{traceback.format_exc()}")
            if exchange.begun:
                raise http.Gone from None
            failed = _problem(500, "The agent failed", "The agent's log on standard error says why.")
            await self._answer(exchange, failed)

    async def _called(self, exchange: _Exchange, request: Request) -> Any:
        result: Any
        if self._is_async:
            result = self._handler(request)
        else:
            result = await self._in_thread(lambda: self._handler(request))
        return await self._unless_gone(exchange, result) if inspect.isawaitable(result) else result

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(context.run, work))

    async def _unless_gone(self, exchange: _Exchange, work: Any) -> Any:
        """What the work gives; it is cancelled when its client is gone, and nobody would take it."""
        working = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(exchange.gone.wait())
        try:
            await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise http.Gone
            return working.result()
        finally:
            gone.cancel()
            if not working.done():
                working.cancel()
                # It has its time to clean up.
                await asyncio.wait((working,))

    async def _answer(self, exchange: _Exchange, response: Response) -> None:
        if self._ending.is_set():
            exchange.keep_alive = False
        if _is_stream(response.body):
            await self._stream(exchange, response)
            return
        pairs, data = _whole(response)
        bodiless = response.status in (204, 304) or 100 <= response.status < 200
        if not bodiless:
            pairs.append(("content-length", str(len(data))))
        await self._begin(exchange, response.status, pairs, b"" if bodiless or self._is_head(exchange) else data)

    def _is_head(self, exchange: _Exchange) -> bool:
        return exchange.head.method == "HEAD"

    async def _begin(self, exchange: _Exchange, status: int, pairs: list[tuple[str, str]], data: bytes = b"") -> None:
        pairs.append(("connection", "keep-alive" if exchange.keep_alive else "close"))
        head = http.head_bytes(status, pairs)
        exchange.begun = True
        await http.send(exchange.writer, head + data)

    async def _stream(self, exchange: _Exchange, response: Response) -> None:
        stream = response.body
        events = not any(name.lower() == "content-type" for name in response.headers)
        pairs = _headers(response, "text/event-stream" if events else None)
        if events:
            pairs.append(("cache-control", "no-store"))
        try:
            # The first piece comes before the head: what fails until then is a whole answer.
            item, more = await self._next(exchange, stream)
            piece = (_event if events else _raw)(item) if more else b""
            pairs.append(("transfer-encoding", "chunked"))
            await self._begin(exchange, response.status, pairs)
            if self._is_head(exchange):
                return
            while more:
                if piece:
                    await http.send(exchange.writer, b"%x\r\n%b\r\n" % (len(piece), piece))
                item, more = await self._next(exchange, stream)
                piece = (_event if events else _raw)(item) if more else b""
            await http.send(exchange.writer, b"0\r\n\r\n")
        finally:
            await self._let_go(stream)

    async def _next(self, exchange: _Exchange, stream: Any) -> tuple[Any, bool]:
        """What comes next of a stream, and whether something did."""
        end = object()
        if isinstance(stream, AsyncIterator):
            item = await self._unless_gone(exchange, anext(stream, end))
        else:
            # What a thread does cannot be stopped: it is waited for.
            item = await self._in_thread(lambda: next(stream, end))
        return item, item is not end

    async def _let_go(self, stream: Any) -> None:
        """Lets a generator clean up after itself."""
        try:
            if hasattr(stream, "aclose"):
                await stream.aclose()
            elif hasattr(stream, "close"):
                await self._in_thread(stream.close)
        except Exception:
            _say(f"a stream did not end well:\n{traceback.format_exc()}")
