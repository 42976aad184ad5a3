"""What Google's SDK for Python does with an endpoint: `GOOGLE_GEMINI_BASE_URL`, `GEMINI_API_KEY`, and a model as a word.

The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name say
what it does. Prints one line of what was checked; fails at the first that is not so.
"""

import asyncio
import json
import secrets
import sys

from google import genai
from google.genai import errors as failures
from google.genai import types

MODEL = sys.argv[1] if len(sys.argv) > 1 else "gemini-2.5-flash"
EMBEDDING = sys.argv[2] if len(sys.argv) > 2 else "gemini-embedding-001"
# Failures are counted by the model's name: no other run has this one.
RUN = secrets.token_hex(6)
TOOLS = [types.Tool(function_declarations=[types.FunctionDeclaration(
    name="weather", description="The weather in a city",
    parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}})])]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}

client = genai.Client()
checked = []


def model(*options):
    return "+".join([MODEL, *options, f"as={RUN}"])


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


def create(name, contents="x", using=client, **config):
    config = types.GenerateContentConfig(**config)
    return using.models.generate_content(model=name, contents=contents, config=config)


@check
def chat():
    answer = create(model(), "one two three", system_instruction="short")
    same(answer.text, "one two three")
    same(answer.candidates[0].finish_reason, types.FinishReason.STOP)
    # Eighteen bytes are five tokens, three words are three.
    used = answer.usage_metadata
    same((used.prompt_token_count, used.candidates_token_count, used.total_token_count), (5, 3, 8))


@check
def usage():
    used = create(model("prompt=1000", "cached=600", "tokens=50", "think=7")).usage_metadata
    same((used.prompt_token_count, used.cached_content_token_count), (1000, 600))
    same((used.candidates_token_count, used.thoughts_token_count, used.total_token_count), (50, 7, 1057))


@check
def stream():
    name = model("tokens=20", "say=a%20b")
    chunks = list(client.models.generate_content_stream(model=name, contents="x"))
    same("".join(chunk.text for chunk in chunks), " ".join(["a", "b"] * 10))
    same(len(chunks), 20)
    same(chunks[-1].usage_metadata.candidates_token_count, 20)
    thought = list(client.models.generate_content_stream(model=model("think=2"), contents="a"))
    same([bool(chunk.candidates[0].content.parts[0].thought) for chunk in thought], [True, True, False])


@check
def tools():
    first = create(model("tool=weather"), tools=TOOLS)
    call = first.function_calls[0]
    same((call.name, call.args), ("weather", {"city": "Paris"}))
    result = types.Part.from_function_response(name="weather", response={"result": "sunny in Paris"})
    contents = [types.Content(role="user", parts=[types.Part(text="x")]), first.candidates[0].content,
                types.Content(role="user", parts=[result])]
    same(create(model("tool=weather"), contents, tools=TOOLS).text, "sunny in Paris")

    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    # The SDK calls functions itself.
    same(create(model("tool=weather"), tools=[weather]).text, "rain in Paris")


@check
def json_mode():
    answer = create(model(), "hello", response_mime_type="application/json")
    same(json.loads(answer.text), {"answer": "hello"})
    answer = create(model(), response_mime_type="application/json", response_json_schema=SCHEMA)
    same(json.loads(answer.text), {"name": "text", "age": 1})


@check
def count_tokens():
    same(client.models.count_tokens(model=model(), contents="one two three").total_tokens, 4)


@check
def embeddings():
    name = "+".join([EMBEDDING, f"as={RUN}"])
    config = types.EmbedContentConfig(output_dimensionality=8)
    both = client.models.embed_content(model=name, contents=["a", "b"], config=config).embeddings
    again = client.models.embed_content(model=name, contents="a", config=config).embeddings
    same([len(it.values) for it in both], [8, 8])
    same(both[0].values, again[0].values)


@check
def models():
    assert len(list(client.models.list())) > 0, "no models"


@check
def errors():
    wrong = genai.Client(api_key="wrong-0123456789")
    error = fails(failures.ClientError, lambda: create(model(), using=wrong))
    # Google itself calls a key that it does not know a wrong argument.
    assert error.code in (400, 401), error
    error = fails(failures.ClientError, lambda: create(model("fail=404")))
    same((error.code, error.status), (404, "NOT_FOUND"))
    error = fails(failures.ServerError, lambda: create(model("fail=500")))
    same((error.code, error.status), (500, "INTERNAL"))
    error = fails(failures.ClientError, lambda: create(model("fail=429", "after=9")))
    same((error.code, error.status), (429, "RESOURCE_EXHAUSTED"))
    read = lambda: list(client.models.generate_content_stream(model=model("fail=503"), contents="x"))
    same(fails(failures.ServerError, read).status, "UNAVAILABLE")


@check
def retries():
    options = types.HttpRetryOptions(attempts=3, initial_delay=0.01, jitter=0.0)
    patient = genai.Client(http_options=types.HttpOptions(retry_options=options))
    same(create(model("fail=429x2", "say=again"), using=patient).text, "again")


@check
def cut():
    seen = []

    def read():
        name = model("tokens=10", "cut=3", "say=a")
        for chunk in client.models.generate_content_stream(model=name, contents="x"):
            seen.append(chunk.text)

    error = fails(Exception, read)
    assert not isinstance(error, AssertionError), error
    same("".join(seen), "a a a ")


@check
def in_parallel():
    async def all_of_it():
        other = client.aio
        one = other.models.generate_content(model=model("say=1"), contents="x")
        two = other.models.generate_content(model=model("say=2"), contents="x")
        same([answer.text for answer in await asyncio.gather(one, two)], ["1", "2"])
        streaming = await other.models.generate_content_stream(model=model("tokens=4"), contents="a")
        same("".join([chunk.text async for chunk in streaming]), "a a a a")
        await other.aclose()

    asyncio.run(all_of_it())


for function in checked:
    try:
        function()
    except Exception as error:
        sys.exit(f"{function.__name__}: {type(error).__name__}: {error}")
print(json.dumps({"sdk": f"google-genai {genai.__version__}", "checked": [it.__name__ for it in checked]}))
