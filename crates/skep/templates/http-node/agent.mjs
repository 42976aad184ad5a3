// An agent in Node: the standard library only. Skep gives it $PORT; it listens there, answers HTTP,
// and ends when it gets SIGTERM.

import http from "node:http";

const MOST_BYTES = 1 << 20;

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

  "POST /greet": async (request) => {
    const name = (await json(request))?.name ?? "world";
    console.log(`greeting ${name}, call ${request.headers["skep-call-id"]}`);
    return { greeting: `hello, ${name}` };
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
