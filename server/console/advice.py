"""What to do about a plant's reply that did not count. Its reason begins with a stable word, or is a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from server.console.figures import cut
from shared import service_errors as _services  # noqa: F401 (its errors count among the classes)
from shared.errors import CrossplantError
from shared.pki import trouble as _pki  # noqa: F401 (so do its)

REFUSED = "refused by the plant"
"""How the reason begins of a plant that did not want to take part."""

_CODE = re.compile(r"CP-\d{3}")
_NETWORK = "Look whether its machine and its agent run, and at its line: `crossplant preflight` at the plant."
_LOG = "Its own log says more: `crossplant client audit` at the plant."
_TELL = "Nothing needs to be done."


@dataclass(frozen=True)
class Advice:
    """A reason in other words.

    Attributes:
        kind: one or two words.
        tone: `quiet`, `warn` or `bad`.
        meaning: what happened.
        cure: what to do about it.
    """

    kind: str
    tone: str
    meaning: str
    cure: str


_BY_WORD: tuple[tuple[str, Advice], ...] = (
    ("joined:", Advice("joins", "quiet", "A plant that was not there when the run began: it fits.", _TELL)),
    ("returned:", Advice("returns", "quiet", "A member that was left out fits again.", _TELL)),
    ("absent:", Advice("absent", "warn", "It was not connected, or went away during the round.",
                       f"It is asked again as soon as it is back. {_NETWORK}")),
    ("late:", Advice("late", "warn", "It was slower than the round's deadline, or than the grace after the quorum.",
                     "It is asked again. If that lasts, raise `rounds.deadline_s` or `rounds.grace_s`, or give it a "
                     "faster machine.")),
    ("schema:", Advice("other sensors", "bad", "Its sensors are not the federation's.",
                       "Compare the fingerprints (`crossplant preflight` at the plant), mend its tag map, or start a "
                       "new run with the new schema.")),
    ("detector:", Advice("other network", "bad", "It builds another network from the same recipe.",
                         "Give it the same version of Crossplant as the others have.")),
    ("changed:", Advice("other data", "warn", "Its training data is not what it began the run with.",
                        "The next run takes it as it is; for this one, put the data back.")),
    ("name:", Advice("name taken", "bad", "It answers under another plant's name.",
                     "Find out which machine it is; every plant has a name and a kit of its own.")),
    ("replay:", Advice("replay", "bad", "An update that was sent before, for another model.",
                       "Look into that plant's audit log and keys: something repeats its messages.")),
    ("failed:", Advice("failed", "bad", "The plant's software failed while it answered.", _LOG)),
    ("noise:", Advice("too little noise", "bad", "Its update carries less noise than the run's promise asks for.",
                      "Do not count on the privacy of that plant: compare its version and its policy with the run's.")),
    ("protocol version", Advice("other version", "bad", "It speaks another version of the protocol.",
                                "Update the older side.")),
    ("update norm", Advice("too large", "bad", "Its update is larger than `rounds.max_update_norm` allows.",
                           "Look at its data for sensors that jumped or stand still, before the cap is raised.")),
)  # fmt: skip
_OTHER = Advice("invalid", "bad", "Its reply did not pass the checks, and was left out of the mean.",
                f"If it happens again, look at the plant's version and data. {_LOG}")  # fmt: skip
_STALE = Advice("stale", "warn", "It answered an earlier request.", "It is asked again; if that lasts, restart it.")
_VALUES = Advice("bad values", "bad", "Its update holds values that are no numbers, or far too large.",
                 "Look at its data for gaps and sensors that jumped: `crossplant data check` there.")  # fmt: skip


def advise(reason: str | None) -> Advice:
    """What a reason means, and what to do.

    Example:
        >>> advise("late: no reply within 40 s").kind, advise("refused by the plant: CP-903 BudgetSpent").kind
        ('late', 'refused')
    """
    reason = reason or ""
    if reason.startswith(REFUSED):
        return _refusal(reason)
    for word, advice in _BY_WORD:
        if reason.startswith(word):
            return advice
    if "stale reply" in reason:
        return _STALE
    return _VALUES if re.search(r"nan|finite|beyond", reason, re.IGNORECASE) else _OTHER


def _refusal(reason: str) -> Advice:
    found = _CODE.search(reason)
    known = _errors().get(found[0]) if found else None
    if known is None:
        return Advice("refused", "bad", "The plant did not want to take part.", _LOG)
    said = " ".join((known.__doc__ or "").strip().split("\n\n")[0].split())
    return Advice("refused", "bad", f"The plant said: {cut(said, 300)}", f"{known.cure} {_LOG}")


@cache
def _errors() -> dict[str, type[CrossplantError]]:
    return {found.code: found for found in _below(CrossplantError)}


def _below(parent: type[CrossplantError]) -> Iterator[type[CrossplantError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _below(child)
