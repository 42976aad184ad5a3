"""A way to the server that breaks when a test says so."""

from __future__ import annotations

import contextlib
import socket
import threading

_BUFFER = 64 << 10


class Proxy:
    """Passes bytes on, from a port of its own to the server's."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._lock = threading.Lock()
        self._needle: bytes | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_answer(self, needle: bytes) -> None:
        """Cuts the next request that carries this, when the first byte of its answer comes, once."""
        with self._lock:
            self._needle = needle

    def cut_all(self) -> None:
        """Cuts every connection that is open now; they count as one cut."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
            self.cuts += 1
        for pair in pairs:
            _close(*pair)

    def close(self) -> None:
        """Listens no more."""
        # A thread that waits in accept() hears of a shutdown, and not of a close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
            except OSError:
                return
            pair = (client, server)
            with self._lock:
                self._pairs.append(pair)
            cut = threading.Event()
            threading.Thread(target=self._requests, args=(pair, cut), daemon=True).start()
            threading.Thread(target=self._answers, args=(pair, cut), daemon=True).start()

    def _requests(self, pair: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        client, server = pair
        try:
            while data := client.recv(_BUFFER):
                with self._lock:
                    if self._needle is not None and self._needle in data:
                        self._needle = None
                        cut.set()
                server.sendall(data)
        except OSError:
            pass
        _close(*pair)

    def _answers(self, pair: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        client, server = pair
        try:
            while data := server.recv(_BUFFER):
                if cut.is_set():
                    with self._lock:
                        self.cuts += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        _close(*pair)


def _close(*sockets: socket.socket) -> None:
    for it in sockets:
        with contextlib.suppress(OSError):
            it.shutdown(socket.SHUT_RDWR)
        it.close()
