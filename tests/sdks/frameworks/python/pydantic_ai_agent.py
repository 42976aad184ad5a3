"""An agent of Pydantic AI as anybody writes one: the models' addresses and keys are in its environment."""

import os

from http_door import serve
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolCallPart


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent_of(said):
    name, options = f"{said['provider']}:{said['model']}", {"instructions": "Be short."}
    if not said.get("mcp"):
        return Agent(name, tools=[weather], **options)
    headers = {"Authorization": f"Bearer {os.environ['SKEP_TOKEN']}"}
    return Agent(name, toolsets=[MCPToolset(os.environ["SKEP_MCP_URL"], headers=headers)], **options)


def used(messages):
    parts = [part for message in messages for part in message.parts]
    return [part.tool_name for part in parts if isinstance(part, ToolCallPart)]


async def ask(said):
    end = await agent_of(said).run(said["message"])
    return {"answer": end.output, "tools": used(end.all_messages()), "tokens": end.usage.output_tokens}


async def stream(said):
    async with agent_of(said).run_stream(said["message"]) as end:
        for name in used(end.all_messages()):
            yield {"tool": name}
        async for text in end.stream_text(delta=True, debounce_by=None):
            yield {"text": text}


serve(ask, stream)
