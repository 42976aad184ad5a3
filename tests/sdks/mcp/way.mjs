// Shows a key to Skep for a client that shows none, and leaves all else as it is. Prints the port that it listens on.
import http from "node:http";

const target = new URL(process.env.TARGET);
const listener = http.createServer((request, response) => {
  const headers = { ...request.headers, "skep-api-key": process.env.KEY };
  const options = { host: target.hostname, port: target.port, path: target.pathname, method: request.method, headers };
  const passed = http.request(options, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on("error", () => response.destroy());
  response.on("close", () => passed.destroy());
  request.pipe(passed);
});
listener.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => console.log(listener.address().port));
