"""`skep.serve` as whoever connects to it sees it: in a process of its own, over a plain socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PATIENCE = 60.0
"""Seconds: nothing that is waited for takes longer."""
AGENT = """
import os, pathlib, sys, time
import skep

home = pathlib.Path(os.environ["HOME"])

def until(name):
    while not (home / name).exists():
        time.sleep(0.005)

def pieces():
    yield "one\\ntwo"
    until("go")
    yield {"three": 3}

def broken():
    yield "one"
    raise RuntimeError("canary")

def handle(request):
    if request.path == "/hold":
        print("holding", flush=True)
        until("go")
        return "held"
    if request.path == "/stream":
        return pieces()
    if request.path == "/broken":
        return broken()
    if request.path == "/json":
        return {"hello": request.json()["name"]}
    if request.path == "/raw":
        return skep.Response(iter(["a", b"b"]), 201, {"content-type": "text/plain", "content-length": "9"})
    if request.path == "/split":
        return skep.Response("x", headers={"x": "a\\r\\nb: c"})
    return request.body

skep.serve(handle, max_body=1000)
"""


class Serve(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        environment = {
            "PORT": "0",
            "HOME": folder.name,
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.agent = subprocess.Popen(
            [sys.executable, "-c", AGENT],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self._end)
        assert self.agent.stderr is not None
        line = self.agent.stderr.readline()
        self.assertTrue(line.startswith("listening on 0.0.0.0:"), line)
        self.port = int(line.rpartition(":")[2])

    def _end(self) -> None:
        self.agent.kill()
        self.agent.communicate()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.addCleanup(connection.close)
        return connection

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer to a request that closes its connection."""
        connection = self.connect()
        connection.sendall(request)
        return split(read_all(connection))

    def test_what_a_handler_gives(self) -> None:
        status, head, body = self.ask(post(b"/json", b'{"name":"you"}'))
        self.assertEqual((status, body), (200, b'{"hello":"you"}'))
        self.assertIn(b"content-type: application/json", head)
        status, head, body = self.ask(post(b"/raw", b""))
        self.assertEqual((status, body), (201, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"))
        self.assertNotIn(b"content-length", head)
        chunked = (
            b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
        )
        self.assertEqual(self.ask(chunked)[2], b"abc")

    def test_what_a_handler_raises_stays_in_the_log(self) -> None:
        status, head, body = self.ask(post(b"/json", b"{}"))
        self.assertEqual((status, json.loads(body)["title"]), (500, "The agent failed"))
        self.assertIn(b"content-type: application/problem+json", head)
        self.assertNotIn(b"KeyError", body)
        self.assertEqual(self.ask(post(b"/json", b"{"))[0], 400)
        self.assertEqual(self.ask(post(b"/split", b""))[0], 500)
        self.agent.terminate()
        _, log = self.agent.communicate(timeout=PATIENCE)
        self.assertIn("KeyError: 'name'", log)

    def test_half_a_stream_does_not_look_whole(self) -> None:
        connection = self.connect()
        connection.sendall(post(b"/broken", b""))
        answer = read_all(connection)
        self.assertIn(b"data: one\n\n", answer)
        self.assertNotIn(b"0\r\n\r\n", answer)
        self.assertNotIn(b"canary", answer)

    def test_an_end_lets_what_runs_end(self) -> None:
        held, stream, idle = self.connect(), self.connect(), self.connect()
        idle.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
        self.assertIn(b'"Healthy"', idle.recv(4096))
        held.sendall(post(b"/hold", b""))
        assert self.agent.stdout is not None
        self.assertEqual(self.agent.stdout.readline(), "holding\n")
        self.assertIn(b'"HealthyBusy"', self.ask(b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n")[2])
        stream.sendall(post(b"/stream", b""))
        seen = b""
        while b"data: two\n\n" not in seen:
            seen += stream.recv(4096)
        self.agent.send_signal(signal.SIGTERM)
        # Who is idle is let go, and nobody else comes in.
        self.assertEqual(idle.recv(1), b"")
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.assertIsNone(self.agent.poll())
        (self.home / "go").touch()
        self.assertEqual(split(read_all(held))[2], b"held")
        self.assertTrue(read_all(stream).endswith(b'data: {"three":3}\n\n\r\n0\r\n\r\n'))
        self.assertEqual(self.agent.wait(PATIENCE), 0)

    def test_bounds_and_what_could_be_read_in_two_ways(self) -> None:
        end = b"\r\nConnection: close\r\n\r\n"
        cases = {
            413: [post(b"/x", b"x" * 1001), b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked" + end + b"3e9\r\n"],
            431: [b"GET / HTTP/1.1\r\nx: " + b"x" * (65 << 10) + end],
            501: [b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked" + end],
            400: [
                b"nonsense\r\n\r\n",
                b"GET http://elsewhere/ HTTP/1.1" + end,
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked" + end,
                b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2" + end,
                b"POST / HTTP/1.1\r\nContent-Length: +1" + end,
                b"GET / HTTP/1.1\r\nx : y" + end,
                b"GET / HTTP/1.1\r\nx: y\r\n folded: z" + end,
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked" + end + b"zz\r\n",
            ],
        }
        for status, requests in cases.items():
            for request in requests:
                with self.subTest(request[:60]):
                    self.assertEqual(self.ask(request)[0], status)
        # It goes on.
        self.assertEqual(self.ask(post(b"/x", b"x" * 1000))[2], b"x" * 1000)

    def test_a_client_that_leaves_is_let_go(self) -> None:
        for part in (b"POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf", b"GET / HT", b""):
            connection = self.connect()
            connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(read_all(connection), b"")
        self.agent.terminate()
        self.assertEqual(self.agent.wait(PATIENCE), 0)

    def test_connections_are_kept(self) -> None:
        connection = self.connect()
        for text in (b"one", b"two"):
            connection.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\n" + text)
            seen = b""
            while not seen.endswith(text):
                piece = connection.recv(4096)
                self.assertTrue(piece, seen)
                seen += piece


def post(path: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (path, len(body)) + body


def read_all(connection: socket.socket) -> bytes:
    seen = b""
    while piece := connection.recv(65536):
        seen += piece
    return seen


def split(answer: bytes) -> tuple[int, bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body


if __name__ == "__main__":
    unittest.main()
