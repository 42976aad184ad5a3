"""A content generator: makes a text of an outline. Without a model it lays out what the outline
says, and marks what is still to be written."""

import re
from pathlib import Path

import model
from web import Refused, serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()

LONG_WORDS = 25
TO_WRITE = "[to be written]"


def points(outline):
    """Depth and text of each line; two spaces, or a tab, go one deeper."""
    for line in outline:
        if not isinstance(line, str):
            raise Refused(400, "`outline` is not a list of texts")
        text = line.replace("\t", "  ")
        if text.strip():
            yield (len(text) - len(text.lstrip())) // 2, text.strip().lstrip("-*# ")


def layout(outline):
    """The outline as Markdown: a title, headings, and what stands below them as sentences."""
    parts, open_heading = [], False
    for depth, text in points(outline):
        if depth <= 1:
            if open_heading:
                parts.append(TO_WRITE)
            parts.append(f"{'#' * (depth + 1)} {text}")
            open_heading = depth == 1
        else:
            sentence = text if text.endswith((".", "!", "?")) else text + "."
            if open_heading:
                parts.append(sentence)
            else:
                parts[-1] += " " + sentence
            open_heading = False
    if open_heading:
        parts.append(TO_WRITE)
    return "\n\n".join(parts) + "\n"


def check_text(text):
    """Counts words and sentences of a text, and lists the sentences that are too long."""
    prose = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    sentences = [one.strip() for one in re.split(r"(?<=[.!?])\s+", prose) if one.strip()]
    return {
        "words": len(prose.split()),
        "sentences": len(sentences),
        "too_long": [one for one in sentences if len(one.split()) > LONG_WORDS],
    }


def ask(request):
    outline = request.json().get("outline")
    if isinstance(outline, str):
        outline = outline.splitlines()
    if not isinstance(outline, list) or not any(points(outline)):
        raise Refused(400, "`outline` is missing: a list of lines, deeper ones indented")
    wish = request.text("message", "Write this text.")
    if model.is_there():
        prompt = wish + "\n\nOutline:\n" + "\n".join(outline)
        answer, tools = model.ask(SYSTEM, prompt, [check_text])
        return {"answer": answer, "by": "model", "tools": tools, "check": check_text(answer)}
    draft = layout(outline)
    checked = check_text(draft)
    return {"answer": draft, "by": "tools", "check": checked, "note": model.MISSING}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
