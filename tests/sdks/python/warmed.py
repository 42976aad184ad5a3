"""Asks by OpenAI's and Anthropic's SDKs what a file asked before, and prints whether that was known, with what was said."""

import json
import sys

from anthropic import Anthropic
from openai import OpenAI

MODEL, QUESTION = sys.argv[1:]
said = []

raw = OpenAI().chat.completions.with_raw_response.create(
    model=MODEL, max_tokens=100, messages=[{"role": "user", "content": QUESTION}])
said.append([raw.headers.get("skep-cache"), raw.parse().choices[0].message.content])

raw = Anthropic().messages.with_raw_response.create(
    model=MODEL, max_tokens=100, messages=[{"role": "user", "content": QUESTION}])
said.append([raw.headers.get("skep-cache"), raw.parse().content[0].text])

print(json.dumps(said))
