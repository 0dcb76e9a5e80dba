"""The agent's end of its socket: gRPC on a Unix socket, with the standard health service.

Who may connect is decided by the file system: the socket has mode 0660 and belongs to the agent's user and the relay's
group, in a folder of mode 0750. grpcio does not tell a server who its peer is (SO_PEERCRED): nothing else is checked.
"""

from __future__ import annotations

import errno
import grp
import os
import socket as sockets
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from client.agent.guard import Guard
from client.agent.wire import LONGEST_PATH, SERVICE, address
from shared.errors import AgentBusy, FileTrouble, InvalidConfig

_READY, _NOT_READY = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_THREADS = 8
_MOST_BYTES = 2**31 - 1


class AgentServer:
    """Listens at once and is not ready; answers from `ready` on.

    Args:
        path: of the socket.
        group: the relay's, None for the agent's own.
        largest: of a message that the policy allows. One up to twice as large is refused by the guard and logged; what
            is larger still, gRPC does not even receive.

    Raises:
        AgentBusy: another agent listens there.
        InvalidConfig, FileTrouble: the path, its folder or the group cannot be used.
    """

    def __init__(self, path: Path, group: str | None, largest: int) -> None:
        self._path = path
        self._guard: Guard | None = None
        gid = _group(group)
        _prepare_folder(path, gid)
        _clear(path)
        self._health = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=_pool())
        self._server = grpc.server(_pool(), options=_options(largest), maximum_concurrent_rpcs=4 * _THREADS)
        handler = grpc.unary_unary_rpc_method_handler(self._handle)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Handle": handler})])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._say(_NOT_READY)
        self._bind(gid)
        self._server.start()

    def ready(self, guard: Guard) -> None:
        """Answer from now on."""
        self._guard = guard
        self._say(_READY)

    def close(self, grace_s: float) -> None:
        """Receive nothing more, and give what is being answered some time."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait(grace_s + 5)
        self._path.unlink(missing_ok=True)

    def _say(self, status: int) -> None:
        for service in ("", SERVICE):
            self._health.set(service, status)

    def _bind(self, gid: int) -> None:
        before = os.umask(0o117)  # gRPC makes the socket: it has its mode from the first moment
        try:
            self._server.add_insecure_port(address(self._path))
        except RuntimeError as error:
            raise FileTrouble(f"cannot listen at {self._path}.") from error
        finally:
            os.umask(before)
        _give(self._path, gid)

    def _handle(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        guard = self._guard
        if guard is None:  # nothing is answered, so there is nothing to log
            context.abort(grpc.StatusCode.UNAVAILABLE, "not ready")
            raise AssertionError("abort raises")
        gone = threading.Event()
        if not context.add_callback(gone.set):
            gone.set()
        return guard.handle(data, gone.is_set, context.time_remaining())


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="agent")


def _options(largest: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", min(2 * largest + 2**20, _MOST_BYTES)),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]


def _group(name: str | None) -> int:
    if name is None:
        return os.getegid()
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise InvalidConfig(f"group = {name!r}: there is no such group.", "Make it, or correct plant.toml.") from error


def _prepare_folder(path: Path, gid: int) -> None:
    """Make the socket's folder; refuse one in which others could put a socket of theirs."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        cause = f"socket = {str(path)!r}: more than {LONGEST_PATH} bytes, the most that a Unix socket's path may have."
        raise InvalidConfig(cause, "Give a shorter absolute path, such as /run/crossplant/agent.sock.")
    folder = path.parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o750)
    except FileExistsError:
        _check_folder(folder)
    else:
        _give(folder, gid)
        folder.chmod(0o750)


def _check_folder(folder: Path) -> None:
    about = folder.stat()
    if not stat.S_ISDIR(about.st_mode):
        raise FileTrouble(f"{folder} is not a folder.")
    if about.st_mode & 0o027 or about.st_uid not in (0, os.geteuid()):
        cause = f"the socket's folder {folder} has mode {stat.S_IMODE(about.st_mode):o} and the owner {about.st_uid}."
        raise InvalidConfig(cause, f"Others could use or replace the socket: `chmod 750 {folder}`.")


def _give(path: Path, gid: int) -> None:
    try:
        if path.stat().st_gid != gid:
            os.chown(path, -1, gid)
    except PermissionError as error:
        cause = f"cannot give {path} to the group {gid}."
        raise InvalidConfig(cause, "The agent's user must be a member of the relay's group.") from error


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on any more. gRPC would remove any, also that of a living agent."""
    if not path.exists() and not path.is_symlink():
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileTrouble(f"{path} is there and is no socket.", "Remove it, or choose another path.")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(2)
        found = probe.connect_ex(str(path))
    if found not in (errno.ECONNREFUSED, errno.ENOENT):
        raise AgentBusy(f"another agent listens at {path}.")
    path.unlink(missing_ok=True)
