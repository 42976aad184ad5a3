// An agent of the AI SDK as anybody writes one: the model's address and key are in its environment.

import http from "node:http";

import { anthropic } from "@ai-sdk/anthropic";
import { createMCPClient } from "@ai-sdk/mcp";
import { openai } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const MODELS = { anthropic, openai };

const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});

async function options(said) {
  const model = MODELS[said.provider](said.model);
  const common = { model, system: "Be short.", prompt: said.message, stopWhen: stepCountIs(4) };
  if (!said.mcp) return [{ ...common, tools: { weather } }, async () => {}];
  const client = await createMCPClient({
    transport: {
      type: "http",
      url: process.env.SKEP_MCP_URL,
      headers: { Authorization: `Bearer ${process.env.SKEP_TOKEN}` },
    },
  });
  return [{ ...common, tools: await client.tools() }, () => client.close()];
}

async function ask(said) {
  const [all, close] = await options(said);
  try {
    const end = await generateText(all);
    const tools = end.steps.flatMap((step) => step.toolCalls.map((call) => call.toolName));
    return { answer: end.text, tools, tokens: end.totalUsage.outputTokens };
  } finally {
    await close();
  }
}

async function stream(said, write) {
  const [all, close] = await options(said);
  try {
    for await (const part of streamText(all).fullStream) {
      if (part.type === "text-delta") write({ text: part.text });
      if (part.type === "tool-call") write({ tool: part.toolName });
      if (part.type === "error") throw part.error;
    }
  } finally {
    await close();
  }
}

const server = http.createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  try {
    if (request.url === "/ping") return response.end("{}");
    const said = JSON.parse(body);
    if (request.url === "/stream") {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      await stream(said, (event) => response.write(`data: ${JSON.stringify(event)}\n\n`));
      return response.end();
    }
    response.end(JSON.stringify(await ask(said)));
  } catch (error) {
    console.error(error);
    if (!response.headersSent) response.writeHead(500);
    response.end(String(error));
  }
});

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
