"""The HTTP round an agent: `/ask` answers at once, `/stream` with events. Nothing of a framework, and nothing of Skep."""

import json
import os

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route


def serve(ask, stream):
    """Serves two functions of what is asked, a dictionary: one that gives an answer, one that gives event after event."""

    async def ping(_):
        return JSONResponse({})

    async def at_once(request):
        return JSONResponse(await ask(await request.json()))

    async def streamed(request):
        said = await request.json()

        async def events():
            async for event in stream(said):
                yield f"data: {json.dumps(event)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[
        Route("/ping", ping),
        Route("/ask", at_once, methods=["POST"]),
        Route("/stream", streamed, methods=["POST"]),
    ])
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
