"""The operator's signing key: with it runs are signed when they are started, and plants tell by it who started them.

    signing/run.key    PKCS 8, locked by the passphrase that locks the authority's key
    signing/run.pub    its public line; `ssh-keygen -lf` prints the fingerprint that stands in a plant's policy

No process that serves plants reads the private key: a coordinator that was broken into signs no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import FileTrouble, InvalidConfig
from shared.pki import files, keys
from shared.pki.trouble import FederationUnreadable
from shared.wire.messages import recipe_text
from shared.wire.signature import Signed, fingerprint, sign

if TYPE_CHECKING:
    from server.provision.federation import Federation
    from shared.config import RunConfig

KEY, PUBLIC = "signing/run.key", "signing/run.pub"
VALID_DAYS = 30
_MAKE = "`crossplant provision signer {} --new` makes one."


def new_files(comment: str) -> dict[str, tuple[bytes, int]]:
    """A fresh key: content and rights by file name."""
    key = keys.new_key()
    locked = keys.private_pem(key, keys.passphrase_from_environment())
    line = f"{keys.public_line(key.public_key(), f'{comment}-runs')}\n".encode()
    return {KEY: (locked, files.PRIVATE), PUBLIC: (line, files.PUBLIC)}


def read_signer(folder: Path) -> str | None:
    """Fingerprint of a federation's signing key, `SHA256:...`; None in a folder that is older than signatures.

    Raises:
        FederationUnreadable: only half of the key is there.
        KeyUnusable: the public key is damaged.
    """
    here = [(folder / name).is_file() for name in (KEY, PUBLIC)]
    if not any(here):
        return None
    if not all(here):
        raise FederationUnreadable(f"{folder} lacks {PUBLIC if here[0] else KEY}.")
    path = folder / PUBLIC
    return fingerprint(keys.load_node_public(files.read_bytes(path), str(path)))


def make_key(federation: Federation, replace: bool) -> str:
    """Make a signing key; returns its fingerprint. Runs that are signed already stay so, by the key before.

    Args:
        federation: held by `opened`.
        replace: there is one, and the new one takes its place.

    Raises:
        FileTrouble: there is one that nobody wanted to replace, or none to replace.
    """
    if federation.signer is not None and not replace:
        cure = "To replace it, give --replace; plants then must name the new one in their policy."
        raise FileTrouble(f"{federation.folder} has a signing key already: {federation.signer}.", cure)
    if federation.signer is None and replace:
        raise FileTrouble(f"{federation.folder} has no signing key to replace.", _MAKE.format(federation.folder))
    with files.changing(federation.folder) as change:
        (federation.folder / KEY).parent.mkdir(mode=0o700, exist_ok=True)
        for name, (data, mode) in new_files(federation.settings.name).items():
            change.write(name, data, mode)
    made = read_signer(federation.folder)
    assert made is not None
    return made


def signing_key(folder: Path) -> keys.PrivateKey:
    """The private key, unlocked by the passphrase of the environment.

    Raises:
        InvalidConfig: there is none.
        KeyUnusable: it is damaged, or the passphrase is missing or wrong.
        FederationUnreadable: it is not that of the public line.
    """
    signer = read_signer(folder)
    if signer is None:
        raise InvalidConfig(f"{folder} has no key to sign runs with.", _MAKE.format(folder))
    path = folder / KEY
    key = keys.load_private(files.read_bytes(path), str(path), keys.passphrase_from_environment())
    if fingerprint(key.public_key()) != signer:
        raise FederationUnreadable(f"{path} is not the key of {folder / PUBLIC}.")
    return key


def sign_run(folder: Path, run: str, config: RunConfig, plants: Sequence[str], now: datetime,
             valid_days: int = VALID_DAYS) -> str:  # fmt: skip
    """Sign a run with the federation's key.

    Args:
        folder: the operator's.
        run: its name.
        config: its settings.
        plants: that it goes to.
        now: the time, with its zone.
        valid_days: how long plants take part in it.

    Raises:
        InvalidConfig, TrustError: as `signing_key`.
    """
    what = Signed(run, recipe_text(config.recipe), config.digest, tuple(plants))
    return sign(signing_key(folder), what, now + timedelta(days=valid_days))
