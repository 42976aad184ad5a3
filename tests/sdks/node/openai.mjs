// What OpenAI's SDK for Node.js does with an endpoint: OPENAI_BASE_URL, OPENAI_API_KEY, and a model as a word.
//
// The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name
// say what it does. Prints one line of what was checked; fails at the first that is not so.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import OpenAI from 'openai';

const MODEL = process.argv[2] ?? 'gpt-4o-mini';
const EMBEDDING = process.argv[3] ?? 'text-embedding-3-small';
// Failures are counted by the model's name: no other run has this one.
const RUN = randomBytes(6).toString('hex');
const TOOLS = [{
  type: 'function',
  function: {
    name: 'weather',
    description: 'The weather in a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } } },
  },
}];
const SCHEMA = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};

const client = new OpenAI();
const quick = new OpenAI({ maxRetries: 0 });
const model = (...options) => [MODEL, ...options, `as=${RUN}`].join('+');
const ask = (text) => [{ role: 'user', content: text }];
const create = (using, name, text = 'x', rest = {}) =>
  using.chat.completions.create({ model: name, messages: ask(text), ...rest });

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
    const answer = await create(client, model(), 'one two three');
    assert.equal(answer.choices[0].message.content, 'one two three');
    assert.equal(answer.choices[0].finish_reason, 'stop');
    // Thirteen bytes are four tokens, three words are three.
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.deepEqual([prompt_tokens, completion_tokens, total_tokens], [4, 3, 7]);
    const many = await create(client, model('say=a'), 'x', { n: 3 });
    assert.deepEqual(many.choices.map((it) => it.message.content), ['a', 'a', 'a']);
  },

  async usage() {
    const { usage } = await create(client, model('prompt=1000', 'cached=600', 'tokens=50', 'think=7'));
    assert.equal(usage.prompt_tokens, 1000);
    assert.equal(usage.prompt_tokens_details.cached_tokens, 600);
    assert.equal(usage.completion_tokens, 57);
    assert.equal(usage.completion_tokens_details.reasoning_tokens, 7);
  },

  async stream() {
    const options = { stream: true, stream_options: { include_usage: true } };
    let text = '';
    let last;
    for await (const chunk of await create(client, model('tokens=20', 'say=a%20b'), 'x', options)) {
      text += chunk.choices[0]?.delta.content ?? '';
      last = chunk;
    }
    assert.equal(text, Array(10).fill('a b').join(' '));
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, 20);
    for await (const chunk of await create(client, model(), 'x', { stream: true })) {
      assert.ok(chunk.usage == null, 'usage was told without being asked for');
    }
  },

  async tools() {
    const name = model('tool=weather');
    const first = await create(client, name, 'x', { tools: TOOLS });
    assert.equal(first.choices[0].finish_reason, 'tool_calls');
    const { message } = first.choices[0];
    const [call] = message.tool_calls;
    assert.equal(call.function.name, 'weather');
    assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' });
    const result = { role: 'tool', tool_call_id: call.id, content: 'sunny in Paris' };
    const last = await client.chat.completions.create({ model: name, messages: [...ask('x'), message, result] });
    assert.equal(last.choices[0].message.content, 'sunny in Paris');
    const streaming = client.chat.completions.stream({ model: name, messages: ask('x'), tools: TOOLS });
    const final = await streaming.finalChatCompletion();
    assert.deepEqual(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments), { city: 'Paris' });
  },

  async json_mode() {
    const plain = await create(client, model(), 'hello', { response_format: { type: 'json_object' } });
    assert.deepEqual(JSON.parse(plain.choices[0].message.content), { answer: 'hello' });
    const response_format = {
      type: 'json_schema',
      json_schema: { name: 'person', strict: true, schema: SCHEMA },
    };
    const strict = await create(client, model(), 'hello', { response_format });
    assert.deepEqual(JSON.parse(strict.choices[0].message.content), { name: 'text', age: 1 });
  },

  async responses() {
    const answer = await client.responses.create({ model: model(), input: 'one two', instructions: 'be short' });
    assert.deepEqual([answer.status, answer.output_text], ['completed', 'one two']);
    assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [4, 2]);
    const kinds = [];
    let text = '';
    let last;
    const name = model('tokens=5', 'think=2');
    for await (const event of await client.responses.create({ model: name, input: 'a b', stream: true })) {
      kinds.push(event.type);
      if (event.type === 'response.output_text.delta') text += event.delta;
      last = event;
    }
    assert.equal(text, 'a b a b a');
    assert.deepEqual([...kinds.slice(0, 2), kinds.at(-1)],
      ['response.created', 'response.in_progress', 'response.completed']);
    assert.equal(last.response.usage.output_tokens_details.reasoning_tokens, 2);
    const calling = await client.responses.stream({ model: model('tool=weather'), input: 'x' }).finalResponse();
    const call = calling.output.find((item) => item.type === 'function_call');
    assert.deepEqual(JSON.parse(call.arguments), { city: 'Paris' });
    const result = { type: 'function_call_output', call_id: call.call_id, output: 'rain' };
    const { type, id, call_id, name: called, arguments: given } = call;
    const input = [...ask('x'), { type, id, call_id, name: called, arguments: given }, result];
    const after = await client.responses.create({ model: model('tool=weather'), input });
    assert.equal(after.output_text, 'rain');
  },

  async embeddings() {
    // The SDK asks for base64 of its own accord.
    const request = { model: `${EMBEDDING}+as=${RUN}`, input: ['a', 'b'], dimensions: 8 };
    const packed = await client.embeddings.create(request);
    const plain = await client.embeddings.create({ ...request, encoding_format: 'float' });
    assert.equal(packed.data.length, 2);
    packed.data.forEach((one, at) => {
      assert.equal(one.embedding.length, 8);
      one.embedding.forEach((it, place) => {
        assert.ok(Math.abs(it - plain.data[at].embedding[place]) < 1e-6, 'two vectors of one text');
      });
    });
    assert.equal(packed.usage.total_tokens, 1);
  },

  async models() {
    const list = await client.models.list();
    assert.ok(list.data.length > 0, 'no models');
  },

  async errors() {
    const wrong = new OpenAI({ apiKey: 'sk-wrong-0123456789', maxRetries: 0 });
    const denied = await fails(OpenAI.AuthenticationError, () => create(wrong, model()));
    assert.equal(denied.status, 401);
    const missing = await fails(OpenAI.NotFoundError, () => create(client, model('fail=404')));
    assert.equal(missing.code, 'model_not_found');
    const broken = await fails(OpenAI.InternalServerError, () => create(quick, model('fail=500')));
    assert.equal(broken.type, 'server_error');
    const limited = await fails(OpenAI.RateLimitError, () => create(quick, model('fail=429', 'after=9')));
    assert.equal(limited.code, 'rate_limit_exceeded');
    assert.equal(limited.headers.get('retry-after'), '9');
  },

  async retries() {
    const started = performance.now();
    const answer = await create(client, model('fail=429x1', 'after=1', 'say=again'));
    assert.equal(answer.choices[0].message.content, 'again');
    // Left to itself it waits half a second at most.
    assert.ok(performance.now() - started >= 900, 'did not wait as it was told to');
  },

  async cut() {
    let text = '';
    await fails(Error, async () => {
      const name = model('tokens=10', 'cut=3', 'say=a');
      for await (const chunk of await create(quick, name, 'x', { stream: true })) {
        text += chunk.choices[0].delta.content ?? '';
      }
    });
    assert.equal(text, 'a a a ');
    await fails(OpenAI.APIError, async () => {
      for await (const _ of await create(quick, model('error=1'), 'a b', { stream: true }));
    });
  },

  async in_parallel() {
    const both = await Promise.all([create(client, model('say=1')), create(client, model('say=2'))]);
    assert.deepEqual(both.map((it) => it.choices[0].message.content), ['1', '2']);
    // Who leaves a stream leaves its connection.
    const stream = await create(client, model('stall'), 'x', { stream: true });
    stream.controller.abort();
    for await (const _ of stream) assert.fail('it stalls');
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
console.log(JSON.stringify({ sdk: 'openai', checked: Object.keys(checks) }));
