"""Customer support: answers from faq.md, and writes a ticket for people when that says nothing."""

import json
import os
import re
from pathlib import Path

import model
from web import serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()

FAQ = Path(__file__).with_name("faq.md")
# The home folder lasts over restarts and new versions.
TICKETS = Path(os.environ.get("HOME", ".")) / "tickets.jsonl"
COMMON = set("a an and are can do for how i in is it me my of on or the to what when where with you your".split())
GOOD = 0.34


def words(text):
    return {stem(word) for word in re.findall(r"[a-z0-9]+", text.lower())} - COMMON


def stem(word):
    return re.sub(r"(ing|ed|es|s)$", "", word) if len(word) > 4 else word


def entries():
    """The questions and answers of the file: each question is a heading."""
    parts = re.split(r"^## +(.+)$", FAQ.read_text(), flags=re.MULTILINE)
    return [(parts[at].strip(), parts[at + 1].strip()) for at in range(1, len(parts), 2)]


def look_up(question):
    """The entries of the shop's answers that fit a question, best first, each with how well."""
    asked = words(question)
    found = []
    for title, answer in entries():
        # Words of the heading count more than those of the answer.
        hits = len(asked & words(title)) + 0.5 * len(asked & (words(answer) - words(title)))
        if hits:
            found.append({"question": title, "answer": answer, "fit": round(hits / len(asked), 2)})
    return sorted(found, key=lambda one: -one["fit"])[:3]


def ask(request):
    question = request.text("message")
    call = request.headers.get("Idempotency-Key") or "none"

    def open_ticket(reason):
        """Hands the customer's question over to people. Gives the ticket's number."""
        # Every try of one call has the same key: none opens a second ticket.
        lines = TICKETS.read_text().splitlines() if TICKETS.exists() else []
        for number, line in enumerate(lines, 1):
            if json.loads(line)["call"] == call:
                return {"ticket": number}
        with TICKETS.open("a") as file:
            file.write(json.dumps({"call": call, "question": question, "reason": reason}) + "\n")
        print(f"ticket {len(lines) + 1}: {reason}", flush=True)
        return {"ticket": len(lines) + 1}

    if model.is_there():
        answer, tools = model.ask(SYSTEM, question, [look_up, open_ticket])
        return {"answer": answer, "by": "model", "tools": tools}
    found = look_up(question)
    if found and found[0]["fit"] >= GOOD:
        best = found[0]
        answer = {"answer": best["answer"], "source": best["question"]}
    else:
        ticket = open_ticket("no entry fits")["ticket"]
        answer = {"answer": f"I do not know; a person will. Your ticket is {ticket}.", "ticket": ticket}
    return {**answer, "by": "tools", "note": model.MISSING}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
