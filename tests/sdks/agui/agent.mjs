// The agent of the test: the last word of a person names a shape, and it says what stands there.

import http from "node:http";

import { shapes } from "./shapes.mjs";

// What was let through, and who waits for it: gates of a conversation.
const gates = new Map();

function gate(name) {
  if (!gates.has(name)) {
    const it = {};
    it.opened = new Promise((open) => (it.open = open));
    gates.set(name, it);
  }
  return gates.get(name);
}

// What a person said last, in the words of each protocol.
function asked(body) {
  const last = (all) => all?.findLast?.((it) => it.role === "user");
  const said = body.prompt ?? (typeof body.input === "string" ? body.input : (last(body.input) ?? last(body.messages))?.content);
  return typeof said === "string" ? said : said.map((part) => part.text ?? "").join("");
}

// One after the other: what is to be written, a gate to wait at, an end in the middle.
async function say(response, says, thread) {
  for (const it of says) {
    if (it.gate) await gate(`${thread}/${it.gate}`).opened;
    else if (it.die) process.exit(1);
    else if (it.cut) return response.destroy();
    else if (typeof it === "string" || it instanceof Uint8Array) response.write(it);
    else if (it.bytewise) for (const byte of Buffer.from(it.bytewise)) response.write(Uint8Array.of(byte));
    else response.write(`data: ${JSON.stringify(it)}\n\n`);
  }
  response.end();
}

async function answer(request, response) {
  if (request.url === "/ping") return response.end("{}");
  if (request.url.startsWith("/open/")) {
    gate(request.url.slice("/open/".length)).open();
    return response.end("{}");
  }
  let text = "";
  for await (const piece of request) text += piece;
  const body = JSON.parse(text);
  const shape = shapes[asked(body)];
  const attempt = Number(request.headers["skep-attempt"]);
  const says = typeof shape.says === "function" ? shape.says({ body, attempt }) : shape.says;
  response.writeHead(shape.status ?? 200, { "Content-Type": shape.type ?? "text/event-stream" });
  return say(response, says, body.threadId);
}

const server = http.createServer((request, response) => {
  response.on("error", () => {});
  answer(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
