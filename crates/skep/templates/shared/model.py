"""A model with tools, over any OpenAI-compatible server: OPENAI_BASE_URL, OPENAI_API_KEY (if it
wants one) and OPENAI_MODEL. The standard library only."""

import inspect
import json
import os
import urllib.error
import urllib.request

from web import Refused

MOST_ROUNDS = 8
SECONDS = 120
MISSING = "no model: set OPENAI_BASE_URL (and OPENAI_API_KEY) for more than the tools can say"


def is_there():
    return bool(os.environ.get("OPENAI_BASE_URL"))


def ask(system, message, tools):
    """The model's answer, and the names of the tools that it used.

    Tools are functions of texts: the model reads their names, parameters and docstrings."""
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": message},
    ]
    by_name = {tool.__name__: tool for tool in tools}
    used = []
    for _ in range(MOST_ROUNDS):
        said = complete(messages, [described(tool) for tool in tools])
        messages.append(said)
        calls = said.get("tool_calls") or []
        if not calls:
            return said.get("content") or "", used
        for call in calls:
            name = call["function"]["name"]
            used.append(name)
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": run(by_name, call)}
            )
    raise Refused(502, f"the model wanted tools more than {MOST_ROUNDS} times in a row")


def run(by_name, call):
    """What a tool says; a mistake is told to the model, which can mend it."""
    name = call["function"]["name"]
    try:
        arguments = json.loads(call["function"].get("arguments") or "{}")
        return json.dumps(by_name[name](**arguments), ensure_ascii=False)
    except (KeyError, TypeError, ValueError) as error:
        return json.dumps({"error": f"{name}: {error!r}"})


def described(tool):
    names = list(inspect.signature(tool).parameters)
    return {
        "type": "function",
        "function": {
            "name": tool.__name__,
            "description": inspect.getdoc(tool),
            "parameters": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in names},
                "required": names,
            },
        },
    }


def complete(messages, tools):
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions"
    body = {"model": os.environ.get("OPENAI_MODEL") or "gpt-5-mini", "messages": messages}
    if tools:
        body["tools"] = tools
    headers = {"Content-Type": "application/json"}
    if os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = "Bearer " + os.environ["OPENAI_API_KEY"]
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)["choices"][0]["message"]
    except urllib.error.HTTPError as error:
        # Skep tries 429 and 503 again by itself; what is wrong with the request stays wrong.
        status = 503 if error.code >= 500 else 429 if error.code == 429 else 500
        raise Refused(status, f"the model's server answered {error.code}") from error
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise Refused(503, f"the model's server gave no answer: {error}") from error
