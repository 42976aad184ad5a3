// What Google's SDK for Node.js does with an endpoint: GOOGLE_GEMINI_BASE_URL, GEMINI_API_KEY, and a model as a word.
//
// The endpoint is the scripted upstream of the tests, or something that stands before it: options in the model's name
// say what it does. Prints one line of what was checked; fails at the first that is not so.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { ApiError, FinishReason, GoogleGenAI } from '@google/genai';

const MODEL = process.argv[2] ?? 'gemini-2.5-flash';
const EMBEDDING = process.argv[3] ?? 'gemini-embedding-001';
// Failures are counted by the model's name: no other run has this one.
const RUN = randomBytes(6).toString('hex');
const TOOLS = [{
  functionDeclarations: [{
    name: 'weather',
    description: 'The weather in a city',
    parametersJsonSchema: { type: 'object', properties: { city: { type: 'string' } } },
  }],
}];
const SCHEMA = { type: 'object', properties: { name: { type: 'string' }, age: { type: 'integer' } } };

const client = new GoogleGenAI({});
const model = (...options) => [MODEL, ...options, `as=${RUN}`].join('+');
const create = (name, contents = 'x', config = {}, using = client) =>
  using.models.generateContent({ model: name, contents, config });
const stream = (name, contents = 'x', config = {}) =>
  client.models.generateContentStream({ model: name, contents, config });

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
    const answer = await create(model(), 'one two three', { systemInstruction: 'short' });
    assert.equal(answer.text, 'one two three');
    assert.equal(answer.candidates[0].finishReason, FinishReason.STOP);
    // Eighteen bytes are five tokens, three words are three.
    const { promptTokenCount, candidatesTokenCount, totalTokenCount } = answer.usageMetadata;
    assert.deepEqual([promptTokenCount, candidatesTokenCount, totalTokenCount], [5, 3, 8]);
  },

  async usage() {
    const answer = await create(model('prompt=1000', 'cached=600', 'tokens=50', 'think=7'));
    const used = answer.usageMetadata;
    assert.deepEqual([used.promptTokenCount, used.cachedContentTokenCount], [1000, 600]);
    assert.deepEqual([used.candidatesTokenCount, used.thoughtsTokenCount, used.totalTokenCount], [50, 7, 1057]);
  },

  async stream() {
    const chunks = [];
    for await (const chunk of await stream(model('tokens=20', 'say=a%20b'))) chunks.push(chunk);
    assert.equal(chunks.map((chunk) => chunk.text).join(''), Array(10).fill('a b').join(' '));
    assert.equal(chunks.length, 20);
    assert.equal(chunks.at(-1).usageMetadata.candidatesTokenCount, 20);
    const thought = [];
    for await (const chunk of await stream(model('think=2'), 'a')) {
      thought.push(Boolean(chunk.candidates[0].content.parts[0].thought));
    }
    assert.deepEqual(thought, [true, true, false]);
  },

  async tools() {
    const name = model('tool=weather');
    const first = await create(name, 'x', { tools: TOOLS });
    const [call] = first.functionCalls;
    assert.equal(call.name, 'weather');
    assert.deepEqual(call.args, { city: 'Paris' });
    const result = { functionResponse: { name: 'weather', response: { result: 'sunny in Paris' } } };
    const contents = [
      { role: 'user', parts: [{ text: 'x' }] },
      first.candidates[0].content,
      { role: 'user', parts: [result] },
    ];
    const last = await create(name, contents, { tools: TOOLS });
    assert.equal(last.text, 'sunny in Paris');
  },

  async json_mode() {
    const responseMimeType = 'application/json';
    const plain = await create(model(), 'hello', { responseMimeType });
    assert.deepEqual(JSON.parse(plain.text), { answer: 'hello' });
    const strict = await create(model(), 'x', { responseMimeType, responseJsonSchema: SCHEMA });
    assert.deepEqual(JSON.parse(strict.text), { name: 'text', age: 1 });
  },

  async count_tokens() {
    const counted = await client.models.countTokens({ model: model(), contents: 'one two three' });
    assert.equal(counted.totalTokens, 4);
  },

  async embeddings() {
    const name = `${EMBEDDING}+as=${RUN}`;
    const config = { outputDimensionality: 8 };
    const both = await client.models.embedContent({ model: name, contents: ['a', 'b'], config });
    const again = await client.models.embedContent({ model: name, contents: 'a', config });
    assert.deepEqual(both.embeddings.map((it) => it.values.length), [8, 8]);
    assert.deepEqual(both.embeddings[0].values, again.embeddings[0].values);
  },

  async models() {
    const list = await client.models.list();
    assert.ok(list.page.length > 0, 'no models');
  },

  async errors() {
    const wrong = new GoogleGenAI({ apiKey: 'wrong-0123456789' });
    const denied = await fails(ApiError, () => create(model(), 'x', {}, wrong));
    // Google itself calls a key that it does not know a wrong argument.
    assert.ok([400, 401].includes(denied.status), String(denied.status));
    for (const status of [404, 429, 500]) {
      const error = await fails(ApiError, () => create(model(`fail=${status}`, 'after=9')));
      assert.equal(error.status, status);
    }
    const broken = await fails(ApiError, async () => {
      for await (const _ of await stream(model('fail=503')));
    });
    assert.equal(broken.status, 503);
  },

  async retries() {
    const retryOptions = { attempts: 3, initialDelay: 0.01, jitter: 0 };
    const patient = new GoogleGenAI({ httpOptions: { retryOptions } });
    const answer = await create(model('fail=429x2', 'say=again'), 'x', {}, patient);
    assert.equal(answer.text, 'again');
  },

  async cut() {
    let text = '';
    await fails(Error, async () => {
      for await (const chunk of await stream(model('tokens=10', 'cut=3', 'say=a'))) text += chunk.text;
    });
    assert.equal(text, 'a a a ');
  },

  async in_parallel() {
    const both = await Promise.all([create(model('say=1')), create(model('say=2'))]);
    assert.deepEqual(both.map((it) => it.text), ['1', '2']);
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
console.log(JSON.stringify({ sdk: '@google/genai', checked: Object.keys(checks) }));
