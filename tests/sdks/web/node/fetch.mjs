// Fetches what it is told, by the proxy of its environment: Node.js 24 does that by itself when NODE_USE_ENV_PROXY says so.
import { EnvHttpProxyAgent, setGlobalDispatcher } from "undici";

if (process.env.NODE_USE_ENV_PROXY !== "1") throw new Error("it was not told to");
setGlobalDispatcher(new EnvHttpProxyAgent());
const [url, key] = process.argv.slice(-2);
const answer = await fetch(url, { headers: { authorization: `Bearer ${key}` } });
console.log(answer.status, await answer.text());
