"""A data analyst: computes with a CSV, and asks a model to explain when there is one. The numbers
always come from the tools, never from the model."""

import csv
import io
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import model
from web import Refused, serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()

MOST_ROWS = 100_000


class Table:
    """Columns of a CSV with a line of names."""

    def __init__(self, text):
        rows = list(csv.DictReader(io.StringIO(text)))
        if not rows:
            raise Refused(400, "`csv` needs a line of names and a line of values")
        if len(rows) > MOST_ROWS:
            raise Refused(413, f"more than {MOST_ROWS} rows")
        self.rows = rows
        self.names = [name for name in rows[0] if name]

    def values(self, name):
        """What the column holds, without the empty cells."""
        if name not in self.names:
            raise ValueError(f"there is no column {name}; there are: {', '.join(self.names)}")
        return [row[name].strip() for row in self.rows if (row[name] or "").strip()]

    def numbers(self, name):
        """The column as numbers; `None` when it is none of numbers."""
        try:
            return [float(value) for value in self.values(name)] or None
        except ValueError:
            return None


def summary(numbers):
    return {
        "count": len(numbers),
        "sum": round(sum(numbers), 6),
        "mean": round(statistics.fmean(numbers), 6),
        "median": statistics.median(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "deviation": round(statistics.stdev(numbers), 6) if len(numbers) > 1 else 0.0,
    }


def tools_of(table):
    def describe(column):
        """Statistics of one column: of numbers count, sum, mean, median, extremes and standard
        deviation; of texts the most frequent."""
        values, numbers = table.values(column), table.numbers(column)
        missing = {"missing": len(table.rows) - len(values)}
        if numbers:
            return missing | summary(numbers)
        common = Counter(values).most_common(5)
        return missing | {"distinct": len(set(values)), "most_frequent": dict(common)}

    def group(by, of):
        """Statistics of the numbers in column `of` for each value of column `by`."""
        table.values(by)
        if not table.numbers(of):
            raise ValueError(f"{of} has no numbers")
        groups = defaultdict(list)
        for row in table.rows:
            if (row[of] or "").strip():
                groups[row[by]].append(float(row[of]))
        return {name: summary(numbers) for name, numbers in sorted(groups.items())}

    return describe, group


def ask(request):
    table = Table(request.text("csv"))
    question = request.text("message", "What is in this data?")
    describe, group = tools_of(table)
    if model.is_there():
        system = f"{SYSTEM}\nColumns of the data: {', '.join(table.names)}"
        answer, tools = model.ask(system, question, [describe, group])
        return {"answer": answer, "by": "model", "tools": tools}
    columns = {name: describe(name) for name in table.names}
    # What the question names is looked at together.
    asked = [name for name in table.names if name.lower() in question.lower()]
    of = next((name for name in table.names if table.numbers(name)), None)
    by = next((name for name in asked if not table.numbers(name)), None)
    groups = group(by, of) if by and of else None
    answer = f"{len(table.rows)} rows, {len(table.names)} columns."
    if groups:
        sums = ", ".join(f"{name} {one['sum']:g}" for name, one in groups.items())
        answer += f" Sum of {of} by {by}: {sums}."
    found = {"columns": columns, "groups": groups}
    return {"answer": answer, "by": "tools", **found, "note": model.MISSING}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
