// Run it in Skep from this folder: skep deploy words --command "node agent.mjs"
//
// An agent for user interfaces, of plain Node.js: it says back what it hears, word by word, as events of AG-UI, and counts.
// At /greet it greets. Try it with: skep call words /greet -d '{"name": "you"}'

import http from "node:http";

const messageId = "words";

// The events of a run. Where it begins and ends is known to Skep.
function* events(words) {
  yield { type: "TEXT_MESSAGE_START", messageId, role: "assistant" };
  for (const [at, word] of words.entries()) {
    yield { type: "TEXT_MESSAGE_CONTENT", messageId, delta: at === 0 ? word : ` ${word}` };
    yield { type: "STATE_DELTA", delta: [{ op: "add", path: "/words", value: at + 1 }] };
  }
  yield { type: "TEXT_MESSAGE_END", messageId };
  yield { type: "RUN_FINISHED", threadId: "", runId: "" };
}

async function heard(request) {
  let text = "";
  for await (const piece of request) text += piece;
  return JSON.parse(text || "{}");
}

const server = http.createServer(async (request, response) => {
  try {
    if (request.url === "/ping") return response.end("{}");
    const said = await heard(request);
    if (request.url === "/greet") {
      response.setHeader("Content-Type", "application/json");
      return response.end(JSON.stringify({ greeting: `hello, ${said.name ?? "world"}` }));
    }
    response.setHeader("Content-Type", "text/event-stream");
    for (const event of events(said.input.split(" "))) response.write(`data: ${JSON.stringify(event)}\n\n`);
    response.end();
  } catch (error) {
    console.error(error);
    response.statusCode = 400;
    response.end();
  }
});

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
