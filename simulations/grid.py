"""A Flower grid in one process, without Ray: the same ServerApp and ClientApp, carried by a few threads.

Array contents are immutable bytes on both sides, so nothing a client holds is shared with the server. Finished
replies are held back until the
server has taken earlier ones (`_BACKLOG` a worker): memory does not grow with the number of plants. A message is worth
carrying until its reply was taken, its time is over, or the server says that it looks for it no more (`drop`).
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_BACKLOG = 2
_STOP = None


class InProcessGrid(Grid):
    """Carries messages to client apps in this process.

    Args:
        client_app: the app every node runs.
        contexts: a Flower context for each node id.
        workers: threads that run client apps; torch and NumPy release the interpreter's lock while they compute.
    """

    def __init__(self, client_app: ClientApp, contexts: Mapping[int, Context], workers: int = 1) -> None:
        self._app = client_app
        self._contexts = contexts
        self._run = Run.create_empty(run_id=1)
        # Messages can be made in a Flower process only: say that this is one.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self._work: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._done: dict[str, Message] = {}
        self._news = threading.Condition()
        self._looked_for: set[str] = set()
        self._room = threading.Semaphore(_BACKLOG * workers)
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"plant-worker-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 30.0) -> None:
        """Stop the workers; a client app that is running gets to finish."""
        self._closed.set()
        for _ in self._threads:
            self._work.put(_STOP)
            self._room.release()
        for thread in self._threads:
            thread.join(timeout_s)

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages."""
        batch = list(messages)
        ids = [uuid.uuid4().hex for _ in batch]
        with self._news:
            self._looked_for |= set(ids)
        for message, message_id in zip(batch, ids, strict=True):
            message.metadata.__dict__["_message_id"] = message_id
            self._work.put(message)
        return ids

    def drop(self, message_ids: Iterable[str]) -> None:
        """Nobody looks for the replies to these any more. Flower's own grids have no such method."""
        with self._news:
            self._looked_for -= (gone := set(message_ids))
            stale = [i for i in gone if self._done.pop(i, None) is not None]
        self._make_room(len(stale))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        with self._news:
            taken = [self._done.pop(i) for i in message_ids if i in self._done]
            self._looked_for -= {reply.metadata.reply_to_message_id for reply in taken}
        self._make_room(len(taken))
        return taken

    def wait(self, timeout_s: float) -> None:
        """Sleep until a reply is there; Flower's own grids have no such method and are polled."""
        with self._news:
            self._news.wait_for(lambda: bool(self._done), timeout_s)

    def _make_room(self, count: int) -> None:
        if count:
            self._room.release(count)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        ids = set(self.push_messages(messages))
        ends = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while ids and (ends is None or time.monotonic() < ends):
            came = list(self.pull_messages(ids))
            ids -= {reply.metadata.reply_to_message_id for reply in came}
            replies += came
            if not came:
                self.wait(0.1)
        self.drop(ids)
        return replies

    def _serve(self) -> None:
        while (message := self._work.get()) is not _STOP:
            self._room.acquire()
            if self._closed.is_set():
                return
            if not (self._wanted(message) and self._finish(message, self._answer(message))):
                self._make_room(1)

    def _wanted(self, message: Message) -> bool:
        late = time.time() > message.metadata.created_at + message.metadata.ttl
        return not late and message.metadata.message_id in self._looked_for

    def _finish(self, message: Message, reply: Message) -> bool:
        with self._news:
            if not self._wanted(message):
                return False
            self._done[message.metadata.message_id] = reply
            self._news.notify_all()
            return True

    def _answer(self, message: Message) -> Message:
        try:
            reply = self._app(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # Flower does the same: whatever an app raises becomes an error reply.
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        return reply
