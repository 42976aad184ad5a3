// A server of tools on the official SDK, with what the conformance suite asks of one, in both eras. It listens on a port
// of this machine alone, which it prints. POST /change makes one tool another; POST /hits tells how often each was called.
import { randomUUID } from "node:crypto";
import http from "node:http";
import { NodeStreamableHTTPServerTransport, toNodeHandler } from "@modelcontextprotocol/node";
import {
  CLIENT_CAPABILITIES_META_KEY, McpServer, ResourceTemplate, acceptedContent, classifyInboundRequest, createMcpHandler, createRequestStateCodec,
  fromJsonSchema, inputRequired, isInitializeRequest,
} from "@modelcontextprotocol/server";
import * as z from "zod/v4";

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";
const KEY = process.env.MCP_KEY;
const hits = {};
let description = "Says what it is given";
const text = (it) => ({ type: "text", text: it });
const said = (it) => ({ content: [text(it)] });
const resource = (uri, it) => ({ type: "resource", resource: { uri, mimeType: "text/plain", text: it } });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const states = createRequestStateCodec({ key: crypto.getRandomValues(new Uint8Array(32)) });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const field = (type, more) => ({ type, ...more });
const schema = (properties, required) => ({ type: "object", properties, required });
const ask = (message, name) => inputRequired.elicit({ message, requestedSchema: schema({ [name]: field("string") }, [name]) });
const sample = () => inputRequired.createMessage({
  messages: [{ role: "user", content: text("What is the capital of France?") }], maxTokens: 100,
});
const answer = (ctx, key, name) => acceptedContent(ctx.mcpReq.inputResponses, key)?.[name];
const elicit = async (ctx, message, requestedSchema) => {
  const given = await ctx.mcpReq.send({ method: "elicitation/create", params: { message, requestedSchema } });
  return said(`Elicitation completed: action=${given.action}, content=${JSON.stringify(given.content ?? {})}`);
};
const titled = (all) => all.map(([value, title]) => ({ const: value, title }));
const three = [["value1", "First Option"], ["value2", "Second Option"], ["value3", "Third Option"]];
const options = ["option1", "option2", "option3"];

// Name, arguments (a zod object or a schema), what it does, hints.
const tools = (server) => [
  ["test_simple_text", {}, async () => said("This is a simple text response for testing."), { readOnlyHint: true }],
  ["test_image_content", {}, async () => ({ content: [image] })],
  ["test_audio_content", {}, async () => ({ content: [{ type: "audio", data: WAV, mimeType: "audio/wav" }] })],
  ["test_embedded_resource", {}, async () => ({ content: [resource("test://embedded-resource", "This is an embedded resource content.")] })],
  ["test_multiple_content_types", {}, async () => ({ content: [text("Multiple content types test:"), image, resource("test://mixed", "{}")] })],
  ["test_tool_with_logging", {}, async (_, ctx) => {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await ctx.mcpReq.notify({ method: "notifications/message", params: { level: "info", data } });
      await pause(20);
    }
    return said("logged");
  }],
  ["test_tool_with_progress", {}, async (_, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
      await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
      await pause(20);
    }
    return said(String(progressToken ?? "none"));
  }],
  ["test_error_handling", {}, async () => { throw new Error("This tool intentionally returns an error for testing"); }],
  ["test_sampling", { prompt: z.string() }, async ({ prompt }, ctx) => {
    const given = await ctx.mcpReq.send({
      method: "sampling/createMessage",
      params: { messages: [{ role: "user", content: text(prompt) }], maxTokens: 100 },
    });
    return said(`LLM response: ${given.content?.text}`);
  }],
  ["test_elicitation", { message: z.string() }, async ({ message }, ctx) =>
    elicit(ctx, message, schema({ response: field("string", { description: "User's response" }) }, ["response"]))],
  ["test_elicitation_sep1034_defaults", {}, async (_, ctx) => elicit(ctx, "Please review", schema({
    name: field("string", { default: "John Doe" }), age: field("integer", { default: 30 }),
    score: field("number", { default: 95.5 }), status: field("string", { enum: ["active", "inactive", "pending"], default: "active" }),
    verified: field("boolean", { default: true }),
  }, []))],
  ["test_elicitation_sep1330_enums", {}, async (_, ctx) => elicit(ctx, "Please choose", schema({
    untitledSingle: field("string", { enum: options }),
    titledSingle: field("string", { oneOf: titled(three) }),
    legacyEnum: field("string", { enum: ["opt1", "opt2", "opt3"], enumNames: ["Option One", "Option Two", "Option Three"] }),
    untitledMulti: field("array", { items: { type: "string", enum: options } }),
    titledMulti: field("array", { items: { anyOf: titled(three) } }),
  }, []))],
  ["test_x_mcp_header", { type: "object", properties: { region: field("string", { "x-mcp-header": "Region" }), level: field("integer") } },
    async ({ region }) => said(`region=${region ?? "none"}`)],
  ["test_streaming_elicitation", {}, async () => said("no requests of its own")],
  ["test_logging_tool", {}, async (_, ctx) => { await ctx.mcpReq.log("info", "ran"); return said("logged"); }],
  ["test_missing_capability", {}, async (_, ctx) =>
    ctx.mcpReq.inputResponses?.llm === undefined ? inputRequired({ inputRequests: { llm: sample() } }) : said("sampled")],
  ["test_input_required_result_elicitation", {}, async (_, ctx) => {
    const name = answer(ctx, "user_name", "name");
    return name === undefined ? inputRequired({ inputRequests: { user_name: ask("What is your name?", "name") } }) : said(`Hello, ${name}!`);
  }],
  ["test_input_required_result_sampling", {}, async (_, ctx) => {
    const given = ctx.mcpReq.inputResponses?.capital_question;
    return given === undefined ? inputRequired({ inputRequests: { capital_question: sample() } }) : said(JSON.stringify(given));
  }],
  ["test_input_required_result_list_roots", {}, async (_, ctx) => {
    const given = ctx.mcpReq.inputResponses?.client_roots;
    return given === undefined ? inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } }) : said(JSON.stringify(given));
  }],
  ["test_input_required_result_request_state", {}, async (_, ctx) => {
    if (answer(ctx, "confirm", "ok") !== undefined && ctx.mcpReq.requestState !== undefined) return said("state-ok");
    const confirm = inputRequired.elicit({ message: "Please confirm", requestedSchema: schema({ ok: field("boolean") }, ["ok"]) });
    return inputRequired({ inputRequests: { confirm }, requestState: await states.mint({ step: 1 }) });
  }],
  ["test_input_required_result_multiple_inputs", {}, async (_, ctx) => {
    if (ctx.mcpReq.inputResponses?.roots !== undefined) return said("all was given");
    const inputRequests = { user_name: ask("What is your name?", "name"), greeting: sample(), roots: inputRequired.listRoots() };
    return inputRequired({ inputRequests, requestState: await states.mint({ asked: 3 }) });
  }],
  ["test_input_required_result_multi_round", {}, async (_, ctx) => {
    const round = ctx.mcpReq.requestState?.()?.round ?? 0;
    if (round === 2) return said("both rounds are over");
    const step = round === 0 ? { step1: ask("What is your name?", "name") } : { step2: ask("Which color?", "color") };
    return inputRequired({ inputRequests: step, requestState: await states.mint({ round: round + 1, once: randomUUID() }) });
  }],
  ["test_input_required_result_tampered_state", {}, async (_, ctx) => {
    if (ctx.mcpReq.requestState?.() !== undefined) return said("the state is whole");
    const confirm = inputRequired.elicit({ message: "Please confirm", requestedSchema: schema({ ok: field("boolean") }, ["ok"]) });
    return inputRequired({ inputRequests: { confirm }, requestState: await states.mint({ once: randomUUID() }) });
  }],
  ["test_input_required_result_capabilities", {}, async (_, ctx) => {
    const can = ctx.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
    const inputRequests = {
      ...(can.elicitation && { user_name: ask("What is your name?", "name") }), ...(can.sampling && { greeting: sample() }),
    };
    const asks = ctx.mcpReq.inputResponses === undefined && Object.keys(inputRequests).length > 0;
    return asks ? inputRequired({ inputRequests }) : said("nothing more is wanted");
  }],
  ["echo", { text: z.string().optional() }, async ({ text: it }) => said(it ?? ""), { readOnlyHint: true }],
  ["wipe", {}, async () => said("all is gone"), { destructiveHint: true }],
].forEach(([name, args, does, annotations]) => {
  const inputSchema = args.type === "object" ? fromJsonSchema(args) : z.object(args);
  const about = name === "echo" ? description : `Tests ${name}`;
  const counted = (given, ctx) => { hits[name] = (hits[name] ?? 0) + 1; return does(given, ctx); };
  server.registerTool(name, { description: about, inputSchema, annotations }, counted);
});

const others = (server) => {
  const one = (uri, more) => async () => ({ contents: [{ uri, ...more }] });
  const put = (name, uri, mimeType, more) => server.registerResource(name, uri, { mimeType, description: name }, one(uri, { mimeType, ...more }));
  put("static-text", "test://static-text", "text/plain", { text: "This is the content of the static text resource." });
  put("static-binary", "test://static-binary", "image/png", { blob: PNG });
  put("watched-resource", "test://watched-resource", "text/plain", { text: "watched" });
  server.registerResource("template", new ResourceTemplate("test://template/{id}/data", { list: undefined }), { mimeType: "application/json" },
    async (uri, { id }) => ({ contents: [{ uri: uri.href, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true }) }] }));
  const user = (content) => ({ role: "user", content });
  server.registerPrompt("test_simple_prompt", { description: "Simple" }, async () => ({ messages: [user(text("This is a simple prompt for testing."))] }));
  server.registerPrompt("test_prompt_with_arguments", { description: "Arguments", argsSchema: z.object({ arg1: z.string(), arg2: z.string() }) },
    async ({ arg1, arg2 }) => ({ messages: [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))] }));
  server.registerPrompt("test_prompt_with_embedded_resource", { description: "Resource", argsSchema: z.object({ resourceUri: z.string() }) },
    async ({ resourceUri }) => ({ messages: [user(resource(resourceUri, "Embedded resource content for testing.")), user(text("Process it."))] }));
  server.registerPrompt("test_prompt_with_image", { description: "Image" }, async () => ({ messages: [user(image), user(text("Analyze it."))] }));
  server.registerPrompt("test_input_required_result_prompt", { description: "Asks first" }, async (ctx) => {
    const context = answer(ctx, "user_context", "context");
    if (context === undefined) return inputRequired({ inputRequests: { user_context: ask("Which context?", "context") } });
    return { messages: [user(text(`Use this context: ${context}`))] };
  });
  for (const method of ["resources/subscribe", "resources/unsubscribe", "logging/setLevel"]) {
    server.server.setRequestHandler(method, async () => ({}));
  }
  server.server.setRequestHandler("completion/complete", async () => ({ completion: { values: [], total: 0, hasMore: false } }));
};

const make = () => {
  const list = { listChanged: true };
  const capabilities = { tools: list, resources: { ...list, subscribe: true }, prompts: list, logging: {}, completions: {} };
  const server = new McpServer({ name: "skep-test", version: "1.0.0" }, { capabilities, requestState: { verify: states.verify } });
  tools(server);
  others(server);
  return server;
};

const modern = toNodeHandler(createMcpHandler(make));
const sessions = new Map();
const here = (host) => /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(host ?? "");

const refuse = (response, status, code, message) => {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", error: { code, message }, id: null }));
};

const serve = async (request, response, body) => {
  if (request.method === "POST") {
    const inbound = classifyInboundRequest({
      httpMethod: "POST", protocolVersionHeader: request.headers["mcp-protocol-version"],
      mcpMethodHeader: request.headers["mcp-method"], body,
    });
    if (inbound.kind !== "legacy") return modern(request, response, body);
  }
  const id = request.headers["mcp-session-id"];
  if (id === undefined && isInitializeRequest(body)) {
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID, onsessioninitialized: (made) => sessions.set(made, transport),
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await make().connect(transport);
    return transport.handleRequest(request, response, body);
  }
  const transport = sessions.get(id);
  if (transport === undefined) return refuse(response, id === undefined ? 400 : 404, -32000, "no session");
  return transport.handleRequest(request, response, body);
};

const listener = http.createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  if (request.url === "/change") description = "Says something else from now on";
  if (request.url === "/change" || request.url === "/hits") return response.end(JSON.stringify(hits));
  if (!here(request.headers.host)) return refuse(response, 403, -32000, "a foreign host");
  if (KEY !== undefined && request.headers.authorization !== `Bearer ${KEY}`) return refuse(response, 401, -32000, "no key");
  try {
    const body = pieces.length === 0 ? undefined : JSON.parse(Buffer.concat(pieces).toString());
    await serve(request, response, body);
  } catch {
    if (!response.headersSent) refuse(response, 400, -32700, "Parse error");
  }
});
listener.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => console.log(listener.address().port));
