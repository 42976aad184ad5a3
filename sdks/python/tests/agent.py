"""The agent of the tests. Files in its home say what it is to do and tell what it did."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import skep

HOME = Path(os.environ["HOME"])
LOOK = 0.005


async def until(name: str) -> None:
    """Waits for a file that the test makes."""
    while not (HOME / name).exists():
        await asyncio.sleep(LOOK)


async def steps(request: skep.Request) -> AsyncIterator[dict[str, int] | skep.Event]:
    """Events of which each waits for its file; the second has an id of its own when it is wished for."""
    for number in range(1, int(request.query["n"]) + 1):
        await until(f"{request.query['run']}-{number}")
        said = {"step": number}
        if number == 2 and "own" in request.query:
            yield skep.Event(data='{"step":2}', event="own", id="mine")
        else:
            yield said


def count(request: skep.Request) -> dict[str, Any]:
    """Writes down that it was asked."""
    with (HOME / "counted").open("a") as file:
        file.write(f"{request.idempotency_key}\n")
    return {
        "call": request.call_id,
        "attempt": request.attempt,
        "key": request.idempotency_key,
        "trace": request.traceparent,
        "said": request.json(),
    }


async def handle(request: skep.Request) -> Any:
    """One handler for all."""
    match request.path:
        case "/count":
            return count(request)
        case "/steps":
            return steps(request)
        case "/hold":
            await until(request.query["for"])
            return "held"
        case "/fail":
            raise RuntimeError("canary-of-a-traceback")
        case "/refuse":
            raise skep.Refused(404, "there is no such thing")
        case "/large":
            return b"x" * int(request.query["bytes"])
        case _:
            return {"path": request.path, "method": request.method}


if __name__ == "__main__":
    skep.serve(handle)
