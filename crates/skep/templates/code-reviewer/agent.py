"""A code reviewer: reads a unified diff, finds what is simple to find by itself, and asks a model
for the rest when there is one."""

import re
from pathlib import Path

import model
from web import serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()

CHECKS = [
    (r"^(<<<<<<<|>>>>>>>|=======$)", "a marker of a merge conflict"),
    (r"(?i)(password|secret|api_?key|token)\s*[:=]\s*['\"][^'\"]{8,}['\"]", "what looks like a secret"),
    (r"\beval\(|\bexec\(", "runs a text as code"),
    (r"shell\s*=\s*True", "a shell runs what may hold others' text"),
    (r"verify\s*=\s*False", "certificates are not checked"),
    (r"except\s*:|except\s+Exception\s*:\s*pass|catch\s*\([^)]*\)\s*\{\s*\}", "an error is swallowed"),
    (r"\bconsole\.log\(|\bdbg!\(|\bbreakpoint\(\)|\bdebugger;", "left from debugging"),
    (r"\.unwrap\(\)", "panics where an error could be told"),
    (r"(?i)\b(to" r"do|fix" r"me)\b", "left for later"),
    (r"[ \t]+$", "white space at the end"),
]
MOST_COLUMNS = 120


def added_lines(diff):
    """File, line number and text of each line that a unified diff adds."""
    file, number = "?", 0
    for line in diff.splitlines():
        if line.startswith("+++ "):
            file = re.sub(r"^b/", "", line[4:].split("\t")[0])
        elif begin := re.match(r"@@ -\S+ \+(\d+)", line):
            number = int(begin[1])
        elif line.startswith("+"):
            yield file, number, line[1:]
            number += 1
        elif not line.startswith(("-", "\\")):
            number += 1


def findings(diff):
    found = []
    for file, number, text in added_lines(diff):
        what = [what for pattern, what in CHECKS if re.search(pattern, text)]
        if len(text) > MOST_COLUMNS:
            what.append(f"{len(text)} columns")
        found += [{"file": file, "line": number, "what": one, "text": text.strip()} for one in what]
    return found


def ask(request):
    diff = request.text("diff")
    wish = request.text("message", "Review this change.")

    def check_diff():
        """Problems in the added lines that can be found by rules: file, line and what."""
        return findings(diff)

    if model.is_there():
        answer, tools = model.ask(SYSTEM, f"{wish}\n\n```diff\n{diff}\n```", [check_diff])
        return {"answer": answer, "by": "model", "tools": tools}
    found = check_diff()
    lines = sum(1 for _ in added_lines(diff))
    text = "".join(f"- {one['file']}:{one['line']}: {one['what']}\n" for one in found)
    answer = f"{len(found)} findings in {lines} added lines, by rules alone.\n{text}"
    return {"answer": answer, "by": "tools", "findings": found, "note": model.MISSING}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
