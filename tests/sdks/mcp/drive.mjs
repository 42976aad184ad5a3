// What the client half of the conformance suite runs: its server becomes a server of Skep's, and is used through a door
// of Skep's by a client on the official SDK. The suite gives the server's URL as the last argument.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { SKEP_URL, SKEP_KEY, WAY, MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_CONTEXT, MCP_CONFORMANCE_PROTOCOL_VERSION } = process.env;
const upstream = process.argv.at(-1).replace("localhost", "127.0.0.1");
const scenario = MCP_CONFORMANCE_SCENARIO ?? "";
const name = `s-${process.pid}`;
const headers = { "skep-api-key": SKEP_KEY, "content-type": "application/json" };

const api = async (method, path, body) => {
  const answer = await fetch(`${SKEP_URL}/api/v1/mcp/servers/${name}${path}`, { method, headers, body: JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text === "" ? undefined : JSON.parse(text);
};

// What a tool is given, where the suite does not say it. One wants the schema of another, as it came.
const given = (tool, all) => {
  const whole = all.find((it) => it.inputSchema?.$defs !== undefined);
  if (tool.inputSchema?.properties?.schema !== undefined) return { schema: whole?.inputSchema };
  const values = { number: 2, integer: 2, boolean: true, string: "text" };
  const properties = Object.entries(tool.inputSchema?.properties ?? {});
  return Object.fromEntries(properties.filter(([, it]) => it.type in values).map(([key, it]) => [key, values[it.type]]));
};

const use = async (client) => {
  const door = WAY === "all" ? (tool) => `${name}__${tool}` : (tool) => tool;
  const { tools } = await client.listTools();
  const own = tools.filter((tool) => WAY !== "all" || tool.name.startsWith(`${name}__`));
  const calls = JSON.parse(MCP_CONFORMANCE_CONTEXT ?? "{}").toolCalls?.map((it) => ({ ...it, name: door(it.name) }));
  for (const call of calls ?? own.map((tool) => ({ name: tool.name, arguments: given(tool, own) }))) {
    // Some answers are such that the SDK refuses them: what the suite saw counts.
    await client.callTool(call).catch((error) => console.error(`${call.name}: ${error.message}`));
  }
  const abilities = client.getServerCapabilities() ?? {};
  if (abilities.resources !== undefined) {
    for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
  }
  if (abilities.prompts !== undefined) {
    for (const it of (await client.listPrompts()).prompts) await client.getPrompt({ name: it.name });
  }
};

const modern = MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";
await api("PUT", "", { url: upstream, timeout_s: 20 });
try {
  await api("POST", "/check");
  const { items } = await api("GET", "/tools");
  const tools = items.map((it) => ({ tool: it.name, pin: it.pin, class: "read" }));
  if (tools.length > 0) await api("POST", "/approvals", { tools });
  const client = new Client({ name: "skep-tests", version: "1.0.0" }, {
    capabilities: { elicitation: { form: { applyDefaults: true } } },
    versionNegotiation: { mode: modern ? "auto" : "legacy" },
  });
  client.setRequestHandler("elicitation/create", async () => ({
    action: "accept", content: scenario.startsWith("sep-2322") ? { confirmed: true } : {},
  }));
  const url = new URL(WAY === "all" ? `${SKEP_URL}/mcp` : `${SKEP_URL}/mcp/${name}`);
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers: { "skep-api-key": SKEP_KEY } } }));
  await use(client);
  await client.close();
} finally {
  await api("DELETE", "");
}
