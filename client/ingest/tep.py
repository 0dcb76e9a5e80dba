"""`tep`: the Tennessee Eastman chemical process, one simulated plant, 41 measurements and 11 valves every 3 minutes.

Sources: Downs and Vogel 1993, doi 10.1016/0098-1354(93)80018-I; the runs are those of Russell, Chiang and Braatz 2000,
doi 10.1007/978-1-4471-0409-4 (https://github.com/camaramm/tennessee-eastman-profBraatz). Layout below PATH: `dNN.dat`
and `dNN_te.dat`, NN the number of the fault, 00 for none; text, numbers between blanks, no header, one row a sample,
but `d00.dat` has one row a variable and is turned.

What is done with them, as in the literature: the normal run `d00` (500 rows) is the training data; every `dNN_te` (960
rows) is one recording of the test data, and its fault begins after 8 hours, at row 160. All runs come from one plant
in one operating mode, so this is one natural site, and a federation is made of it by time: each plant then meets
faults of its own. A site for each fault that all train on the same `d00` would be one plant counted many times. 500
normal rows are few: with windows of 30 rows there is enough for three plants, so give `--sites 3`. The runs `d01` to
`d21` without `_te` are faulty almost throughout and are not used. The later release of Rieth et al. 2017 (`.RData`) is
recognised but not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from client.ingest.base import Figure, FoundFile, Recognition, register
from client.ingest.files import to_float32
from client.ingest.matrix import first_numbers, read_matrix
from client.ingest.peek import Head, files_below, peek
from shared.errors import DataNotFound, DataUnreadable
from shared.schema import SensorSchema
from shared.series import BoolArray, FloatArray, Repair, SiteData

TAGS = (*(f"XMEAS({at})" for at in range(1, 42)), *(f"XMV({at})" for at in range(1, 12)))
PERIOD_S = 180
FAULTS = 21
ROWS = {"train": 500, "test": 960}
FAULT_ROW = 160
"""The fault of a test run begins after 8 hours."""

VERSION, RIETH = "Braatz", "Rieth et al. 2017 (RData), which is not read"
ADVICE = (
    "Use the files d00.dat to d21_te.dat of Braatz's release, or write the runs as plants for the historian loader."
)
_RUN = re.compile(r"d(\d\d)(_te)?", re.IGNORECASE)
Run = tuple[int, bool]


class Tep:
    """The process."""

    name = "tep"
    natural_partition = "by-time"

    def recognise(self, path: Path) -> Recognition | None:
        """By 52 numbers a line (or 52 lines) with a plausible feed and reactor pressure; see `Loader.recognise`."""
        runs, unnamed, rieth = _find(path)
        if runs:
            files = (*(FoundFile(file, _role(run)) for run, file in runs.items()), *unnamed)
            return Recognition(self.name, VERSION, files, tuple(_missing(runs)))
        if unnamed:
            return Recognition(self.name, VERSION, unnamed, ("file names such as d00.dat, which say the fault",))
        return Recognition(self.name, RIETH, rieth) if rieth else None

    def figures(self, found: Recognition, sites: Sequence[SiteData]) -> tuple[Figure, ...]:
        """Rows of the normal run, test runs and faulty test rows; see `Loader.figures`."""
        if found.version != VERSION:
            return ()
        labelled = sum(int(site.labels_T.sum()) for site in sites if site.labels_T is not None)
        faulty_rows = ROWS["test"] - FAULT_ROW
        return (
            Figure("tags", sites[0].schema.dim, (len(TAGS),)),
            Figure("rows of the normal training run", sum(len(site.train_TD) for site in sites), (ROWS["train"],)),
            Figure("test rows", sum(len(site.test_TD) for site in sites), ((FAULTS + 1) * ROWS["test"],)),
            Figure("test rows after a fault began", labelled, (FAULTS * faulty_rows,)),
        )

    def load(self, path: Path) -> tuple[SiteData, ...]:
        """Read the one plant; see `Loader.load`."""
        runs, unnamed, rieth = _find(path)
        if not runs and rieth:
            raise DataUnreadable(f"{rieth[0].path} is of the release of {RIETH}.", ADVICE)
        if (0, False) not in runs:
            cure = "Give the folder that also holds it: the other runs are faulty."
            raise DataNotFound(f"{path} holds no normal run d00.dat to train on.", cure)
        train_TD, turned = _read(runs[0, False], ROWS["train"])
        tests = {fault: _read(file, ROWS["test"]) for (fault, test), file in runs.items() if test}
        test_TD = np.concatenate([values_TD for values_TD, _ in tests.values()]) if tests else train_TD[:0]
        site = SiteData(
            name="tep",
            schema=SensorSchema(tags=TAGS, period_s=PERIOD_S),
            train_TD=train_TD,
            test_TD=test_TD,
            labels_T=np.concatenate([_faulty_rows(fault) for fault in tests]) if tests else None,
            test_starts=tuple(accumulate((ROWS["test"] for _ in list(tests)[1:]), initial=0)),
            source=f"TEP {path}; test runs {', '.join(f'd{fault:02d}_te' for fault in tests) or 'none'}",
            repairs=(*turned, *(note for _, notes in tests.values() for note in notes), *_unused(runs, unnamed)),
        )
        return (site,)


def _find(path: Path) -> tuple[dict[Run, Path], tuple[FoundFile, ...], tuple[FoundFile, ...]]:
    """Runs by fault and part in order, files with the content of a run but not its name, and files of Rieth's."""
    runs: dict[Run, Path] = {}
    unnamed, rieth = [], []
    for file in files_below(path, depth=2):
        named = _RUN.fullmatch(file.stem) if file.suffix.lower() in (".dat", ".txt", ".csv") else None
        head = peek(file)
        if _is_rieth(file, head):
            rieth.append(FoundFile(file, "runs of Rieth's release"))
        elif named and int(named[1]) <= FAULTS and (_looks_like_a_run(head) or _is_dat(file)):
            runs.setdefault((int(named[1]), named[2] is not None), file)
        elif _looks_like_a_run(head):
            unnamed.append(FoundFile(file, "a run whose name does not say the fault"))
    if not any(_looks_like_a_run(peek(file)) for file in runs.values()):
        runs = {}
    return dict(sorted(runs.items())), tuple(unnamed), tuple(rieth)


def _is_dat(file: Path) -> bool:
    return file.suffix.lower() == ".dat"


def _is_rieth(file: Path, head: Head) -> bool:
    if file.suffix.lower() == ".rdata":
        return file.name.lower().startswith("tep_")
    return bool(head.lines) and "simulationRun" in head.lines[0] and "xmeas_1" in head.lines[0]


def _looks_like_a_run(head: Head) -> bool:
    first = first_numbers(head)
    if len(first) == len(TAGS):
        return _plausible(first[1], first[6])
    if len(first) < 100:
        return False
    feed, pressure = first_numbers(head, 1), first_numbers(head, 6)
    return bool(feed and pressure) and _plausible(feed[0], pressure[0])


def _plausible(feed: float, pressure: float) -> bool:
    """XMEAS(2), the D feed, is about 3,650 kg/h; XMEAS(7), the reactor's pressure, about 2,705 kPa and never 3,000."""
    return 1_000 < feed < 8_000 and 2_000 < pressure <= 3_000


def _role(run: Run) -> str:
    fault, test = run
    what = f"fault {fault}" if fault else "normal"
    return f"{what}, test" if test else f"{what}, training" if not fault else f"{what}, training (not used)"


def _missing(runs: Mapping[Run, Path]) -> Iterator[str]:
    for test in (False, True):
        lost = [f"d{fault:02d}{'_te' * test}.dat" for fault in range(FAULTS + 1) if (fault, test) not in runs]
        if lost:
            yield ", ".join(lost)


def _read(path: Path, rows: int) -> tuple[FloatArray, tuple[Repair, ...]]:
    values = read_matrix(path)
    dim = len(TAGS)
    notes: tuple[Repair, ...] = ()
    if values.shape == (dim, rows):
        values = values.T
        notes = (Repair(path.name, f"one row a variable ({dim} x {rows}): turned to one row a sample", rows),)
    if values.shape != (rows, dim):
        cause = f"{path} has the shape {values.shape} where ({rows}, {dim}) or ({dim}, {rows}) is expected."
        raise DataUnreadable(cause, "Copy it again from its source: labels go by row, and would be shifted.")
    _, first = np.unique(values, axis=0, return_index=True)
    if len(first) < rows:
        row = int(np.setdiff1d(np.arange(rows), first)[0])
        cause = f"{path}: sample {row + 1} repeats an earlier one, which measured noise never does."
        raise DataUnreadable(cause, "Copy it again from its source: labels go by row, and would be shifted.")
    return to_float32(values), notes


def _faulty_rows(fault: int) -> BoolArray:
    return (np.arange(ROWS["test"]) >= FAULT_ROW) & (fault > 0)


def _unused(runs: Mapping[Run, Path], unnamed: Sequence[FoundFile]) -> Iterator[Repair]:
    faulty = [fault for fault, test in runs if fault and not test]
    if faulty:
        yield Repair(f"d{faulty[0]:02d}.dat to d{faulty[-1]:02d}.dat", "training runs of faults: not used", len(faulty))
    for file in unnamed:
        yield Repair(file.path.name, "looks like a run, but its name does not say the fault: left out", 1)


register(Tep())
