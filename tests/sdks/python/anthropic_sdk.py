"""What Anthropic's SDK for Python does with an endpoint: `ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY`, and a model as a word.

The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name say
what it does. Prints one line of what was checked; fails at the first that is not so.
"""

import asyncio
import json
import secrets
import sys
import time

import anthropic
from anthropic import Anthropic, AsyncAnthropic

MODEL = sys.argv[1] if len(sys.argv) > 1 else "claude-sonnet-4-5"
# Failures are counted by the model's name: no other run has this one.
RUN = secrets.token_hex(6)
TOOLS = [{
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}

client = Anthropic()
quick = client.with_options(max_retries=0)
checked = []


def model(*options):
    return "+".join([MODEL, *options, f"as={RUN}"])


def ask(text):
    return [{"role": "user", "content": text}]


def check(function):
    checked.append(function)
    return function


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def create(using, name, text="x", **rest):
    return using.messages.create(model=name, max_tokens=1000, messages=ask(text), **rest)


@check
def chat():
    answer = create(client, model(), "one two three", system="short")
    same(answer.content[0].text, "one two three")
    same(answer.stop_reason, "end_turn")
    # Eighteen bytes are five tokens, three words are three.
    same((answer.usage.input_tokens, answer.usage.output_tokens), (5, 3))
    short = client.messages.create(model=model(), max_tokens=2, messages=ask("one two three"))
    same((short.stop_reason, short.usage.output_tokens), ("max_tokens", 2))


@check
def usage():
    answer = create(client, model("prompt=1000", "cached=600", "written=100", "tokens=50"))
    same(answer.usage.input_tokens, 300)
    same(answer.usage.cache_read_input_tokens, 600)
    same(answer.usage.cache_creation_input_tokens, 100)
    same(answer.usage.output_tokens, 50)


@check
def stream():
    name = model("tokens=20", "say=a%20b", "think=3", "prompt=40")
    with client.messages.stream(model=name, max_tokens=1000, messages=ask("x")) as streaming:
        text = "".join(streaming.text_stream)
        final = streaming.get_final_message()
    same(text, " ".join(["a", "b"] * 10))
    same([block.type for block in final.content], ["thinking", "text"])
    same(final.content[0].thinking, "thought-1 thought-2 thought-3 ")
    assert final.content[0].signature, "thoughts without a signature"
    same((final.usage.input_tokens, final.usage.output_tokens), (40, 23))
    kinds = [event.type for event in create(client, model(), "a b", stream=True)]
    same(kinds[0], "message_start")
    same(kinds[-2:], ["message_delta", "message_stop"])


@check
def tools():
    first = create(client, model("tool=weather"), tools=TOOLS)
    same(first.stop_reason, "tool_use")
    call = first.content[0]
    same((call.name, call.input), ("weather", {"city": "Paris"}))
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny in Paris"}
    messages = ask("x") + [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    last = client.messages.create(model=model("tool=weather"), max_tokens=1000, messages=messages, tools=TOOLS)
    same(last.content[0].text, "sunny in Paris")
    with client.messages.stream(
            model=model("tool=weather"), max_tokens=1000, messages=ask("x"), tools=TOOLS) as streaming:
        same(streaming.get_final_message().content[0].input, {"city": "Paris"})


@check
def json_mode():
    output = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = create(client, model(), output_config=output)
    same(json.loads(answer.content[0].text), {"name": "text", "age": 1})


@check
def count_tokens():
    counted = client.messages.count_tokens(model=model(), messages=ask("one two three"))
    same(counted.input_tokens, 4)


@check
def models():
    assert len(list(client.models.list())) > 0, "no models"


@check
def errors():
    wrong = Anthropic(api_key="sk-wrong-0123456789", max_retries=0)
    error = fails(anthropic.AuthenticationError, lambda: create(wrong, model()))
    same(error.status_code, 401)
    error = fails(anthropic.NotFoundError, lambda: create(client, model("fail=404")))
    same(error.body["error"]["type"], "not_found_error")
    error = fails(anthropic.InternalServerError, lambda: create(quick, model("fail=500")))
    same(error.body["error"]["type"], "api_error")
    error = fails(anthropic.APIStatusError, lambda: create(quick, model("fail=529")))
    same((error.status_code, error.body["error"]["type"]), (529, "overloaded_error"))
    error = fails(anthropic.RateLimitError, lambda: create(quick, model("fail=429", "after=9")))
    same(error.response.headers["retry-after"], "9")
    assert error.request_id, "no request id"


@check
def retries():
    started = time.monotonic()
    answer = create(client, model("fail=429x1", "after=1", "say=again"))
    same(answer.content[0].text, "again")
    # Left to itself it waits half a second at most.
    assert time.monotonic() - started >= 0.9, "did not wait as it was told to"


@check
def cut():
    seen = []

    def read():
        for event in create(quick, model("tokens=10", "cut=3", "say=a"), stream=True):
            if event.type == "content_block_delta":
                seen.append(event.delta.text)

    error = fails(Exception, read)
    assert not isinstance(error, AssertionError), error
    same("".join(seen), "a a a ")

    def broken():
        for _ in create(quick, model("error=1"), "a b", stream=True):
            pass

    fails(anthropic.APIError, broken)


@check
def in_parallel():
    async def all_of_it():
        async with AsyncAnthropic() as other:
            both = await asyncio.gather(create(other, model("say=1")), create(other, model("say=2")))
            same([answer.content[0].text for answer in both], ["1", "2"])
            name = model("tokens=4")
            async with other.messages.stream(model=name, max_tokens=1000, messages=ask("a")) as streaming:
                same("".join([text async for text in streaming.text_stream]), "a a a a")

    asyncio.run(all_of_it())


for function in checked:
    try:
        function()
    except Exception as error:
        sys.exit(f"{function.__name__}: {type(error).__name__}: {error}")
print(json.dumps({"sdk": f"anthropic {anthropic.__version__}", "checked": [it.__name__ for it in checked]}))
