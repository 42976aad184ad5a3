// What Skep answers, asked by the official JavaScript client of A2A: over JSON-RPC and HTTP+JSON, in 1.0 and 0.3.
//
// The agent is examples/agents/conformance: the beginning of a message's id says what becomes of it, and its gates say when.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { Role, TaskState } from "@a2a-js/sdk";
import {
  ClientFactory,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
  RestTransportFactory,
  createAuthenticatingFetchWithRetry,
} from "@a2a-js/sdk/client";
import {
  TaskNotCancelableError,
  TaskNotFoundError,
  UnsupportedOperationError,
} from "@a2a-js/sdk/errors";

const AGENT = "conformance";
const SERVER = process.env.SKEP_SERVER;
const MISSING = "run_01h455vb4pex5vsknk084sn02q";

const fetchImpl = createAuthenticatingFetchWithRetry(fetch, {
  headers: async () => ({ Authorization: `Bearer ${process.env.SKEP_API_KEY}` }),
  shouldRetryWithHeaders: async () => undefined,
});

const text = (value) => ({ content: { $case: "text", value }, metadata: undefined, filename: "", mediaType: "" });

/** A message, whose id says what is to become of it. */
function ask(act, { said = "Go.", parts = [], configuration, ...of } = {}) {
  const message = {
    messageId: `${act}-${randomUUID()}`,
    role: Role.ROLE_USER,
    parts: [text(said), ...parts],
    taskId: "",
    contextId: "",
    metadata: undefined,
    extensions: [],
    referenceTaskIds: [],
    ...of,
  };
  return { tenant: "", message, configuration, metadata: undefined };
}

const said = (task) => task.artifacts.flatMap((it) => it.parts.map((part) => part.content.value));
const about = (id) => ({ tenant: "", id });

async function until(stream, isIt) {
  const events = [];
  for (;;) {
    const { value, done } = await stream.next();
    assert(!done, `it ended before: ${JSON.stringify(events)}`);
    events.push(value.payload);
    if (isIt(value.payload)) return events;
  }
}

async function rest(stream) {
  const events = [];
  for await (const event of stream) events.push(event.payload);
  return events;
}

const isWhole = (it) => it.$case === "artifactUpdate" && it.value.lastChunk;

/** Events but for the times at which they were told. */
function timeless(events) {
  const all = structuredClone(events);
  for (const it of all) if (it.$case === "statusUpdate") it.value.status.timestamp = undefined;
  return all;
}

async function refused(kind, does) {
  // Each binding has classes of its own below these.
  await assert.rejects(does, (error) => error.name.endsWith(kind.name) || error instanceof kind || assert.fail(error));
}

/** Takes what is pushed: what came at each path, and who waits for more. */
const pushed = new Map();
const receiver = createServer(async (request, response) => {
  const body = await json(request);
  response.writeHead(204).end();
  pushed.get(request.url)?.({ headers: request.headers, body });
});
await once(receiver.listen(0, "127.0.0.1"), "listening");

/** What is pushed to a path, up to the first that is it. */
function heard(path, isIt) {
  return new Promise((resolve) => {
    const all = [];
    pushed.set(path, (one) => {
      all.push(one);
      if (isIt(one.body)) resolve(all);
    });
  });
}

class Check {
  constructor(client, { protocolBinding, protocolVersion }) {
    this.client = client;
    this.isOlder = protocolVersion === "0.3";
    this.isRest = protocolBinding === "HTTP+JSON";
  }

  async open(gate) {
    const answer = await fetchImpl(`${SERVER}/agents/${AGENT}/open/${gate}`);
    assert.equal(answer.status, 200);
  }

  async sends() {
    const task = await this.client.sendMessage(ask("tck-complete-task", { said: "Good day." }));
    assert.equal(task.status.state, TaskState.TASK_STATE_COMPLETED);
    assert.deepEqual(said(task), ["Hello from TCK"]);
    assert.equal(task.history[0].parts[0].content.value, "Good day.");
    const again = await this.client.getTask(about(task.id));
    assert.deepEqual([again.id, again.contextId, said(again)], [task.id, task.contextId, said(task)]);
    assert.deepEqual((await this.client.getTask({ ...about(task.id), historyLength: 0 })).history, []);
    await refused(TaskNotCancelableError, this.client.cancelTask(about(task.id)));
    const more = this.client.sendMessage(ask("tck-complete-task", { taskId: task.id }));
    await refused(UnsupportedOperationError, more);
  }

  async givesParts() {
    const parts = {};
    for (const act of ["data", "file-url", "file"]) {
      const task = await this.client.sendMessage(ask(`tck-artifact-${act}`));
      assert.equal(task.artifacts.length, 1);
      [parts[act]] = task.artifacts[0].parts;
    }
    assert.deepEqual(parts.data.content.value, { key: "value", count: 42 });
    assert.equal(parts["file-url"].content.value, "https://example.com/output.txt");
    // There this client reads no names.
    const name = this.isOlder && this.isRest ? "" : "output.txt";
    assert.deepEqual([parts.file.content.value.toString(), parts.file.filename], ["tck", name]);
  }

  async takesParts() {
    const data = { content: { $case: "data", value: { two: 2, list: [true, null] } }, metadata: undefined, filename: "", mediaType: "" };
    const raw = { content: { $case: "raw", value: Buffer.from("three") }, metadata: undefined, filename: "three.png", mediaType: "image/png" };
    const task = await this.client.sendMessage(ask("echo", { said: "One.", parts: [data, raw], metadata: { why: "test" } }));
    const { content, message } = task.artifacts[0].parts[0].content.value;
    assert.equal(content[0].text, "One.");
    assert.deepEqual(JSON.parse(content[1].text), { two: 2, list: [true, null] });
    assert.deepEqual([content[2].type, content[2].source.value], ["image", "dGhyZWU="]);
    assert.equal(message.metadata.why, "test");
    const values = task.history[0].parts.map((part) => part.content.value);
    assert.deepEqual([values[0], values[1], values[2].toString()], ["One.", data.content.value, "three"]);
  }

  async returnsAtOnce() {
    const gate = randomUUID();
    const configuration = { acceptedOutputModes: [], taskPushNotificationConfig: undefined, returnImmediately: true };
    const task = await this.client.sendMessage(ask("held", { said: gate, configuration }));
    assert([TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING].includes(task.status.state));
    const stream = this.client.resubscribeTask(about(task.id));
    await until(stream, (it) => it.$case === "task");
    await this.open(gate);
    const last = (await rest(stream)).at(-1);
    assert.equal(last.value.status.state, TaskState.TASK_STATE_COMPLETED);
    assert.deepEqual(said(await this.client.getTask(about(task.id))), ["waiting", "done"]);
  }

  async streamsChunks() {
    const events = await rest(this.client.sendMessageStream(ask("tck-stream-artifact-chunked")));
    assert.equal(events[0].$case, "task");
    const chunks = events.filter((it) => it.$case === "artifactUpdate").map((it) => it.value);
    assert.deepEqual(
      chunks.map((it) => [it.artifact.parts[0].content.value, it.lastChunk]),
      [["chunk-1 ", false], ["chunk-2", false], ["", true]],
    );
    // Nor whether a chunk appends.
    const appends = this.isOlder && this.isRest ? [false, false, false] : [false, true, true];
    assert.deepEqual(chunks.map((it) => it.append), appends);
    assert.equal(new Set(chunks.map((it) => it.artifact.artifactId)).size, 1);
    assert.equal(events.at(-1).value.status.state, TaskState.TASK_STATE_COMPLETED);
    const id = events[0].value.id;
    assert.deepEqual(said(await this.client.getTask(about(id))), ["chunk-1 chunk-2"]);
    await refused(UnsupportedOperationError, rest(this.client.resubscribeTask(about(id))));
  }

  async tellsAllTheSame() {
    const gate = randomUUID();
    const first = this.client.sendMessageStream(ask("held", { said: gate }));
    const { id } = (await until(first, isWhole))[0].value;
    const second = this.client.resubscribeTask(about(id));
    const [now] = await until(second, (it) => it.$case === "task");
    assert.deepEqual(said(now.value), ["waiting"]);
    await this.open(gate);
    const [one, other] = [timeless(await rest(first)), timeless(await rest(second))];
    assert.deepEqual(one, other);
    assert(one.length >= 2);
    assert.equal(one.at(-1).value.status.state, TaskState.TASK_STATE_COMPLETED);
    assert.deepEqual(said(await this.client.getTask(about(id))), ["waiting", "done"]);
  }

  async cancels() {
    const stream = this.client.sendMessageStream(ask("held", { said: randomUUID() }));
    const { id } = (await until(stream, isWhole))[0].value;
    const task = await this.client.cancelTask({ ...about(id), metadata: undefined });
    assert.equal(task.status.state, TaskState.TASK_STATE_CANCELED);
    assert.equal((await rest(stream)).at(-1).value.status.state, TaskState.TASK_STATE_CANCELED);
  }

  async asksAndIsAnswered() {
    const task = await this.client.sendMessage(ask("tck-input-required"));
    assert.equal(task.status.state, TaskState.TASK_STATE_INPUT_REQUIRED);
    assert.equal(task.status.message.parts[0].content.value, "Please provide input");
    const of = { taskId: task.id, contextId: task.contextId };
    await assert.rejects(this.client.sendMessage(ask("answer", { ...of, contextId: "another" })), /another context/);
    const done = await this.client.sendMessage(ask("answer", { said: "Blue.", ...of }));
    assert.deepEqual([done.id, done.status.state], [task.id, TaskState.TASK_STATE_COMPLETED]);
    assert.deepEqual(said(done), ['Got "Blue."']);
    const parts = done.history.flatMap((it) => it.parts);
    const texts = parts.filter((it) => it.content.$case === "text").map((it) => it.content.value);
    assert.deepEqual(texts, ["Go.", "Please provide input", "Blue."]);
  }

  async endsInOtherWays() {
    for (const [act, state, why] of [
      ["tck-auth-required", TaskState.TASK_STATE_AUTH_REQUIRED, "Please sign in"],
      ["tck-reject-task", TaskState.TASK_STATE_REJECTED, "rejected"],
      ["tck-task-failure", TaskState.TASK_STATE_FAILED, "failed"],
    ]) {
      const task = await this.client.sendMessage(ask(act));
      assert.equal(task.status.state, state);
      assert.match(task.status.message.parts[0].content.value, new RegExp(why));
    }
  }

  async refuses() {
    await refused(TaskNotFoundError, this.client.getTask(about(MISSING)));
    await refused(TaskNotFoundError, this.client.cancelTask({ ...about(MISSING), metadata: undefined }));
    await refused(TaskNotFoundError, rest(this.client.resubscribeTask(about(MISSING))));
    await refused(TaskNotFoundError, this.client.sendMessage(ask("tck-complete-task", { taskId: MISSING })));
  }

  async pushes() {
    const gate = randomUUID();
    const of = { tenant: "", taskId: "", token: "token", authentication: { scheme: "Bearer", credentials: "credentials" } };
    const url = `http://127.0.0.1:${receiver.address().port}/${gate}`;
    const configuration = {
      acceptedOutputModes: [],
      returnImmediately: true,
      taskPushNotificationConfig: { ...of, id: "push", url },
    };
    const isLast = (body) => (body.statusUpdate ?? body).status?.state?.match(/completed/i);
    const told = heard(`/${gate}`, isLast);
    const { id: taskId } = await this.client.sendMessage(ask("held", { said: gate, configuration }));
    const which = { tenant: "", taskId, id: "push" };
    const got = await this.client.getTaskPushNotificationConfig(which);
    assert.deepEqual([got.taskId, got.id, got.url], [taskId, "push", url]);
    await this.client.createTaskPushNotificationConfig({ ...of, taskId, id: "other", url: `${url}-other` });
    const listed = await this.client.listTaskPushNotificationConfig({ tenant: "", taskId, pageSize: 0, pageToken: "" });
    assert.deepEqual(listed.configs.map((it) => it.id), ["other", "push"]);
    await this.client.deleteTaskPushNotificationConfig({ ...which, id: "other" });
    await refused(TaskNotFoundError, this.client.getTaskPushNotificationConfig({ ...which, id: "other" }));
    await this.open(gate);
    const all = await told;
    for (const { headers, body } of all) {
      assert.equal(headers.authorization, "Bearer credentials");
      assert.equal(headers["x-a2a-notification-token"], "token");
      if (this.isOlder) assert.deepEqual([body.kind, body.id], ["task", taskId]);
    }
    if (this.isOlder) return;
    const pieces = all.map((it) => it.body.artifactUpdate?.artifact.parts[0].text).filter(Boolean);
    assert.deepEqual(pieces, ["waiting", "done"]);
  }

  async showsTheExtendedCard() {
    const card = await this.client.getAgentCard();
    assert.deepEqual([card.name, card.skills[0].id], [AGENT, "scenarios"]);
  }

  async lists() {
    const contextId = randomUUID();
    const sent = [];
    for (let at = 0; at < 3; at += 1) {
      sent.unshift((await this.client.sendMessage(ask("tck-complete-task", { contextId }))).id);
    }
    const asked = { tenant: "", contextId, status: TaskState.TASK_STATE_UNSPECIFIED, pageSize: 2, includeArtifacts: true };
    const listed = [];
    let pageToken = "";
    do {
      const page = await this.client.listTasks({ ...asked, pageToken });
      assert.deepEqual([page.totalSize, page.pageSize], [3, 2]);
      listed.push(...page.tasks);
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(listed.map((it) => it.id), sent);
    for (const task of listed) assert.deepEqual(said(task), ["Hello from TCK"]);
    const failed = { ...asked, pageToken, status: TaskState.TASK_STATE_FAILED };
    assert.deepEqual((await this.client.listTasks(failed)).tasks, []);
  }

  async run() {
    const checks = [
      "sends",
      "givesParts",
      "takesParts",
      "returnsAtOnce",
      "streamsChunks",
      "tellsAllTheSame",
      "cancels",
      "asksAndIsAnswered",
      "endsInOtherWays",
      "refuses",
      "pushes",
      "showsTheExtendedCard",
    ];
    // 0.3 has no way to ask for it, in this client.
    if (!this.isOlder) checks.push("lists");
    for (const check of checks) {
      try {
        await this[check]();
      } catch (error) {
        throw new Error(`${check}: ${error.message}`, { cause: error });
      }
    }
    return checks.length;
  }
}

const legacyCompat = { enabled: true };
const cardResolver = new DefaultAgentCardResolver({ fetchImpl, legacyCompat });
const transports = [
  new JsonRpcTransportFactory({ fetchImpl, legacyCompat }),
  new RestTransportFactory({ fetchImpl, legacyCompat }),
];
const factory = new ClientFactory({ transports, cardResolver });
let card;
for (const url of [`${SERVER}/a2a/${AGENT}/`, SERVER]) {
  card = await cardResolver.resolve(url);
  assert.equal(card.name, AGENT);
}
const counted = {};
for (const one of card.supportedInterfaces) {
  const client = await factory.createFromAgentCard({ ...card, supportedInterfaces: [one] });
  const name = `${one.protocolBinding} ${one.protocolVersion}`;
  try {
    counted[name] = await new Check(client, one).run();
  } catch (error) {
    throw new Error(name, { cause: error });
  }
}
receiver.close();
receiver.closeAllConnections();
console.log(JSON.stringify(counted));
