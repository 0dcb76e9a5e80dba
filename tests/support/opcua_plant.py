"""An OPC UA server that is a plant: a process of its own, fed from a table, told what to do wrong by lines on stdin."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from shared.series import FloatArray
from tests.support.pki import nobody

ROOT = Path(__file__).parents[2]


@dataclass
class Plant:
    """A running plant.

    Attributes:
        port: where it listens.
        folder: of its files.
        tags: its variables.
        options: what it was started with.
    """

    port: int
    folder: Path
    tags: tuple[str, ...]
    options: dict[str, Any]
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plant"

    def start(self) -> None:
        """Serve, on the same port as before."""
        told = json.dumps({"port": self.port, "folder": str(self.folder), "tags": self.tags, **self.options})
        log = (self.folder / "plant.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.opcua_plant", told],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            self.stop()
            raise AssertionError((self.folder / "plant.log").read_text())

    def stop(self, hard: bool = True) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        (self.process.kill if hard else self.process.terminate)()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.process.wait(20)
        self.process = None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def tell(self, *words: object) -> None:
        """One of the commands of `_obey`."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().strip() == "done"

    def services(self) -> set[str]:
        """Names of all services that anybody ever asked for."""
        path = self.folder / "services"
        return set(path.read_text().split()) if path.exists() else set()


@contextlib.contextmanager
def plant(folder: Path, tags: tuple[str, ...], values_TD: FloatArray, **options: Any) -> Iterator[Plant]:
    """Serve a table, one row a `period_s`, from the first again after the last.

    Options: period_s, nested (variables in folders), certificate, key, user, password.
    """
    folder.mkdir(exist_ok=True)
    np.save(folder / "values.npy", values_TD)
    served = Plant(nobody(), folder, tags, options)
    served.start()
    try:
        yield served
    finally:
        served.stop()


# In the process of its own -------------------------------------------------------------------------------------------


class _Served:
    def __init__(self, told: dict[str, Any]) -> None:
        self.told, self.folder = told, Path(told["folder"])
        self.values_TD = np.load(self.folder / "values.npy")
        self.bad: dict[str, int] = {}
        self.still, self.shift_s = False, 0.0
        self.period_s = float(told.get("period_s", 1.0))

    async def run(self) -> None:
        import asyncua

        self.ua: Any = asyncua.ua
        ua = self.ua
        self._record_services()
        server = self.server = asyncua.Server(user_manager=self._users())
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.told['port']}/plant")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        if "certificate" in self.told:
            await server.set_application_uri("urn:test:plant")
            server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
            await server.load_certificate(self.told["certificate"])
            await server.load_private_key(self.told["key"], format="pem")
        if "user" in self.told:
            server.set_identity_tokens([ua.UserNameIdentityToken])
        await self._make_nodes()
        async with server:
            print("ready", flush=True)
            feeding = asyncio.create_task(self._feed())
            listening = asyncio.create_task(self._listen())
            await asyncio.wait([feeding, listening], return_when=asyncio.FIRST_COMPLETED)
            for task in (feeding, listening):
                task.cancel()

    def _users(self) -> Any:
        from asyncua.crypto.permission_rules import User, UserRole

        told = self.told

        class Users:
            def get_user(
                self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
            ) -> Any:
                if "user" in told and (username, password) != (told["user"], told["password"]):
                    return None
                return User(role=UserRole.User)

        return Users()

    def _record_services(self) -> None:
        import asyncua.server.uaprocessor as module

        processors: Any = module.UaProcessor
        whole, names = processors._process_message, {}
        for name, number in vars(self.ua.ObjectIds).items():
            if name.endswith("Request_Encoding_DefaultBinary"):
                names[number] = name.removesuffix("_Encoding_DefaultBinary")
        path = self.folder / "services"

        async def process(processor: Any, typeid: Any, *rest: Any) -> Any:
            with path.open("a") as file:
                print(names.get(typeid.Identifier, typeid), file=file)
            return await whole(processor, typeid, *rest)

        processors._process_message = process

    async def _make_nodes(self) -> None:
        index = await self.server.register_namespace("urn:test:plant")
        top = await self.server.nodes.objects.add_folder(index, "Plant")
        self.nodes: list[Any] = []
        for number, tag in enumerate(self.told["tags"]):
            parent = top
            if self.told.get("nested"):
                parent = await top.add_object(index, f"Stage{number}")
            self.nodes.append(await parent.add_variable(self.ua.NodeId(tag, index), tag, 0.0))

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        due, stamp = loop.time(), datetime.now(UTC)
        for number in itertools.count():
            if not self.still:
                told = stamp + timedelta(seconds=self.shift_s)
                await self._write(self.values_TD[number % len(self.values_TD)], told.replace(tzinfo=None))
            due, stamp = due + self.period_s, stamp + timedelta(seconds=self.period_s)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _write(self, row: Any, stamp: datetime) -> None:
        for tag, node, value in zip(self.told["tags"], self.nodes, row, strict=True):
            variant = self.ua.Variant(float(value))
            status = self.ua.StatusCode(self.bad.get(tag, 0))
            now = datetime.now(UTC).replace(tzinfo=None)
            found = self.ua.DataValue(variant, status, SourceTimestamp=stamp, ServerTimestamp=now)
            await self.server.write_attribute_value(node.nodeid, found)

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._obey(*line.decode().split())
            print("done", flush=True)

    def _obey(self, word: str, *rest: str) -> None:
        if word == "quality":
            self.bad[rest[0]] = int(rest[1], 0)
        elif word in ("still", "move"):
            self.still = word == "still"
        elif word == "clock":
            self.shift_s += float(rest[0])
        elif word == "period":
            self.period_s = float(rest[0])
        elif word == "drop":
            for transport in list(self.server.iserver.asyncio_transports):
                transport.abort()
        elif word == "expire":
            service = self.server.iserver.subscription_service
            for subscription in list(service.subscriptions.values()):
                asyncio.get_running_loop().create_task(service.delete_subscriptions([subscription.data.SubscriptionId]))
        else:
            raise ValueError(word)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_Served(json.loads(sys.argv[1])).run())
