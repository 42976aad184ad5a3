"""A research assistant: finds passages in a folder of notes and answers with their places."""

import math
import re
from collections import Counter
from pathlib import Path

import model
from web import serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()

NOTES = Path(__file__).with_name("notes")
MOST_PASSAGES = 5


def words(text):
    return [re.sub(r"(ing|es|s)$", "", word) for word in re.findall(r"[a-z0-9]{3,}", text.lower())]


def passages():
    """The paragraphs of the notes: file, first line and text."""
    for path in sorted(NOTES.glob("*.md")):
        begin, lines = 1, []
        for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
            if line.strip():
                begin = begin if lines else number
                lines.append(line.strip())
            elif lines:
                yield path.name, begin, " ".join(lines)
                lines = []


def search_notes(query):
    """The passages of the notes that fit best: file, line and text."""
    all_passages = [(file, line, text, Counter(words(text))) for file, line, text in passages()]
    holding = Counter(word for *_, counts in all_passages for word in counts)
    found = []
    for file, line, text, counts in all_passages:
        # A rare word says more than a common one (BM25 without the length of documents).
        score = sum(
            math.log(1 + len(all_passages) / holding[word]) * counts[word] / (counts[word] + 1.2)
            for word in set(words(query))
            if word in counts
        )
        if score:
            found.append({"file": file, "line": line, "text": text, "score": round(score, 2)})
    return sorted(found, key=lambda one: -one["score"])[:MOST_PASSAGES]


def read_note(file):
    """A whole note by its file's name."""
    names = {path.name: path for path in NOTES.glob("*.md")}
    if file not in names:
        raise ValueError(f"there is no note {file}; there are: {', '.join(sorted(names))}")
    return names[file].read_text()


def ask(request):
    question = request.text("message")
    if model.is_there():
        answer, tools = model.ask(SYSTEM, question, [search_notes, read_note])
        return {"answer": answer, "by": "model", "tools": tools}
    found = search_notes(question)
    quotes = "\n".join(f"“{one['text']}” ({one['file']}:{one['line']})" for one in found)
    answer = quotes or "The notes say nothing about it."
    return {"answer": answer, "by": "tools", "passages": found, "note": model.MISSING}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
