"""A plug-in of pytest with which the public conformance kit of A2A asks Skep (docs/a2a.md, "Conformance").

The kit knows no keys, so that one is put on its requests. It gives several messages of a run the same id, which is one message
here: with KIT_IDS=unique each that it sends has an id of its own, which begins as the kit's does.
"""

import json
import os
import uuid

import httpx

KEY = os.environ["SKEP_API_KEY"]
UNIQUE = os.environ.get("KIT_IDS") == "unique"

begin, send = httpx.Client.__init__, httpx.Client.send


def with_key(self, *args, **options):
    begin(self, *args, **options)
    self.headers["authorization"] = f"Bearer {KEY}"


def renamed(request):
    """The same request, whose message has an id of its own."""
    try:
        body = json.loads(request.content)
        message = body.get("message") or body["params"]["message"]
        if not message["messageId"]:
            return request
        message["messageId"] += f"-{uuid.uuid4().hex[:8]}"
    except (ValueError, KeyError, TypeError, AttributeError):
        # What is no message, or is wrong on purpose, goes as it is.
        return request
    headers = [(name, value) for name, value in request.headers.items() if name != "content-length"]
    content, extensions = json.dumps(body).encode(), request.extensions
    return httpx.Request(request.method, request.url, headers=headers, content=content, extensions=extensions)


def with_ids(self, request, **options):
    if UNIQUE and request.method == "POST":
        request = renamed(request)
    return send(self, request, **options)


httpx.Client.__init__ = with_key
httpx.Client.send = with_ids
