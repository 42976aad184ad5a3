// A provider of the tests: oidc-provider with its own pages, in memory. It says its port as a line of JSON, hears the
// clients as one, and lives as long as its standard input.
//
// The login is the account: `ada@example.com` has that address; `unverified:…` has one that is not verified;
// `nobody` has none.
import http from 'node:http';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [, , modules] = process.argv;
const entry = pathToFileURL(`${modules}/oidc-provider/lib/index.js`);
const { Provider } = await import(entry.href);

const secret = () => randomBytes(24).toString('hex');
const server = http.createServer();
const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
});

function account(id) {
  const verified = !id.startsWith('unverified:');
  const email = id.replace('unverified:', '');
  const claims = { sub: id, name: 'Ada L.' };
  return email.includes('@') ? { ...claims, email, email_verified: verified } : claims;
}

lines.once('line', (line) => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: JSON.parse(line).clients,
    cookies: { keys: [secret()] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => account(id) }),
    pkce: { required: () => true },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  });
  server.on('request', provider.callback());
  process.stdout.write('ready\n');
});
