"""An agent of the OpenAI Agents SDK with a tool, behind HTTP. Any OpenAI-compatible server."""

import ast
import asyncio
import operator
import os
from pathlib import Path

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner, ToolCallItem, function_tool
from agents import set_tracing_disabled
from agents.exceptions import MaxTurnsExceeded

from web import Refused, serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()
MISSING = "no model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that wants no key"
MOST_TURNS = 8
SECONDS = 120

set_tracing_disabled(True)  # traces would go to OpenAI, whatever server the model is on

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def value_of(node):
    """Numbers and + - * / alone: an expression comes from a model, and is never run as code."""
    match node:
        case ast.Expression():
            return value_of(node.body)
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.BinOp() if type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value_of(node.left), value_of(node.right))
        case ast.UnaryOp() if type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](value_of(node.operand))
    raise ValueError("only numbers, + - * / and parentheses")


@function_tool
def calculate(expression: str) -> str:
    """The value of an expression of numbers, + - * / and parentheses, such as 2340 * 0.17."""
    try:
        return f"{value_of(ast.parse(expression, mode='eval')):g}"
    except (ValueError, SyntaxError, ArithmeticError, RecursionError) as error:
        return f"error: {error}"


async def run(question):
    client = openai.AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL") or None,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        timeout=SECONDS,
        max_retries=0,  # Skep tries again
    )
    async with client:
        name = os.environ.get("OPENAI_MODEL") or "gpt-5-mini"
        agent = Agent(
            name=os.environ.get("SKEP_AGENT", "{{name}}"),
            instructions=SYSTEM,
            model=OpenAIChatCompletionsModel(model=name, openai_client=client),
            tools=[calculate],
        )
        return await Runner.run(agent, question, max_turns=MOST_TURNS)


def ask(request):
    question = request.text("message")
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise Refused(500, MISSING)
    try:
        end = asyncio.run(run(question))
    except MaxTurnsExceeded as error:
        raise Refused(502, "the model wanted tools too many times in a row") from error
    except openai.APIStatusError as error:
        # Skep tries 429 and 503 again by itself; what is wrong with the request stays wrong.
        status = 503 if error.status_code >= 500 else 429 if error.status_code == 429 else 500
        raise Refused(status, f"the model's server answered {error.status_code}") from error
    except openai.APIConnectionError as error:
        raise Refused(503, f"the model's server gave no answer: {error}") from error
    used = [item.raw_item.name for item in end.new_items if isinstance(item, ToolCallItem)]
    return {"answer": end.final_output, "tools": used}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
