"""Flower's Control API, over loopback: register node keys, start and stop runs, ask how they stand.

Beside `server.app` and its `server.inbox` the only file of `server/` that imports Flower (`server.run.bundle` borrows
its builder).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (  # type: ignore[attr-defined,unused-ignore]
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from server.run.place import Endpoint
from shared.service_errors import ServerRefused, ServerUnreachable


@dataclass(frozen=True)
class Node:
    """A registered node.

    Attributes:
        id: Flower's; the same as long as the key is registered.
        name: the plant, as the operator registered it; empty without node keys.
        key: public key, as Flower keeps it.
        status: `registered`, `online`, `offline` or `unregistered`.
    """

    id: int
    name: str
    key: bytes
    status: str


@dataclass(frozen=True)
class Standing:
    """How a Flower run stands.

    Attributes:
        status: `pending`, `starting`, `running` or `finished`.
        outcome: `completed`, `failed` or `stopped`; empty before it is finished.
        details: why.
    """

    status: str
    outcome: str
    details: str


class Control:
    """A connection to the SuperLink's Control API.

    Every method raises `ServerUnreachable` when the SuperLink cannot be reached, `ServerRefused` when it refuses.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        root = None if endpoint.root is None else endpoint.root.read_bytes()
        self._client = ControlHttpClient.from_server_address(
            endpoint.address, root is None, root, [RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def nodes(self) -> tuple[Node, ...]:
        """Nodes that were not unregistered."""
        with _told("list nodes"):
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        nodes = (Node(n.node_id, n.name, bytes(n.public_key), n.status) for n in found)
        return tuple(node for node in nodes if node.status != "unregistered")

    def register(self, name: str, key: bytes) -> int:
        """Let the holder of a key in, under the plant's name; returns Flower's node id."""
        with _told(f"register plant {name!r}"):
            return int(self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=name)).node_id)

    def unregister(self, node: int) -> None:
        """Shut a node out."""
        with _told("unregister a node"):
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def start(self, bundle: bytes, settings: Mapping[str, str]) -> int:
        """Submit an app bundle with its run settings; returns Flower's run id."""
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(settings)))
        with _told("start a run"):
            return int(self._client.StartRun(request).run_id)

    def stop(self, run: int) -> None:
        """Make a run final."""
        with _told("stop a run"):
            self._client.StopRun(StopRunRequest(run_id=run))

    def standing(self, run: int) -> Standing | None:
        """How a run stands; None when the SuperLink does not know it."""
        with _told("ask after a run"):
            try:
                found = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:  # its database is another one
                    return None
                raise
        if run not in found:
            return None
        status = found[run].status
        return Standing(status.status, status.sub_status, status.details)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        cause = f"the SuperLink refused to {what} (HTTP {error.response.status_code}: {error.response.text[:200]})."
        raise ServerRefused(cause) from error
    except httpx.HTTPError as error:
        raise ServerUnreachable(f"the SuperLink cannot be reached to {what}: {error}.") from error
