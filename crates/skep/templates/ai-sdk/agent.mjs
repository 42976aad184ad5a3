// An agent of the AI SDK with a tool, behind HTTP. Any OpenAI-compatible server.

import { readFileSync } from "node:fs";
import http from "node:http";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

const MOST_BYTES = 1 << 20;
const MOST_STEPS = 8;
const SECONDS = 120;
const SYSTEM = readFileSync(new URL("prompt.md", import.meta.url), "utf8");
const MISSING = "no model: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that wants no key";

/** Numbers and + - * / alone: an expression comes from a model, and is never run as code. */
function valueOf(text) {
  const parts = text.match(/\d+(?:\.\d+)?|[-+*/()]|\S/g) ?? [];
  let at = 0;
  const sum = () => {
    let value = product();
    while (parts[at] === "+" || parts[at] === "-") {
      value = parts[at++] === "+" ? value + product() : value - product();
    }
    return value;
  };
  const product = () => {
    let value = factor();
    while (parts[at] === "*" || parts[at] === "/") {
      value = parts[at++] === "*" ? value * factor() : value / factor();
    }
    return value;
  };
  const factor = () => {
    const part = parts[at++];
    if (part === "-") return -factor();
    if (part === "(") {
      const value = sum();
      if (parts[at++] !== ")") throw new Error("a parenthesis is not closed");
      return value;
    }
    if (!/^\d/.test(part ?? "")) throw new Error("only numbers, + - * / and parentheses");
    return Number(part);
  };
  const value = sum();
  if (at < parts.length) throw new Error("only numbers, + - * / and parentheses");
  return value;
}

const calculate = tool({
  description: "The value of an expression of numbers, + - * / and parentheses: 2340 * 0.17.",
  inputSchema: z.object({ expression: z.string() }),
  execute: async ({ expression }) => {
    try {
      return String(Number(valueOf(expression).toPrecision(12)));
    } catch (error) {
      return `error: ${error.message}`;
    }
  },
});

/** What a model says to a question, and which tools it used. */
async function ask(question) {
  const { OPENAI_API_KEY: apiKey, OPENAI_BASE_URL: baseURL, OPENAI_MODEL: name } = process.env;
  if (!apiKey && !baseURL) throw { status: 500, error: MISSING };
  const server = createOpenAICompatible({
    name: "openai",
    apiKey: apiKey || undefined,
    baseURL: baseURL || "https://api.openai.com/v1",
  });
  try {
    const end = await generateText({
      model: server(name || "gpt-5-mini"),
      system: SYSTEM,
      prompt: question,
      tools: { calculate },
      stopWhen: stepCountIs(MOST_STEPS),
      maxRetries: 0, // Skep tries again
      abortSignal: AbortSignal.timeout(SECONDS * 1000),
    });
    const used = end.steps.flatMap((step) => step.toolCalls.map((call) => call.toolName));
    return { answer: end.text, tools: used };
  } catch (error) {
    // Skep tries 429 and 503 again by itself; what is wrong with the request stays wrong.
    const said = APICallError.isInstance(error) ? error.statusCode : undefined;
    if (!said) throw { status: 503, error: `the model's server gave no answer: ${error.message}` };
    const status = said >= 500 ? 503 : said === 429 ? 429 : 500;
    throw { status, error: `the model's server answered ${said}` };
  }
}

/** The body as JSON; throws what is to be answered. */
async function json(request) {
  const pieces = [];
  let bytes = 0;
  for await (const piece of request) {
    bytes += piece.length;
    if (bytes > MOST_BYTES) throw { status: 413, error: `more than ${MOST_BYTES} bytes` };
    pieces.push(piece);
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString() || "{}");
  } catch (error) {
    throw { status: 400, error: `the body is not JSON: ${error.message}` };
  }
}

const routes = {
  "GET /ping": async () => ({ status: "Healthy" }),

  "POST /ask": async (request) => {
    const message = (await json(request))?.message;
    if (typeof message !== "string") throw { status: 400, error: "`message` is missing, or is not a text" };
    return ask(message);
  },
};

const server = http.createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  let status = 200;
  let value;
  try {
    const route = routes[`${request.method} ${path}`];
    if (!route) throw { status: 404, error: `there are: ${Object.keys(routes).join(", ")}` };
    value = await route(request);
  } catch (thrown) {
    if (!thrown.status) console.error(thrown);
    status = thrown.status ?? 500;
    value = { error: thrown.error ?? "it did not work; see the log" };
  }
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value) + "\n");
});

server.keepAliveTimeout = 60_000; // Skep keeps connections for its calls
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on port ${server.address().port}`);
});
process.on("SIGTERM", () => {
  server.close(); // what is being answered is answered
  server.closeIdleConnections();
});
