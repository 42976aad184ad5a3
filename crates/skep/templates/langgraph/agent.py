"""An agent of LangGraph: a graph of a model and a tool, behind HTTP. Any OpenAI-compatible server."""

import ast
import operator
import os
from pathlib import Path

import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from web import Refused, serve

SYSTEM = Path(__file__).with_name("prompt.md").read_text()
MISSING = "no model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that wants no key"
MOST_STEPS = 16
SECONDS = 120

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


@tool
def calculate(expression: str) -> str:
    """The value of an expression of numbers, + - * / and parentheses, such as 2340 * 0.17."""
    try:
        return f"{value_of(ast.parse(expression, mode='eval')):g}"
    except (ValueError, SyntaxError, ArithmeticError, RecursionError) as error:
        return f"error: {error}"


def graph():
    """The model is asked until it wants no tool any more."""
    model = ChatOpenAI(
        model=os.environ.get("OPENAI_MODEL") or "gpt-5-mini",
        base_url=os.environ.get("OPENAI_BASE_URL") or None,
        api_key=os.environ.get("OPENAI_API_KEY") or "none",
        timeout=SECONDS,
        max_retries=0,  # Skep tries again
    ).bind_tools([calculate])

    def think(state: MessagesState):
        return {"messages": [model.invoke([SystemMessage(SYSTEM), *state["messages"]])]}

    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("tools", ToolNode([calculate]))
    made.add_edge(START, "think")
    made.add_conditional_edges("think", tools_condition)
    made.add_edge("tools", "think")
    return made.compile()


def ask(request):
    question = request.text("message")
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise Refused(500, MISSING)
    try:
        end = graph().invoke(
            {"messages": [HumanMessage(question)]}, {"recursion_limit": MOST_STEPS}
        )
    except GraphRecursionError as error:
        raise Refused(502, "the model wanted tools too many times in a row") from error
    except openai.APIStatusError as error:
        # Skep tries 429 and 503 again by itself; what is wrong with the request stays wrong.
        status = 503 if error.status_code >= 500 else 429 if error.status_code == 429 else 500
        raise Refused(status, f"the model's server answered {error.status_code}") from error
    except openai.APIConnectionError as error:
        raise Refused(503, f"the model's server gave no answer: {error}") from error
    used = [message.name for message in end["messages"] if isinstance(message, ToolMessage)]
    return {"answer": end["messages"][-1].text, "tools": used}


if __name__ == "__main__":
    serve({("POST", "/ask"): ask})
