"""`crossplant server run`: the coordinator's processes under one supervisor, until a signal ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from server.notice import read_waits
from server.provision.change import due
from server.provision.federation import read
from server.run.bundle import build_bundle
from server.run.control import Control
from server.run.gateway import gateway
from server.run.place import Endpoint, ServerPlace
from server.run.roster import APPROVED, read_sites, reconcile
from server.run.runs import Reaper, create_store, tell_store
from server.run.superlink import check_database, executor, make_private_files, superlink
from shared.alone import alone
from shared.errors import CrossplantError, FileTrouble, InvalidConfig
from shared.flower_process import check_port, check_secret, free_port
from shared.pki.certificates import utc_now
from shared.supervise import Supervisor

_LOOK_S = 2.0
_REMIND_S = 24 * 3600.0
INSECURE = (
    "WARNING: --insecure: no TLS, no plant keys. Whoever reaches the port reads the models, joins under any name and "
    "sends updates. For trying things out on one machine only."
)


@dataclass(frozen=True)
class ServeSettings:
    """What `crossplant server run` is asked for.

    Attributes:
        place: the federation.
        host: address that the gateway listens on.
        port: its port; 0 takes a free one.
        store: location of the round store.
        insecure: without TLS and keys.
        mutual: plants must show a certificate of the federation's authority to the gateway, too.
    """

    place: ServerPlace
    host: str
    port: int
    store: str
    insecure: bool = False
    mutual: bool = False


def serve(settings: ServeSettings, until: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Run the coordinator until `until()`; every child has ended when it returns.

    Raises:
        CrossplantError: files are missing, or a process does not start.
    """
    place = settings.place
    _check_files(settings)
    place.prepare()
    with alone(place.lock, "the federation"):
        check_port(settings.host, settings.port)
        check_database(place.database)
        make_private_files(place)
        endpoint = _endpoint(settings)
        create_store(place, settings.store)
        tell_store(place, settings.store)
        with Supervisor(say) as children:
            children.start(superlink(place, endpoint))
            children.start(gateway(place, endpoint, settings.host, settings.mutual))
            children.start(executor(place, endpoint, settings.store))
            place.write_endpoint(endpoint)
            say(f"The coordinator serves plants on port {endpoint.gateway}, process {os.getpid()}.")
            keeper = _Keeper(settings, endpoint, children, say)
            try:
                children.watch(lambda: keeper.look() or until())
            finally:
                (place.run / "endpoint.json").unlink(missing_ok=True)


class _Keeper:
    """Keeps keys, certificates and runs in order, every few seconds."""

    def __init__(
        self, settings: ServeSettings, endpoint: Endpoint, children: Supervisor, say: Callable[[str], None]
    ) -> None:
        self._settings, self._endpoint, self._children, self._say = settings, endpoint, children, say
        self._reaper = Reaper(settings.place, settings.store, build_bundle(), say)
        self._due, self._trouble, self._shown = 0.0, "", self._certificates()
        self._remind = 0.0
        self._waits: float | None = None
        self._told: list[str] = []

    def look(self) -> bool:
        """Look when it is time; never ends the watch."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _LOOK_S
            try:
                self._look()
                self._trouble = ""
            except (CrossplantError, OSError) as error:  # the SuperLink is starting again, a file or the disk is in use
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    self._say(self._trouble)
        return False

    def _certificates(self) -> tuple[int, ...]:
        """When the files that the gateway read were last changed."""
        place = self._settings.place
        files = (place.certificate, place.key, place.ca, place.revoked)
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)

    def _show_renewed(self) -> None:
        if (present := self._certificates()) != self._shown:
            self._shown = present
            self._children.end("gateway")
            settings = self._settings
            self._children.start(gateway(settings.place, self._endpoint, settings.host, settings.mutual))
            self._say("The gateway was started anew with the certificates of now.")

    def _say_what_lapses(self) -> None:
        """Once a day: a coordinator may run for a year without anybody calling `provision`."""
        if self._settings.insecure or time.monotonic() < self._remind:
            return
        self._remind = time.monotonic() + _REMIND_S
        root = self._settings.place.root
        if names := due(read(root), utc_now()):
            self._say(f"Certificates lapse soon: {', '.join(names)}. Renew them: `crossplant provision renew {root}`.")

    def _say_who_is_waited_for(self) -> None:
        """Once for each time that the ServerApp says so, which it does ever more seldom."""
        waits = read_waits(self._settings.place.waits, now := time.time())
        if waits is not None and waits.told != self._waits:
            self._waits = waits.told
            self._say(f"{waits.words(now)}.")

    def _look(self) -> None:
        self._show_renewed()
        with ExitStack() as also:  # what is on it is done whatever goes wrong with the plants' keys
            also.callback(self._say_who_is_waited_for)
            control = also.enter_context(closing(Control(self._endpoint)))
            also.callback(self._reaper.look, control)
            if not self._settings.insecure:
                self._keep_keys(control)
        self._say_what_lapses()

    def _keep_keys(self, control: Control) -> None:
        """Let in and shut out; what was said at the last look is not said again."""
        sites = self._settings.place.sites
        if not sites.is_dir():  # moved, or not mounted: a key that is shut out is shut out for good
            raise FileTrouble(f"{sites} is gone: plants stay as they are.", "Put it back.")
        told, self._told = self._told, reconcile(control, read_sites(sites))
        for line in self._told:
            if line not in told:
                self._say(line)


def approved(place: ServerPlace) -> tuple[str, ...]:
    """Names of the plants that may take part."""
    return tuple(site.name for site in read_sites(place.sites) if site.status == APPROVED)


def _endpoint(settings: ServeSettings) -> Endpoint:
    root = None if settings.insecure else settings.place.loopback_certificate
    inner = free_port()
    outer = settings.port or free_port()
    return Endpoint(f"127.0.0.1:{inner}", root, outer, os.getpid())


def _check_files(settings: ServeSettings) -> None:
    if settings.insecure and settings.mutual:
        raise InvalidConfig("--insecure and --mutual-tls contradict each other.", "Give one of them.")
    if settings.insecure:
        return
    place = settings.place
    for path in (place.ca, place.certificate, place.key):
        if not path.is_file():
            raise InvalidConfig(f"{path} is missing.", "Make it with `crossplant provision init`, or use --insecure.")
    if settings.mutual and not place.revoked.is_file():
        cause = f"{place.revoked} is missing: nobody could tell whom it shuts out."
        raise InvalidConfig(cause, f"Restore it from a backup, or `crossplant provision renew {place.root} ca`.")
    check_secret(place.key)


@contextmanager
def until_signal() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
