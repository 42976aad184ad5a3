"""What OpenAI's SDK for Python does with an endpoint: `OPENAI_BASE_URL`, `OPENAI_API_KEY`, and a model as a word.

The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name say
what it does. Prints one line of what was checked; fails at the first that is not so.
"""

import asyncio
import json
import secrets
import sys
import time

import openai
from openai import AsyncOpenAI, OpenAI

MODEL = sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"
EMBEDDING = sys.argv[2] if len(sys.argv) > 2 else "text-embedding-3-small"
# Failures are counted by the model's name: no other run has this one.
RUN = secrets.token_hex(6)
TOOLS = [{"type": "function", "function": {
    "name": "weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}

client = OpenAI()
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


@check
def chat():
    answer = client.chat.completions.create(model=model(), messages=ask("one two three"))
    same(answer.choices[0].message.content, "one two three")
    same(answer.choices[0].finish_reason, "stop")
    # Thirteen bytes are four tokens, three words are three.
    same((answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens), (4, 3, 7))
    many = client.chat.completions.create(model=model("say=a"), messages=ask("x"), n=3)
    same([choice.message.content for choice in many.choices], ["a", "a", "a"])


@check
def usage():
    answer = client.chat.completions.create(
        model=model("prompt=1000", "cached=600", "tokens=50", "think=7"), messages=ask("x"))
    same(answer.usage.prompt_tokens, 1000)
    same(answer.usage.prompt_tokens_details.cached_tokens, 600)
    same(answer.usage.completion_tokens, 57)
    same(answer.usage.completion_tokens_details.reasoning_tokens, 7)


@check
def stream():
    chunks = list(client.chat.completions.create(
        model=model("tokens=20", "say=a%20b"), messages=ask("x"), stream=True,
        stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    same("".join(text or "" for text in texts), " ".join(["a", "b"] * 10))
    same(chunks[-1].choices, [])
    same(chunks[-1].usage.completion_tokens, 20)
    plain = list(client.chat.completions.create(model=model(), messages=ask("x"), stream=True))
    assert all(chunk.usage is None for chunk in plain), "usage was told without being asked for"


@check
def tools():
    messages = ask("the weather?")
    first = client.chat.completions.create(model=model("tool=weather"), messages=messages, tools=TOOLS)
    same(first.choices[0].finish_reason, "tool_calls")
    call = first.choices[0].message.tool_calls[0]
    same((call.function.name, json.loads(call.function.arguments)), ("weather", {"city": "Paris"}))
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny in Paris"}]
    last = client.chat.completions.create(model=model("tool=weather"), messages=messages, tools=TOOLS)
    same(last.choices[0].message.content, "sunny in Paris")
    with client.chat.completions.stream(model=model("tool=weather"), messages=ask("x"), tools=TOOLS) as streaming:
        final = streaming.get_final_completion()
    same(json.loads(final.choices[0].message.tool_calls[0].function.arguments), {"city": "Paris"})


@check
def json_mode():
    answer = client.chat.completions.create(
        model=model(), messages=ask("hello"), response_format={"type": "json_object"})
    same(json.loads(answer.choices[0].message.content), {"answer": "hello"})
    answer = client.chat.completions.create(model=model(), messages=ask("hello"), response_format={
        "type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}})
    same(json.loads(answer.choices[0].message.content), {"name": "text", "age": 1})


@check
def responses():
    answer = client.responses.create(model=model(), input="one two", instructions="be short")
    same((answer.status, answer.output_text), ("completed", "one two"))
    same((answer.usage.input_tokens, answer.usage.output_tokens), (4, 2))
    kinds, text = [], ""
    for event in client.responses.create(model=model("tokens=5", "think=2"), input="a b", stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    same(text, "a b a b a")
    same((kinds[0], kinds[1], kinds[-1]), ("response.created", "response.in_progress", "response.completed"))
    same(event.response.usage.output_tokens_details.reasoning_tokens, 2)
    with client.responses.stream(model=model("tool=weather"), input="x") as streaming:
        final = streaming.get_final_response()
    call = next(item for item in final.output if item.type == "function_call")
    same(json.loads(call.arguments), {"city": "Paris"})
    after = client.responses.create(model=model("tool=weather"), input=[
        {"role": "user", "content": "x"}, call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}])
    same(after.output_text, "rain")


@check
def embeddings():
    # The SDK asks for base64 of its own accord.
    name = "+".join([EMBEDDING, f"as={RUN}"])
    packed = client.embeddings.create(model=name, input=["a", "b"], dimensions=8)
    plain = client.embeddings.create(model=name, input=["a", "b"], dimensions=8, encoding_format="float")
    same(len(packed.data), 2)
    for one, other in zip(packed.data, plain.data):
        same(len(one.embedding), 8)
        assert all(abs(a - b) < 1e-6 for a, b in zip(one.embedding, other.embedding)), "two vectors of one text"
    same(packed.usage.total_tokens, 1)


@check
def models():
    assert len(list(client.models.list())) > 0, "no models"


@check
def errors():
    wrong = OpenAI(api_key="sk-wrong-0123456789", max_retries=0)
    error = fails(openai.AuthenticationError,
                  lambda: wrong.chat.completions.create(model=model(), messages=ask("x")))
    same(error.status_code, 401)
    error = fails(openai.NotFoundError,
                  lambda: client.chat.completions.create(model=model("fail=404"), messages=ask("x")))
    same(error.code, "model_not_found")
    error = fails(openai.InternalServerError,
                  lambda: quick.chat.completions.create(model=model("fail=500"), messages=ask("x")))
    same(error.type, "server_error")
    error = fails(openai.RateLimitError,
                  lambda: quick.chat.completions.create(model=model("fail=429", "after=9"), messages=ask("x")))
    same((error.code, error.response.headers["retry-after"]), ("rate_limit_exceeded", "9"))


@check
def retries():
    started = time.monotonic()
    answer = client.chat.completions.create(model=model("fail=429x1", "after=1", "say=again"), messages=ask("x"))
    same(answer.choices[0].message.content, "again")
    # Left to itself it waits half a second at most.
    assert time.monotonic() - started >= 0.9, "did not wait as it was told to"


@check
def cut():
    seen = []

    def read():
        for chunk in quick.chat.completions.create(
                model=model("tokens=10", "cut=3", "say=a"), messages=ask("x"), stream=True):
            seen.append(chunk.choices[0].delta.content)

    error = fails(Exception, read)
    assert not isinstance(error, AssertionError), error
    same("".join(text or "" for text in seen), "a a a ")

    def broken():
        for _ in quick.chat.completions.create(model=model("error=1"), messages=ask("a b"), stream=True):
            pass

    fails(openai.APIError, broken)


@check
def in_parallel():
    async def all_of_it():
        async with AsyncOpenAI() as other:
            one = other.chat.completions.create(model=model("say=1"), messages=ask("x"))
            two = other.chat.completions.create(model=model("say=2"), messages=ask("x"))
            texts = [answer.choices[0].message.content for answer in await asyncio.gather(one, two)]
            same(texts, ["1", "2"])
            streaming = await other.chat.completions.create(model=model("tokens=4"), messages=ask("a"), stream=True)
            same("".join([chunk.choices[0].delta.content or "" async for chunk in streaming]), "a a a a")

    asyncio.run(all_of_it())


for function in checked:
    try:
        function()
    except Exception as error:
        sys.exit(f"{function.__name__}: {type(error).__name__}: {error}")
print(json.dumps({"sdk": f"openai {openai.__version__}", "checked": [it.__name__ for it in checked]}))
