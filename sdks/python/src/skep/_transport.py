"""Carrying out the steps of plans over httpx: blocking, and not. All I/O of the clients is here."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from ._answer import Headers
from ._errors import ConnectionFailed, ProtocolError, TimedOut
from ._plans import Emit, Head, Plan, Read, Send, Sleep, Step
from ._requests import Outgoing, Settings

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to the server."""
_WRITE_TIMEOUT = 60.0
_POOL_TIMEOUT = 60.0
_KEEPALIVE_S = 30


def _socket_options() -> list[tuple[int, int, int]]:
    """A server that is gone without a word is noticed, however long an answer takes."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", _KEEPALIVE_S), ("TCP_KEEPINTVL", _KEEPALIVE_S), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def _trust(ca_file: str | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=ca_file) if ca_file else True


def blocking(ca_file: str | None) -> httpx.Client:
    """An HTTP client for `Client`."""
    return httpx.Client(transport=httpx.HTTPTransport(verify=_trust(ca_file), socket_options=_socket_options()))


def asynchronous(ca_file: str | None) -> httpx.AsyncClient:
    """An HTTP client for `AsyncClient`."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(verify=_trust(ca_file), socket_options=_socket_options())
    )


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of httpx as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise ConnectionFailed(f"no server answers at {url}: {_cause(error)}", sent=False) from error
    except httpx.ReadTimeout as error:
        raise TimedOut(f"{url} did not answer in time") from error
    except httpx.DecodingError as error:
        raise ProtocolError(f"the answer of {url} is not encoded as it says") from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"the connection to {url} was lost: {_cause(error)}", sent=True) from error


def _cause(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


class _Wire:
    """What both kinds of connection have."""

    def __init__(self, settings: Settings, user_agent: str) -> None:
        self._settings, self._user_agent = settings, user_agent
        self._response: httpx.Response | None = None

    def _request(self, http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
        asked: Outgoing = send.request
        headers = {"user-agent": self._user_agent, **self._settings.headers(asked)}
        timeout = httpx.Timeout(
            connect=CONNECT_TIMEOUT if send.within is None else min(CONNECT_TIMEOUT, send.within),
            read=send.within,
            write=_WRITE_TIMEOUT,
            pool=_POOL_TIMEOUT,
        )
        return http.build_request(
            asked.method,
            self._settings.url + asked.path,
            headers=headers,
            content=asked.content,
            timeout=timeout,
        )

    def _head(self, response: httpx.Response) -> Head:
        self._response = response
        return Head(response.status_code, Headers(response.headers.multi_items()))


class Wire(_Wire):
    """One request at a time, blocking."""

    def __init__(self, http: httpx.Client, settings: Settings, user_agent: str) -> None:
        super().__init__(settings, user_agent)
        self._http = http
        self._pieces: Iterator[bytes] = iter(())

    def _step(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            self.close()
            return time.sleep(step.seconds)
        with _told(self._settings.url):
            if isinstance(step, Send):
                self.close()
                response = self._http.send(self._request(self._http, step), stream=True)
                self._pieces = response.iter_bytes()
                return self._head(response)
            return next(self._pieces, None)

    def until_emitted(self, plan: Plan[T]) -> Emit | T:
        """Carries the plan on until it emits something or is done."""
        error: Exception | None = None
        value: Any = None
        while True:
            try:
                step = plan.throw(error) if error else plan.send(value)
            except StopIteration as done:
                self.close()
                result: T = done.value
                return result
            except BaseException:
                self.close()
                raise
            if isinstance(step, Emit):
                return step
            try:
                value, error = self._step(step), None
            except Exception as failed:
                value, error = None, failed
            except BaseException:
                self.close()
                raise

    def run(self, plan: Plan[T]) -> T:
        """Carries out a plan that emits nothing."""
        result = self.until_emitted(plan)
        assert not isinstance(result, Emit)
        return result

    def close(self) -> None:
        """Lets go of what is open."""
        response, self._response = self._response, None
        if response is not None:
            response.close()


class AsyncWire(_Wire):
    """One request at a time, without blocking."""

    def __init__(self, http: httpx.AsyncClient, settings: Settings, user_agent: str) -> None:
        super().__init__(settings, user_agent)
        self._http = http
        self._pieces: AsyncIterator[bytes] | None = None

    async def _step(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            await self.close()
            return await asyncio.sleep(step.seconds)
        with _told(self._settings.url):
            if isinstance(step, Send):
                await self.close()
                response = await self._http.send(self._request(self._http, step), stream=True)
                self._pieces = response.aiter_bytes()
                return self._head(response)
            assert isinstance(step, Read)
            assert self._pieces is not None
            return await anext(self._pieces, None)

    async def until_emitted(self, plan: Plan[T]) -> Emit | T:
        """Carries the plan on until it emits something or is done."""
        error: Exception | None = None
        value: Any = None
        while True:
            try:
                step = plan.throw(error) if error else plan.send(value)
            except StopIteration as done:
                await self.close()
                result: T = done.value
                return result
            except BaseException:
                await self.close()
                raise
            if isinstance(step, Emit):
                return step
            try:
                value, error = await self._step(step), None
            except Exception as failed:
                value, error = None, failed
            except BaseException:
                await self.close()
                raise

    async def run(self, plan: Plan[T]) -> T:
        """Carries out a plan that emits nothing."""
        result = await self.until_emitted(plan)
        assert not isinstance(result, Emit)
        return result

    async def close(self) -> None:
        """Lets go of what is open."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()
