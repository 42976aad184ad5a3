"""What Skep answers, asked by the official Python client of A2A: over JSON-RPC and HTTP+JSON, in 1.0 and 0.3.

The agent is examples/agents/conformance: the beginning of a message's id says what becomes of it, and its gates say when.
"""

import asyncio
import json
import os
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import (
    AgentCard,
    AuthenticationInfo,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict

AGENT = "conformance"
SERVER = os.environ["SKEP_SERVER"]
MISSING = "run_01h455vb4pex5vsknk084sn02q"


def ask(act, text="Go.", configuration=None, **of):
    """A message, whose id says what is to become of it."""
    id = f"{act}-{uuid.uuid4().hex}"
    message = Message(message_id=id, role=Role.ROLE_USER, parts=[Part(text=text)], **of)
    return SendMessageRequest(message=message, configuration=configuration)


def said(task):
    return [part.text for artifact in task.artifacts for part in artifact.parts]


def timeless(events):
    """Events but for the times at which they were told."""
    told = [MessageToDict(event) for event in events]
    for event in told:
        event.get("statusUpdate", {}).get("status", {}).pop("timestamp", None)
    return told


async def only(stream):
    """The task, where one is all that is answered."""
    events = [event async for event in stream]
    assert len(events) == 1 and events[0].HasField("task"), events
    return events[0].task


async def until(stream, is_it):
    """What a stream tells, up to the first that is it."""
    events = []
    async for event in stream:
        events.append(event)
        if is_it(event):
            return events
    raise AssertionError(f"it ended before: {events}")


def is_whole(event):
    return event.artifact_update.last_chunk


async def rest(stream):
    return [event async for event in stream]


async def refused(kind, does):
    try:
        answer = await (rest(does) if hasattr(does, "__aiter__") else does)
    except kind as error:
        return str(error)
    raise AssertionError(f"not refused with {kind.__name__}: {answer}")


class Receiver(BaseHTTPRequestHandler):
    """Takes what is pushed."""

    pushed = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()
        self.pushed.put((self.path, dict(self.headers.items()), json.loads(body)))

    def log_message(self, *_):
        pass


receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()


class Check:
    """A client of a version over a binding: one that streams, and one that waits."""

    def __init__(self, http, card):
        self.http = http
        [interface] = card.supported_interfaces
        self.is_older = interface.protocol_version == "0.3"
        self.is_rest = interface.protocol_binding == "HTTP+JSON"
        # What this client takes for bytes there is their base64, which it encodes once more.
        self.encodes_twice = self.is_older and self.is_rest

        def client(streaming):
            bindings = [interface.protocol_binding]
            config = ClientConfig(streaming=streaming, httpx_client=http, supported_protocol_bindings=bindings)
            return ClientFactory(config).create(card)

        self.streams, self.waits = client(True), client(False)

    async def open(self, gate):
        answer = await self.http.get(f"{SERVER}/agents/{AGENT}/open/{gate}")
        assert answer.status_code == 200, answer.text

    async def task(self, id, **of):
        return await self.waits.get_task(GetTaskRequest(id=id, **of))

    async def sends(self):
        task = await only(self.waits.send_message(ask("tck-complete-task", "Good day.")))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED, task
        assert said(task) == ["Hello from TCK"], task
        assert task.history[0].parts[0].text == "Good day.", task
        again = await self.task(task.id)
        assert (again.id, again.context_id, said(again)) == (task.id, task.context_id, said(task))
        assert not (await self.task(task.id, history_length=0)).history
        await refused(TaskNotCancelableError, self.waits.cancel_task(CancelTaskRequest(id=task.id)))
        more = ask("tck-complete-task", task_id=task.id)
        await refused(UnsupportedOperationError, self.waits.send_message(more))

    async def gives_parts(self):
        looks = {
            "tck-artifact-data": lambda it: MessageToDict(it.data) == {"key": "value", "count": 42},
            "tck-artifact-file-url": lambda it: it.url == "https://example.com/output.txt",
            "tck-artifact-file": lambda it: (it.raw, it.filename) == (b"tck", "output.txt"),
        }
        if self.encodes_twice:
            del looks["tck-artifact-file"]
        for act, is_right in looks.items():
            task = await only(self.waits.send_message(ask(act)))
            [artifact] = task.artifacts
            [part] = artifact.parts
            assert is_right(part), (act, task)

    async def takes_parts(self):
        request = ask("echo", "One.")
        request.message.parts.add().data.struct_value.update({"two": 2, "list": [True, None]})
        if not self.encodes_twice:
            request.message.parts.add(raw=b"three", media_type="image/png", filename="three.png")
        request.message.metadata.update({"why": "test"})
        task = await only(self.waits.send_message(request))
        echoed = MessageToDict(task.artifacts[0].parts[0].data)
        text, data, *images = echoed["content"]
        assert text["text"] == "One.", echoed
        assert json.loads(data["text"]) == {"two": 2, "list": [True, None]}, echoed
        for image in images:
            assert (image["type"], image["source"]["value"]) == ("image", "dGhyZWU="), echoed
        assert len(images) == len(request.message.parts) - 2, echoed
        assert echoed["message"]["metadata"]["why"] == "test", echoed
        # Who asks for the task has the parts as they were sent.
        assert list(task.history[0].parts) == list(request.message.parts), task

    async def returns_at_once(self):
        gate = uuid.uuid4().hex
        config = SendMessageConfiguration(return_immediately=True)
        task = await only(self.waits.send_message(ask("held", gate, config)))
        under_way = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
        assert task.status.state in under_way, task
        stream = self.streams.subscribe(SubscribeToTaskRequest(id=task.id))
        await until(stream, lambda it: it.HasField("task"))
        await self.open(gate)
        last = (await rest(stream))[-1]
        assert last.status_update.status.state == TaskState.TASK_STATE_COMPLETED, last
        assert said(await self.task(task.id)) == ["waiting", "done"]

    async def streams_chunks(self):
        events = await rest(self.streams.send_message(ask("tck-stream-artifact-chunked")))
        assert events[0].HasField("task"), events
        chunks = [it.artifact_update for it in events if it.HasField("artifact_update")]
        assert [it.artifact.parts[0].text for it in chunks] == ["chunk-1 ", "chunk-2", ""], chunks
        assert [it.append for it in chunks] == [False, True, True], chunks
        assert [it.last_chunk for it in chunks] == [False, False, True], chunks
        assert len({it.artifact.artifact_id for it in chunks}) == 1, chunks
        assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED, events[-1]
        task = await self.task(events[0].task.id)
        assert said(task) == ["chunk-1 chunk-2"], task
        again = self.streams.subscribe(SubscribeToTaskRequest(id=task.id))
        await refused(UnsupportedOperationError, again)

    async def tells_all_the_same(self):
        gate = uuid.uuid4().hex
        first = self.streams.send_message(ask("held", gate))
        begun = await until(first, is_whole)
        id = begun[0].task.id
        second = self.streams.subscribe(SubscribeToTaskRequest(id=id))
        [now] = await until(second, lambda it: it.HasField("task"))
        assert said(now.task) == ["waiting"], now
        await self.open(gate)
        one, other = timeless(await rest(first)), timeless(await rest(second))
        assert one == other and len(one) >= 2, (one, other)
        assert one[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED", one
        assert said(await self.task(id)) == ["waiting", "done"]

    async def cancels(self):
        stream = self.streams.send_message(ask("held", uuid.uuid4().hex))
        id = (await until(stream, is_whole))[0].task.id
        task = await self.waits.cancel_task(CancelTaskRequest(id=id))
        assert task.status.state == TaskState.TASK_STATE_CANCELED, task
        last = (await rest(stream))[-1]
        assert last.status_update.status.state == TaskState.TASK_STATE_CANCELED, last

    async def asks_and_is_answered(self):
        task = await only(self.waits.send_message(ask("tck-input-required")))
        assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED, task
        assert task.status.message.parts[0].text == "Please provide input", task
        elsewhere = ask("answer", task_id=task.id, context_id="another")
        await refused(InvalidParamsError, self.waits.send_message(elsewhere))
        answer = ask("answer", "Blue.", task_id=task.id, context_id=task.context_id)
        done = await only(self.waits.send_message(answer))
        assert (done.id, done.status.state) == (task.id, TaskState.TASK_STATE_COMPLETED), done
        assert said(done) == ['Got "Blue."'], done
        texts = [part.text for message in done.history for part in message.parts if part.text]
        assert texts == ["Go.", "Please provide input", "Blue."], texts

    async def ends_in_other_ways(self):
        for act, state, text in [
            ("tck-auth-required", TaskState.TASK_STATE_AUTH_REQUIRED, "Please sign in"),
            ("tck-reject-task", TaskState.TASK_STATE_REJECTED, "rejected"),
            ("tck-task-failure", TaskState.TASK_STATE_FAILED, "failed"),
        ]:
            task = await only(self.waits.send_message(ask(act)))
            assert task.status.state == state, task
            assert text in task.status.message.parts[0].text, task

    async def refuses(self):
        await refused(TaskNotFoundError, self.task(MISSING))
        await refused(TaskNotFoundError, self.waits.cancel_task(CancelTaskRequest(id=MISSING)))
        await refused(TaskNotFoundError, self.streams.subscribe(SubscribeToTaskRequest(id=MISSING)))
        unknown = self.waits.send_message(ask("tck-complete-task", task_id=MISSING))
        await refused(TaskNotFoundError, unknown)

    async def lists(self):
        context = uuid.uuid4().hex
        sent = [await only(self.waits.send_message(ask("tck-complete-task", context_id=context))) for _ in range(3)]
        listed, token = [], ""
        while True:
            asked = ListTasksRequest(context_id=context, page_size=2, page_token=token, include_artifacts=True)
            page = await self.waits.list_tasks(asked)
            assert (page.total_size, page.page_size) == (3, 2), page
            listed.extend(page.tasks)
            token = page.next_page_token
            if not token:
                break
        assert [it.id for it in listed] == [it.id for it in reversed(sent)], listed
        assert all(said(it) == ["Hello from TCK"] for it in listed), listed
        failed = ListTasksRequest(context_id=context, status=TaskState.TASK_STATE_FAILED)
        assert not (await self.waits.list_tasks(failed)).tasks

    async def pushes(self):
        gate = uuid.uuid4().hex
        push = TaskPushNotificationConfig(
            id="push",
            url=f"http://127.0.0.1:{receiver.server_port}/{gate}",
            token="token",
            authentication=AuthenticationInfo(scheme="Bearer", credentials="credentials"),
        )
        config = SendMessageConfiguration(return_immediately=True, task_push_notification_config=push)
        task = await only(self.waits.send_message(ask("held", gate, config)))
        which = GetTaskPushNotificationConfigRequest(task_id=task.id, id="push")
        got = await self.waits.get_task_push_notification_config(which)
        assert (got.task_id, got.id, got.url) == (task.id, "push", push.url), got
        other = TaskPushNotificationConfig(task_id=task.id, id="other", url=push.url)
        made = await self.waits.create_task_push_notification_config(other)
        assert (made.task_id, made.id) == (task.id, "other"), made
        # Over HTTP in 0.3 this client neither lists nor deletes.
        if not self.encodes_twice:
            asked = ListTaskPushNotificationConfigsRequest(task_id=task.id)
            listed = await self.waits.list_task_push_notification_configs(asked)
            assert [it.id for it in listed.configs] == ["other", "push"], listed
            gone = DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="other")
            await self.waits.delete_task_push_notification_config(gone)
            which.id = "other"
            await refused(TaskNotFoundError, self.waits.get_task_push_notification_config(which))
        await self.open(gate)
        state, texts = None, {}
        while state != TaskState.TASK_STATE_COMPLETED:
            path, headers, body = await asyncio.to_thread(Receiver.pushed.get, timeout=60)
            if headers.get("x-a2a-notification-token") != "token" or path != f"/{gate}":
                continue
            assert headers["authorization"] == "Bearer credentials", headers
            if self.is_older:
                assert body["kind"] == "task" and body["id"] == task.id, body
                state = TaskState.Value(f"TASK_STATE_{body['status']['state'].upper().replace('-', '_')}")
                continue
            told = ParseDict(body, StreamResponse())
            if told.HasField("status_update"):
                state = told.status_update.status.state
            if told.HasField("artifact_update"):
                artifact = told.artifact_update.artifact
                texts[artifact.artifact_id] = texts.get(artifact.artifact_id, "") + artifact.parts[0].text
        assert self.is_older or list(texts.values()) == ["waiting", "done"], texts

    async def shows_the_extended_card(self):
        card = await self.waits.get_extended_agent_card(GetExtendedAgentCardRequest())
        assert (card.name, card.skills[0].id) == (AGENT, "scenarios"), card

    async def run(self):
        checks = [
            self.sends,
            self.gives_parts,
            self.takes_parts,
            self.returns_at_once,
            self.streams_chunks,
            self.tells_all_the_same,
            self.cancels,
            self.asks_and_is_answered,
            self.ends_in_other_ways,
            self.refuses,
            self.pushes,
            self.shows_the_extended_card,
        ]
        # 0.3 has no way to ask for it, in this client.
        checks += [] if self.is_older else [self.lists]
        for check in checks:
            try:
                await check()
            except BaseException as error:
                error.add_note(f"in {'0.3' if self.is_older else '1.0'}, over {'HTTP' if self.is_rest else 'JSON-RPC'}")
                raise
        return len(checks)


async def main():
    key = os.environ["SKEP_API_KEY"]
    counted = {}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        for url in [f"{SERVER}/a2a/{AGENT}", SERVER]:
            card = await A2ACardResolver(http, url).get_agent_card()
            assert card.name == AGENT, card
        for interface in card.supported_interfaces:
            alone = AgentCard()
            alone.CopyFrom(card)
            alone.ClearField("supported_interfaces")
            alone.supported_interfaces.append(interface)
            name = f"{interface.protocol_binding} {interface.protocol_version}"
            counted[name] = await Check(http, alone).run()
    print(json.dumps(counted))


asyncio.run(main())
