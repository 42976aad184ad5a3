"""What OpenAI's SDK for Python does with agents that answer as models: `OPENAI_BASE_URL`, `OPENAI_API_KEY`, and where the agent
of the examples that A2A's conformance kit asks is reached: `AGENT_URL`.

Prints one line of what was checked; fails at the first that is not so.
"""

import json
import os
import secrets
import urllib.request

import openai
from openai import OpenAI

MODEL = "agent/conformance"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]

client = OpenAI()
checked = []


def ask(text):
    return [{"role": "user", "content": text}]


def check(function):
    checked.append(function)
    return function


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def opens(name):
    """Lets the agent go on that waits for this."""
    request = urllib.request.Request(f"{os.environ['AGENT_URL']}/open/{name}")
    request.add_header("Authorization", f"Bearer {os.environ['OPENAI_API_KEY']}")
    with urllib.request.urlopen(request) as answer:
        answer.read()


@check
def models():
    same([it.id for it in client.models.list()], [MODEL])
    same(client.models.retrieve(MODEL).owned_by, "skep")


@check
def chat():
    answer = client.chat.completions.create(model=MODEL, messages=ask("tck-complete-task"), tools=TOOLS)
    same(answer.choices[0].message.content, "Hello from TCK")
    same(answer.choices[0].finish_reason, "stop")
    assert answer.id.startswith("run_"), answer.id


@check
def chat_as_it_comes():
    with client.chat.completions.stream(model=MODEL, messages=ask("tck-stream-artifact-chunked")) as stream:
        pieces = [it.delta for it in stream if it.type == "content.delta" and it.delta]
        whole = stream.get_final_completion()
    same(pieces, ["chunk-1 ", "chunk-2"])
    same(whole.choices[0].message.content, "chunk-1 chunk-2")


@check
def chat_that_fails():
    try:
        client.chat.completions.create(model=MODEL, messages=ask("tck-task-failure"))
    except openai.InternalServerError as error:
        same(error.body["code"], "agent_failed")
    else:
        raise AssertionError("it did not fail")
    try:
        for _ in client.chat.completions.create(model=MODEL, messages=ask("tck-task-failure"), stream=True):
            pass
    except openai.APIError as error:
        same(error.message, "failed")
    else:
        raise AssertionError("it did not fail")


@check
def response():
    answer = client.responses.create(model=MODEL, input="tck-artifact-text", metadata={"order": "7"})
    same((answer.status, answer.output_text), ("completed", "Generated text content"))
    same(answer.metadata, {"order": "7"})
    same(client.responses.retrieve(answer.id).output_text, answer.output_text)


@check
def response_as_it_comes():
    with client.responses.stream(model=MODEL, input="tck-stream-artifact-chunked") as stream:
        kinds = [it.type for it in stream]
        whole = stream.get_final_response()
    same(whole.output_text, "chunk-1 chunk-2")
    same(kinds[0], "response.created")
    same(kinds[-1], "response.completed")
    same(kinds.count("response.output_text.delta"), 2)


@check
def response_that_is_come_back_to():
    name = f"held-{secrets.token_hex(4)}"
    begun = client.responses.create(model=MODEL, input=name, background=True)
    same(begun.status, "in_progress")
    seen = None
    for event in client.responses.retrieve(begun.id, stream=True):
        if event.type == "response.output_text.done":
            same(event.text, "waiting")
            seen = event.sequence_number
            break
    opens(name)
    rest = list(client.responses.retrieve(begun.id, stream=True, starting_after=seen))
    assert all(it.sequence_number > seen for it in rest)
    same("".join(it.delta for it in rest if it.type == "response.output_text.delta"), "done")
    same(rest[-1].response.status, "completed")


@check
def response_that_is_cancelled():
    begun = client.responses.create(model=MODEL, input=f"held-{secrets.token_hex(4)}", background=True)
    same(client.responses.cancel(begun.id).status, "cancelled")
    same(client.responses.retrieve(begun.id).status, "cancelled")


@check
def a_person_is_asked():
    asked = client.responses.create(model=MODEL, input="tck-input-required")
    same(asked.output_text, "Please provide input")
    same(asked.interrupts[0]["reason"], "input")
    answered = client.responses.create(model=MODEL, input="Ada", previous_response_id=asked.id)
    same(answered.output_text, 'Got "Ada"')
    same(answered.conversation.id, asked.conversation.id)


@check
def a_conversation_has_a_name():
    name = f"order-{secrets.token_hex(4)}"
    for text in ["echo one", "echo two"]:
        answer = client.responses.create(model=MODEL, input=text, conversation=name)
        same(answer.conversation.id, name)


@check
def what_is_wrong_is_named():
    for kind, call in [
        (openai.NotFoundError, lambda: client.chat.completions.create(model="agent/nobody", messages=ask("x"))),
        (openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=[])),
        (openai.NotFoundError, lambda: client.responses.retrieve("run_00000000000000000000000000")),
        (openai.BadRequestError, lambda: client.responses.create(model=MODEL, input="x", tools=[{"type": "web_search"}])),
    ]:
        try:
            call()
        except kind as error:
            assert error.body["message"], error.body
        else:
            raise AssertionError(f"no {kind.__name__}")


for function in checked:
    function()
print(json.dumps([it.__name__ for it in checked]))
