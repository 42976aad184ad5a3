"""An agent of the OpenAI Agents SDK as anybody writes one: the model's address and key are in its environment."""

import os
from contextlib import asynccontextmanager

from agents import Agent, Runner, ToolCallItem, function_tool
from agents.mcp import MCPServerStreamableHttp
from http_door import serve


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@asynccontextmanager
async def agent_of(said):
    options = {"name": "asker", "instructions": "Be short.", "model": said["model"]}
    if not said.get("mcp"):
        yield Agent(tools=[weather], **options)
        return
    params = {
        "url": os.environ["SKEP_MCP_URL"],
        "headers": {"Authorization": f"Bearer {os.environ['SKEP_TOKEN']}"},
    }
    async with MCPServerStreamableHttp(params=params) as server:
        yield Agent(mcp_servers=[server], **options)


async def ask(said):
    async with agent_of(said) as agent:
        end = await Runner.run(agent, said["message"])
    used = [item.raw_item.name for item in end.new_items if isinstance(item, ToolCallItem)]
    return {"answer": end.final_output, "tools": used, "tokens": end.context_wrapper.usage.output_tokens}


async def stream(said):
    async with agent_of(said) as agent:
        async for event in Runner.run_streamed(agent, said["message"]).stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield {"text": event.data.delta}
            elif event.type == "run_item_stream_event" and event.name == "tool_called":
                yield {"tool": event.item.raw_item.name}


serve(ask, stream)
