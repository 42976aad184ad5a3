// The agent of the tests. What it waits for is opened by a request, and it tells what it did.

import http from "node:http";

const gates = new Map();
const counted = new Map();

function gate(name) {
  if (!gates.has(name)) {
    const it = {};
    it.opened = new Promise((open) => (it.open = open));
    gates.set(name, it);
  }
  return gates.get(name);
}

const ROUTES = {
  "/ping": () => ({}),
  "/open": ({ query }) => {
    gate(query.get("gate")).open();
    return {};
  },
  "/counted": ({ query }) => counted.get(query.get("key")) ?? 0,
  "/count": ({ headers, text }) => {
    const key = headers["idempotency-key"];
    counted.set(key, (counted.get(key) ?? 0) + 1);
    return { call: headers["skep-call-id"], attempt: Number(headers["skep-attempt"]), key, trace: headers.traceparent, said: JSON.parse(text) };
  },
  "/hold": async ({ query }) => {
    await gate(query.get("gate")).opened;
    return "held";
  },
  "/fail": ({ response }) => {
    response.statusCode = 500;
    return { status: 500 };
  },
  "/refuse": ({ response }) => {
    response.statusCode = 404;
    response.setHeader("Content-Type", "application/problem+json");
    return { status: 404, detail: "there is no such thing" };
  },
  "/large": ({ query }) => "x".repeat(Number(query.get("bytes"))),
  // Events of which each waits for its gate; the second has an id of its own when it is wished for.
  "/steps": async ({ query, response }) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (let number = 1; number <= Number(query.get("n")); number++) {
      await gate(`${query.get("run")}-${number}`).opened;
      const own = number === 2 && query.has("own") ? "id: mine\nevent: own\n" : "";
      response.write(`${own}data: {"step":${number}}\n\n`);
    }
  },
  // Dies in the middle, and says something else the next time.
  "/differs": async ({ query, headers, response }) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`data: ${headers["skep-attempt"]}\n\n`);
    await gate(query.get("gate")).opened;
    if (headers["skep-attempt"] === "1") response.destroy();
  },
};

async function answer(request, response) {
  const url = new URL(request.url, "http://agent");
  let text = "";
  for await (const piece of request) text += piece;
  const of = { query: url.searchParams, headers: request.headers, text, response };
  const route = ROUTES[url.pathname];
  const said = route ? await route(of) : { path: url.pathname, method: request.method };
  if (response.headersSent || response.destroyed) return response.end();
  if (typeof said === "string") return response.setHeader("Content-Type", "text/plain").end(said);
  if (!response.hasHeader("Content-Type")) response.setHeader("Content-Type", "application/json");
  return response.end(JSON.stringify(said));
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
