"""Every error a user of Crossplant can meet, in one tree.

    CrossplantError
    ├── ConfigError            CP-1xx  what was asked for
    │   ├── InvalidConfig      CP-101
    │   ├── UnknownName        CP-102
    │   ├── RunDirectoryInUse  CP-103
    │   ├── NothingToResume    CP-104
    │   ├── MissingExtra       CP-105
    │   └── FileTrouble        CP-106
    ├── DataError              CP-2xx  sensor data and schemas
    │   ├── DataNotFound       CP-201
    │   ├── DataUnreadable     CP-202
    │   ├── SchemaMismatch     CP-203
    │   ├── TooFewRows         CP-204
    │   ├── NothingToLearn     CP-205
    │   ├── TooFewSites        CP-206
    │   └── RateNotSupported   CP-207
    ├── RoundError             CP-3xx  federated rounds
    │   ├── NoCompatiblePlants CP-301
    │   └── RunFailed          CP-302
    ├── StoreError             CP-4xx  what is kept on disk
    │   ├── StoreNotFound      CP-401
    │   ├── StoreUnreadable    CP-402
    │   ├── RoundNotFound      CP-403
    │   ├── ModelCorrupt       CP-404
    │   ├── StoreBusy          CP-405
    │   └── DiskFull           CP-406
    ├── WireError              CP-5xx  messages between plant and server
    │   └── BadPayload         CP-501
    ├── PlantError             CP-6xx  inside one plant
    │   ├── BundleInvalid      CP-601
    │   ├── TaskGivenUp        CP-602
    │   ├── NotAllowed         CP-603
    │   ├── AgentUnreachable   CP-604
    │   ├── AuditBroken        CP-605
    │   └── AgentBusy          CP-606
    └── PrivacyError           CP-9xx  a promise about records that cannot be kept
        ├── PrivacyUnmet       CP-901
        ├── BudgetTooSmall     CP-902
        ├── BudgetSpent        CP-903
        ├── LedgerBroken       CP-904
        ├── TooFewRecords      CP-905
        ├── NoiseDrowns        CP-906
        └── SecureAggregationRefused CP-907

Two groups are beside what raises them: CP-7xx, who may take part (`shared/pki/trouble.py`), and CP-8xx, processes that
run for years (`shared/service_errors.py`).

Each error says what happened (with the value and the place), and what to do about it. The code is stable; the texts
are not.
"""

from __future__ import annotations

from typing import ClassVar


class CrossplantError(Exception):
    """An error that a user can understand and mend.

    Args:
        cause: one sentence: what is wrong, where, with which value.
        cure: one sentence: what to do about it. Defaults to the class's own.

    Example:
        >>> str(SchemaMismatch("plant 'north' lacks LIT301.", "Add it to the plant's tag map."))
        "CP-203 SchemaMismatch: plant 'north' lacks LIT301. Add it to the plant's tag map."
    """

    code: ClassVar[str] = "CP-000"
    cure: str = "Please report this with the command that led here."

    def __init__(self, cause: str, cure: str | None = None) -> None:
        self.cause = cause
        if cure is not None:
            self.cure = cure
        super().__init__(cause)

    def __str__(self) -> str:
        return f"{self.code} {type(self).__name__}: {self.cause} {self.cure}".strip()


class ConfigError(CrossplantError):
    """What was asked for cannot be done as asked."""

    code = "CP-100"
    cure = "See `crossplant simulate --help`."


class InvalidConfig(ConfigError):
    """A setting has a value outside what it may be, or two settings contradict each other."""

    code = "CP-101"
    cure = "`crossplant config show` prints every setting with its present value."


class UnknownName(ConfigError):
    """A registry was asked for a name that it does not hold."""

    code = "CP-102"

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"there is no {kind} called {name!r}.", f"Known: {', '.join(known)}.")


class RunDirectoryInUse(ConfigError):
    """The output folder already holds something."""

    code = "CP-103"
    cure = "Choose another --out, or continue that run with `crossplant simulate --resume OUT`."


class NothingToResume(ConfigError):
    """The folder given to --resume holds no run."""

    code = "CP-104"
    cure = "Give the folder that an earlier `crossplant simulate --out DIR` wrote."


class MissingExtra(ConfigError):
    """An optional part of Crossplant is not installed."""

    code = "CP-105"
    cure = "Install it with `pip install 'crossplant[EXTRA]'`."


class FileTrouble(ConfigError):
    """A file, folder or stream cannot be used as asked."""

    code = "CP-106"
    cure = "Check the path, its permissions and the free space."


class DataError(CrossplantError):
    """Sensor data is missing, unreadable or unusable."""

    code = "CP-200"
    cure = "Check the data folder against docs/data.md."


class DataNotFound(DataError):
    """A data file or folder does not exist."""

    code = "CP-201"
    cure = "Check --data, at a plant [data] of plant.toml; docs/data.md shows the layout of each data set."


class DataUnreadable(DataError):
    """A data file is not what its name says."""

    code = "CP-202"
    cure = "Copy the file again from its source."


class SchemaMismatch(DataError):
    """A plant's tags, units or sampling differ from those of the federation."""

    code = "CP-203"
    cure = "Add the missing tags to the plant's tag map, or leave the plant out of this run."


class TooFewRows(DataError):
    """A site has fewer rows than training and calibration need."""

    code = "CP-204"
    cure = "Give the site more data, choose a shorter --window, or a partition with larger sites."


class NothingToLearn(DataError):
    """A site's training data carries no variation or no numbers at all."""

    code = "CP-205"
    cure = "Leave the site out, or check its export."


class TooFewSites(DataError):
    """A federation needs at least two sites."""

    code = "CP-206"
    cure = "Choose a finer --partition or a higher --sites."


class RateNotSupported(DataError):
    """A false alarm rate was asked for that the plant's normal data cannot carry."""

    code = "CP-207"
    cure = "Hold out more normal data, or ask for a higher rate."


class RoundError(CrossplantError):
    """Federated rounds cannot go on."""

    code = "CP-300"


class NoCompatiblePlants(RoundError):
    """Too few plants are left after their schemas were compared."""

    code = "CP-301"
    cure = "`crossplant rounds show 1 --store DIR`, DIR as given to --out, lists each plant's reason."


class RunFailed(RoundError):
    """Rounds were skipped too often in a row."""

    code = "CP-302"
    cure = (
        "`crossplant rounds show N --store DIR`, DIR as given to --out, gives the reasons of round N; mend the plants, "
        "then `crossplant simulate --resume DIR`."
    )


class StoreError(CrossplantError):
    """The round store cannot be used."""

    code = "CP-400"


class StoreNotFound(StoreError):
    """There is no round store at the given place."""

    code = "CP-401"
    cure = "Give a folder that `simulate` or `poc up` wrote, a federation's that had a run, or a database URL."


class StoreUnreadable(StoreError):
    """The round store exists but cannot be read."""

    code = "CP-402"
    cure = "Restore it from a backup; model files are named by their SHA-256 digest."


class RoundNotFound(StoreError):
    """The store holds no such run or round."""

    code = "CP-403"
    cure = "`crossplant rounds list` shows what there is."


class ModelCorrupt(StoreError):
    """A model file is missing, or its content does not match its digest."""

    code = "CP-404"
    cure = "Restore the file from a backup, or resume from an earlier round."


class StoreBusy(StoreError):
    """Another process holds the run."""

    code = "CP-405"
    cure = "Wait for the other process to end, or end it."


class DiskFull(StoreError):
    """No space is left for what must be kept."""

    code = "CP-406"
    cure = "Free some space; what was committed is intact."


class WireError(CrossplantError):
    """A message does not say what its kind must say."""

    code = "CP-500"
    cure = "Run the same Crossplant version on both sides."


class BadPayload(WireError):
    """An array or value in a message is malformed."""

    code = "CP-501"


class PlantError(CrossplantError):
    """Something inside one plant."""

    code = "CP-600"


class BundleInvalid(PlantError):
    """A bundle is incomplete or its digests do not match."""

    code = "CP-601"
    cure = "Publish it again from its round, or keep the current one."


class TaskGivenUp(PlantError):
    """A task was stopped before its end."""

    code = "CP-602"
    cure = "Start it again."


class NotAllowed(PlantError):
    """The plant's policy does not allow what was asked.

    Args:
        word: the category, one of `client.agent.policy.WORDS`: all that the server hears besides the code.
    """

    code = "CP-603"
    cure = "The plant's policy.toml decides; nothing that a server sends changes it."

    def __init__(self, cause: str, cure: str | None = None, word: str = "policy") -> None:
        super().__init__(cause, cure)
        self.word = word


class AgentUnreachable(PlantError):
    """The plant agent does not answer on its socket."""

    code = "CP-604"
    cure = "Start it (`crossplant client run`, or its own `client agent`), or wait until it has read its data."


class AuditBroken(PlantError):
    """The audit log cannot be written, or its chain does not hold."""

    code = "CP-605"
    cure = "`crossplant client audit --config plant.toml --verify` names the line; nothing is answered unlogged."


class AgentBusy(PlantError):
    """The agent, its socket or its folder is in use."""

    code = "CP-606"
    cure = "Wait for what is under way, or end the other agent."


class PrivacyError(CrossplantError):
    """A promise about single records cannot be kept as asked."""

    code = "CP-900"
    cure = "`crossplant privacy plan` shows what a budget buys before anything is spent."


class PrivacyUnmet(PrivacyError):
    """A setting contradicts the differential privacy that is claimed."""

    code = "CP-901"
    cure = "Change the setting, or run without --epsilon; docs/privacy.md lists what a claim asks of the others."


class BudgetTooSmall(PrivacyError):
    """No noise of a useful size keeps the planned releases within epsilon."""

    code = "CP-902"
    cure = "Ask for a larger --epsilon or fewer rounds; `crossplant privacy plan` shows what each costs."


class BudgetSpent(PrivacyError):
    """A release would take a plant's ledger beyond its budget."""

    code = "CP-903"
    cure = "Nothing was sent. Raise the budget in the plant's policy.toml, or leave the plant out from here on."


class LedgerBroken(PrivacyError):
    """A privacy ledger cannot be written, or what it holds cannot be trusted."""

    code = "CP-904"
    cure = "Nothing is released without it: restore its folder, ledger.jsonl and key together, from a backup."


class TooFewRecords(PrivacyError):
    """A plant has too few records for the epsilon that is claimed."""

    code = "CP-905"
    cure = "Leave the plant out, give it more training data, choose a shorter --unit, or claim a larger --epsilon."


class NoiseDrowns(PrivacyError):
    """Central noise would be many times larger than the update it is added to."""

    code = "CP-906"
    cure = "Use --dp local, take part with more plants, or shrink the network."


class SecureAggregationRefused(PrivacyError):
    """Secure aggregation was asked for; Flower's gives no secrecy, and Crossplant brings none of its own."""

    code = "CP-907"
    cure = (
        "Leave it off: TLS, local differential privacy and the agent's policy carry the claim; "
        "docs/decisions/0014-secure-aggregation-is-refused.md gives the reasons."
    )
