// Verifies what a receiver heard with the official library: {key, body, headers} in, the payload out.
import { Webhook } from "standardwebhooks";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const { key, body, headers } = JSON.parse(text);
const payload = new Webhook(key).verify(body, headers);
let refused = false;
try {
  new Webhook(key).verify(`${body} `, headers);
} catch {
  refused = true;
}
console.log(JSON.stringify({ payload, refused }));
