// What OpenAI's SDK for Node.js does with agents that answer as models: OPENAI_BASE_URL, OPENAI_API_KEY, and where the agent of
// the examples that A2A's conformance kit asks is reached: AGENT_URL.
//
// Prints one line of what was checked; fails at the first that is not so.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import OpenAI from 'openai';

const model = 'agent/conformance';
const client = new OpenAI();
const ask = (text) => [{ role: 'user', content: text }];
const held = () => `held-${randomBytes(4).toString('hex')}`;

async function opens(name) {
  const headers = { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
  const answer = await fetch(`${process.env.AGENT_URL}/open/${name}`, { headers });
  assert.ok(answer.ok);
  await answer.text();
}

const checks = {
  async models() {
    const all = [];
    for await (const one of client.models.list()) all.push(one.id);
    assert.deepEqual(all, [model]);
  },

  async chat() {
    const answer = await client.chat.completions.create({ model, messages: ask('tck-complete-task') });
    assert.equal(answer.choices[0].message.content, 'Hello from TCK');
  },

  async chatAsItComes() {
    const stream = client.chat.completions.stream({ model, messages: ask('tck-stream-artifact-chunked') });
    const pieces = [];
    stream.on('content', (delta) => pieces.push(delta));
    assert.equal(await stream.finalContent(), 'chunk-1 chunk-2');
    assert.deepEqual(pieces.filter((it) => it !== ''), ['chunk-1 ', 'chunk-2']);
  },

  async chatThatFails() {
    const failing = () => client.chat.completions.create({ model, messages: ask('tck-task-failure') });
    await assert.rejects(failing, (error) => error instanceof OpenAI.InternalServerError && error.code === 'agent_failed');
  },

  async response() {
    const stream = client.responses.stream({ model, input: 'tck-stream-artifact-chunked' });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.equal((await stream.finalResponse()).output_text, 'chunk-1 chunk-2');
    assert.equal(kinds.at(-1), 'response.completed');
  },

  async responseThatIsComeBackTo() {
    const name = held();
    const begun = await client.responses.create({ model, input: name, background: true });
    let seen;
    for await (const event of await client.responses.retrieve(begun.id, { stream: true })) {
      if (event.type === 'response.output_text.done') {
        seen = event.sequence_number;
        break;
      }
    }
    await opens(name);
    let text = '';
    let last;
    for await (const event of await client.responses.retrieve(begun.id, { stream: true, starting_after: seen })) {
      if (event.type === 'response.output_text.delta') text += event.delta;
      last = event;
    }
    assert.equal(text, 'done');
    assert.equal(last.response.status, 'completed');
  },

  async responseThatIsCancelled() {
    const begun = await client.responses.create({ model, input: held(), background: true });
    assert.equal((await client.responses.cancel(begun.id)).status, 'cancelled');
  },

  async aPersonIsAsked() {
    const asked = await client.responses.create({ model, input: 'tck-input-required' });
    assert.equal(asked.output_text, 'Please provide input');
    const answered = await client.responses.create({ model, input: 'Ada', previous_response_id: asked.id });
    assert.equal(answered.output_text, 'Got "Ada"');
  },
};

for (const check of Object.values(checks)) await check();
console.log(JSON.stringify(Object.keys(checks)));
