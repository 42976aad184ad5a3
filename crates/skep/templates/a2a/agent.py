"""An agent that speaks A2A to other agents: a card that says what it can, and messages over
JSON-RPC in version 1.0 (`SendMessage`) and 0.3 (`message/send`)."""

import json
import os
import uuid

from web import serve

NAME = os.environ.get("SKEP_AGENT", "{{name}}")
VERSIONS = ("1.0", "0.3")


def reply(text):
    """What the agent answers. Put a model here."""
    return f"{len(text.split())} words; reversed: {text[::-1]}"


def card(request):
    """What the agent can, for those who look for one."""
    url = f"{os.environ.get('SKEP_URL', 'http://127.0.0.1:7537')}/agents/{NAME}/"
    return {
        "name": NAME,
        "description": "Counts the words of a text and turns it round.",
        "version": "0.1.0",
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version}
            for version in VERSIONS
        ],
        # Clients of 0.3 look here instead.
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": False, "pushNotifications": False},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [
            {
                "id": "turn-round",
                "name": "Turn round",
                "description": "Counts the words of a text and turns it round.",
                "tags": ["text"],
            }
        ],
    }


class Wrong(Exception):
    """An error of JSON-RPC or A2A."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def rpc(request):
    identifier = None
    try:
        try:
            asked = json.loads(request.body)
        except ValueError as error:
            raise Wrong(-32700, f"not JSON: {error}") from error
        if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0":
            raise Wrong(-32600, "not a request of JSON-RPC 2.0")
        identifier = asked.get("id")
        version = request.headers.get("A2A-Version")
        if version and version not in VERSIONS:
            raise Wrong(-32009, f"version {version} is not spoken here: {', '.join(VERSIONS)}")
        result = method(asked.get("method"), asked.get("params") or {})
        return {"jsonrpc": "2.0", "id": identifier, "result": result}
    except Wrong as wrong:
        error = {"code": wrong.code, "message": wrong.message}
        return {"jsonrpc": "2.0", "id": identifier, "error": error}


def method(name, params):
    match name:
        case "SendMessage":
            said = message(params)
            answer = {"role": "ROLE_AGENT", "parts": [{"text": reply(text_of(said))}]}
            return {"message": {"messageId": str(uuid.uuid4()), "contextId": context(said), **answer}}
        case "message/send":
            said = message(params)
            parts = [{"kind": "text", "text": reply(text_of(said))}]
            answer = {"kind": "message", "role": "agent", "parts": parts}
            return {"messageId": str(uuid.uuid4()), "contextId": context(said), **answer}
        case "GetTask" | "tasks/get" | "CancelTask" | "tasks/cancel":
            raise Wrong(-32001, "there is no such task: every message is answered at once")
        case "SendStreamingMessage" | "message/stream" | "SubscribeToTask" | "tasks/resubscribe":
            raise Wrong(-32004, "this agent does not stream")
    raise Wrong(-32601, f"there is no method {name}")


def message(params):
    said = params.get("message") if isinstance(params, dict) else None
    if not isinstance(said, dict) or not said.get("messageId") or not said.get("parts"):
        raise Wrong(-32602, "`message` needs `messageId` and `parts`")
    return said


def text_of(said):
    texts = [part["text"] for part in said["parts"] if isinstance(part.get("text"), str)]
    if not texts:
        raise Wrong(-32005, "this agent reads text only")
    return " ".join(texts)


def context(said):
    return said.get("contextId") or str(uuid.uuid4())


if __name__ == "__main__":
    serve({("GET", "/.well-known/agent-card.json"): card, ("POST", "/"): rpc, ("POST", ""): rpc})
