"""Asks for a URL by each client of Python, as its environment says, and prints what each of them was told."""

import json
import os
import sys
import urllib.request

import httpx
import requests

URL = sys.argv[1]
HEADERS = {"Authorization": "Bearer " + os.environ.get("API_KEY", "none")}


def by_urllib():
    asked = urllib.request.Request(URL, headers=HEADERS)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.status, answer.read().decode()


def by_requests():
    answer = requests.get(URL, headers=HEADERS, timeout=30)
    return answer.status_code, answer.text


def by_httpx():
    answer = httpx.get(URL, headers=HEADERS, timeout=30)
    return answer.status_code, answer.text


for name, ask in [("urllib", by_urllib), ("requests", by_requests), ("httpx", by_httpx)]:
    status, text = ask()
    print(json.dumps({"client": name, "status": status, "text": text}))
