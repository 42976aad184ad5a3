// What Anthropic's SDK for Node.js does with an endpoint: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, and a model as a word.
//
// The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name
// say what it does. Prints one line of what was checked; fails at the first that is not so.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import Anthropic from '@anthropic-ai/sdk';

const MODEL = process.argv[2] ?? 'claude-sonnet-4-5';
// Failures are counted by the model's name: no other run has this one.
const RUN = randomBytes(6).toString('hex');
const TOOLS = [{
  name: 'weather',
  description: 'The weather in a city',
  input_schema: { type: 'object', properties: { city: { type: 'string' } } },
}];
const SCHEMA = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};

const client = new Anthropic();
const quick = new Anthropic({ maxRetries: 0 });
const model = (...options) => [MODEL, ...options, `as=${RUN}`].join('+');
const ask = (text) => [{ role: 'user', content: text }];
const create = (using, name, text = 'x', rest = {}) =>
  using.messages.create({ model: name, max_tokens: 1000, messages: ask(text), ...rest });
const stream = (name, text = 'x', rest = {}) =>
  client.messages.stream({ model: name, max_tokens: 1000, messages: ask(text), ...rest });

async function fails(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error?.message}`);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

const checks = {
  async chat() {
    const answer = await create(client, model(), 'one two three', { system: 'short' });
    assert.equal(answer.content[0].text, 'one two three');
    assert.equal(answer.stop_reason, 'end_turn');
    // Eighteen bytes are five tokens, three words are three.
    assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [5, 3]);
    const short = await create(client, model(), 'one two three', { max_tokens: 2 });
    assert.deepEqual([short.stop_reason, short.usage.output_tokens], ['max_tokens', 2]);
  },

  async usage() {
    const { usage } = await create(client, model('prompt=1000', 'cached=600', 'written=100', 'tokens=50'));
    assert.equal(usage.input_tokens, 300);
    assert.equal(usage.cache_read_input_tokens, 600);
    assert.equal(usage.cache_creation_input_tokens, 100);
    assert.equal(usage.output_tokens, 50);
  },

  async stream() {
    let text = '';
    const streaming = stream(model('tokens=20', 'say=a%20b', 'think=3', 'prompt=40'));
    streaming.on('text', (delta) => { text += delta; });
    const final = await streaming.finalMessage();
    assert.equal(text, Array(10).fill('a b').join(' '));
    assert.deepEqual(final.content.map((block) => block.type), ['thinking', 'text']);
    assert.equal(final.content[0].thinking, 'thought-1 thought-2 thought-3 ');
    assert.ok(final.content[0].signature, 'thoughts without a signature');
    assert.deepEqual([final.usage.input_tokens, final.usage.output_tokens], [40, 23]);
    const kinds = [];
    for await (const event of await create(client, model(), 'a b', { stream: true })) kinds.push(event.type);
    assert.equal(kinds[0], 'message_start');
    assert.deepEqual(kinds.slice(-2), ['message_delta', 'message_stop']);
  },

  async tools() {
    const name = model('tool=weather');
    const first = await create(client, name, 'x', { tools: TOOLS });
    assert.equal(first.stop_reason, 'tool_use');
    const [call] = first.content;
    assert.equal(call.name, 'weather');
    assert.deepEqual(call.input, { city: 'Paris' });
    const result = { type: 'tool_result', tool_use_id: call.id, content: 'sunny in Paris' };
    const messages = [
      ...ask('x'),
      { role: 'assistant', content: first.content },
      { role: 'user', content: [result] },
    ];
    const last = await create(client, name, 'x', { messages, tools: TOOLS });
    assert.equal(last.content[0].text, 'sunny in Paris');
    const final = await stream(name, 'x', { tools: TOOLS }).finalMessage();
    assert.deepEqual(final.content[0].input, { city: 'Paris' });
  },

  async json_mode() {
    const output_config = { format: { type: 'json_schema', schema: SCHEMA } };
    const answer = await create(client, model(), 'x', { output_config });
    assert.deepEqual(JSON.parse(answer.content[0].text), { name: 'text', age: 1 });
  },

  async count_tokens() {
    const counted = await client.messages.countTokens({ model: model(), messages: ask('one two three') });
    assert.equal(counted.input_tokens, 4);
  },

  async models() {
    const list = await client.models.list();
    assert.ok(list.data.length > 0, 'no models');
  },

  async errors() {
    const wrong = new Anthropic({ apiKey: 'sk-wrong-0123456789', maxRetries: 0 });
    const denied = await fails(Anthropic.AuthenticationError, () => create(wrong, model()));
    assert.equal(denied.status, 401);
    const missing = await fails(Anthropic.NotFoundError, () => create(client, model('fail=404')));
    assert.equal(missing.error.error.type, 'not_found_error');
    const broken = await fails(Anthropic.InternalServerError, () => create(quick, model('fail=500')));
    assert.equal(broken.error.error.type, 'api_error');
    const busy = await fails(Anthropic.APIError, () => create(quick, model('fail=529')));
    assert.deepEqual([busy.status, busy.error.error.type], [529, 'overloaded_error']);
    const limited = await fails(Anthropic.RateLimitError, () => create(quick, model('fail=429', 'after=9')));
    assert.equal(limited.headers.get('retry-after'), '9');
    assert.ok(limited.requestID, 'no request id');
  },

  async retries() {
    const started = performance.now();
    const answer = await create(client, model('fail=429x1', 'after=1', 'say=again'));
    assert.equal(answer.content[0].text, 'again');
    // Left to itself it waits half a second at most.
    assert.ok(performance.now() - started >= 900, 'did not wait as it was told to');
  },

  async cut() {
    let text = '';
    await fails(Error, async () => {
      const name = model('tokens=10', 'cut=3', 'say=a');
      for await (const event of await create(quick, name, 'x', { stream: true })) {
        if (event.type === 'content_block_delta') text += event.delta.text;
      }
    });
    assert.equal(text, 'a a a ');
    await fails(Anthropic.APIError, async () => {
      for await (const _ of await create(quick, model('error=1'), 'a b', { stream: true }));
    });
  },

  async in_parallel() {
    const both = await Promise.all([create(client, model('say=1')), create(client, model('say=2'))]);
    assert.deepEqual(both.map((it) => it.content[0].text), ['1', '2']);
    // Who leaves a stream leaves its connection.
    const stalled = await create(client, model('stall'), 'x', { stream: true });
    stalled.controller.abort();
    for await (const _ of stalled) assert.fail('it stalls');
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (error) {
    console.error(`${name}: ${error?.name}: ${error?.message}`);
    process.exit(1);
  }
}
console.log(JSON.stringify({ sdk: '@anthropic-ai/sdk', checked: Object.keys(checks) }));
