"""An agent of LangChain and LangGraph as anybody writes one: the models' addresses and keys are in its environment."""

import os

from http_door import serve
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI

MODELS = {"openai": ChatOpenAI, "anthropic": ChatAnthropic, "google": ChatGoogleGenerativeAI}


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def tools_of(said):
    if not said.get("mcp"):
        return [weather]
    client = MultiServerMCPClient({"tools": {
        "transport": "streamable_http",
        "url": os.environ["SKEP_MCP_URL"],
        "headers": {"Authorization": f"Bearer {os.environ['SKEP_TOKEN']}"},
    }})
    return await client.get_tools()


async def agent_of(said):
    model = MODELS[said["provider"]](model=said["model"])
    return create_agent(model, await tools_of(said), system_prompt="Be short.")


async def ask(said):
    agent = await agent_of(said)
    messages = (await agent.ainvoke({"messages": [("user", said["message"])]}))["messages"]
    used = [message.name for message in messages if isinstance(message, ToolMessage)]
    tokens = sum(it.usage_metadata["output_tokens"] for it in messages if isinstance(it, AIMessage))
    return {"answer": messages[-1].text, "tools": used, "tokens": tokens}


async def stream(said):
    agent = await agent_of(said)
    turn = {"messages": [("user", said["message"])]}
    async for message, _ in agent.astream(turn, stream_mode="messages"):
        if isinstance(message, AIMessageChunk) and message.text:
            yield {"text": message.text}
        elif isinstance(message, ToolMessage):
            yield {"tool": message.name}


serve(ask, stream)
