"""An agent that speaks AG-UI 1.0: it takes a RunAgentInput and streams the run's events."""

import uuid

from web import Events, Refused, serve


def reply(text):
    """What the agent says, piece by piece. Put a model here."""
    words = text.split()
    yield f"You said {len(words)} words"
    yield f", and the longest is “{max(words, key=len)}”." if words else "."


def run(request):
    given = request.json()
    for name in ("threadId", "runId"):
        if not isinstance(given.get(name), str):
            raise Refused(400, f"`{name}` is missing: this agent takes an AG-UI RunAgentInput")
    return Events(events(given["threadId"], given["runId"], last_question(given)))


def last_question(given):
    """The text of the newest message of the user."""
    for message in reversed(given.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content") or ""
            if isinstance(content, str):
                return content
            return " ".join(part.get("text", "") for part in content if part.get("type") == "text")
    return ""


def events(thread, run_id, question):
    yield {"type": "RUN_STARTED", "threadId": thread, "runId": run_id}
    message = f"msg-{uuid.uuid4()}"
    try:
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        for piece in reply(question):
            if piece:  # an empty delta is not allowed
                yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": piece}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
    except Exception as error:
        print(f"run {run_id} failed: {error!r}", flush=True)
        yield {"type": "RUN_ERROR", "message": "the agent failed; see its log"}
        return
    yield {"type": "RUN_FINISHED", "threadId": thread, "runId": run_id}


if __name__ == "__main__":
    serve({("POST", "/"): run})
