"""From figures to findings: what each site's columns and labels say, and what is done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from client.ingest.doctor.columns import Column
from client.ingest.doctor.findings import Finding, Severity, SiteEntry
from client.ingest.doctor.repeats import STRETCH
from shared.metrics.events import spans
from shared.series import Repair, SiteData

SHOWN = 5  # tags that a finding names
_MOSTLY = 0.8  # more anomalous rows than this are rather a coding the other way round


@dataclass(frozen=True)
class Examined:
    """A site's figures, without its data.

    Attributes:
        entry: what the report prints of it.
        tags: column names.
        columns: figures of each column.
        repeated: test rows that repeat stretches of training rows.
        repairs: what the loader says.
    """

    entry: SiteEntry
    tags: tuple[str, ...]
    columns: tuple[Column, ...]
    repeated: int
    repairs: tuple[Repair, ...]

    @property
    def learnable(self) -> bool:
        """Whether anything moves in training."""
        return any(not column.constant and not column.empty for column in self.columns)


def entry_of(site: SiteData, columns: Sequence[Column]) -> SiteEntry:
    """The line of a site in the report."""
    labels_T = site.labels_T
    pairs = list(zip(site.schema.tags, columns, strict=True))
    return SiteEntry(
        name=site.name,
        group=site.group,
        tags=site.schema.dim,
        period_s=site.schema.period_s,
        train_rows=len(site.train_TD),
        test_rows=len(site.test_TD),
        train_recordings=len(site.train_starts),
        test_recordings=len(site.test_starts) if len(site.test_TD) else 0,
        labelled_rows=None if labels_T is None else int(np.count_nonzero(labels_T)),
        events=None if labels_T is None else len(spans(labels_T, site.test_starts)),
        missing_cells=sum(sum(column.missing) for column in columns),
        empty_tags=tuple(tag for tag, column in pairs if column.empty),
        constant_tags=tuple(tag for tag, column in pairs if column.constant),
    )


def judge(one: Examined) -> Iterator[Finding]:
    """Findings about one site, each about one kind of thing."""
    yield from _missing(one)
    yield from _still(one)
    yield from _wakes(one)
    yield from _outlying(one)
    yield from _twin_tags(one)
    yield from _labels(one.entry)
    if one.repeated:
        what = f"test rows repeat stretches of {STRETCH} or more training rows"
        action = "kept; scores on them flatter: leave one of the two out"
        yield Finding(
            severity="warning", kind="repeats", where=one.entry.name, what=what, count=one.repeated, action=action
        )


def _missing(one: Examined) -> Iterator[Finding]:
    partly = [
        (tag, sum(column.missing))
        for tag, column in zip(one.tags, one.columns, strict=True)
        if sum(column.missing) and not column.empty
    ]
    if partly:
        worst = sorted(partly, key=lambda pair: -pair[1])
        named = _named(f"{tag} {cells:,}" for tag, cells in worst)
        what = f"cells without a number in {len(partly)} of {one.entry.tags} tags, worst first: {named}"
        cells = sum(cells for _, cells in partly)
        yield _note("note", "missing", one, what, cells, "kept as missing; filled before training")


def _still(one: Examined) -> Iterator[Finding]:
    entry = one.entry
    if entry.empty_tags:
        # A dead tag is dead everywhere; one that lives in the test data only points to a bad export.
        lives = any(column.empty and not np.isnan(column.test_low) for column in one.columns)
        what = f"tags without any number in training: {_named(entry.empty_tags)}"
        action = "kept as empty columns; there is nothing in them to learn"
        yield _note("warning" if lives else "note", "empty", one, what, len(entry.empty_tags), action)
    if entry.constant_tags:
        what = f"tags that never change in training: {_named(entry.constant_tags)}"
        action = "kept; there is nothing in them to learn"
        yield _note("note", "constant", one, what, len(entry.constant_tags), action)


def _wakes(one: Examined) -> Iterator[Finding]:
    awake = [tag for tag, column in zip(one.tags, one.columns, strict=True) if column.moves_in_test]
    if awake:
        what = f"tags that never change in training but do in the test data: {_named(awake)}"
        action = "kept; no model has seen them move, so any move looks strange to it"
        yield _note("note", "wakes", one, what, len(awake), action)


def _outlying(one: Examined) -> Iterator[Finding]:
    for at, part in enumerate(("train", "test")):
        wild = [(tag, column) for tag, column in zip(one.tags, one.columns, strict=True) if column.wild[at]]
        if not wild:
            continue
        worst = sorted(wild, key=lambda pair: -pair[1].wild[at])
        named = _named(f"{tag} {column.wild[at]:,} ({_reach(column)})" for tag, column in worst)
        labelled = sum(column.wild_labelled for _, column in wild) if at else 0
        told = f"; {labelled:,} of them in rows labelled anomalous" if labelled else ""
        cells = sum(column.wild[at] for _, column in wild)
        usual = "what training shows" if at else "most of training"
        what = f"readings far outside {usual}, rows a tag: {named}{told}"
        action = "kept; live values are guarded, training values clipped at its quantiles"
        where = f"{one.entry.name}/{part}"
        yield Finding(severity="warning", kind="outlying", where=where, what=what, count=cells, action=action)


def _reach(column: Column) -> str:
    return f"as far as {column.peak:.5g}, training {column.low:.5g} to {column.high:.5g}"


def _twin_tags(one: Examined) -> Iterator[Finding]:
    first: dict[tuple[bytes, bytes], str] = {}
    twins = []
    for tag, column in zip(one.tags, one.columns, strict=True):
        if column.empty or (column.constant and not column.moves_in_test):
            continue
        if (other := first.setdefault(column.digest, tag)) != tag:
            twins.append(f"{tag} = {other}")
    if twins:
        what = f"tags with the same readings as another: {_named(twins)}"
        yield _note("note", "twin-tags", one, what, len(twins), "kept; one of each would do")


def _labels(entry: SiteEntry) -> Iterator[Finding]:
    def told(severity: Severity, what: str, count: int, action: str) -> Finding:
        where = f"{entry.name}/test"
        return Finding(severity=severity, kind="labels", where=where, what=what, count=count, action=action)

    if not entry.test_rows:
        yield told("note", "there is no test data", 0, "trained on; nothing is measured")
    elif entry.labelled_rows is None:
        yield told("warning", "no labels are used", entry.test_rows, "scored; quality cannot be measured")
    elif entry.labelled_rows == 0:
        yield told("warning", "no row is labelled anomalous", 0, "scored; only false alarms can be measured")
    elif entry.labelled_rows > _MOSTLY * entry.test_rows:
        share = entry.labelled_rows / entry.test_rows
        what = f"{share:.0%} of the rows are labelled anomalous: is the coding the other way round?"
        yield told("warning", what, entry.labelled_rows, "used as they are")


def twin_sites(sites: Sequence[Examined]) -> Iterator[Finding]:
    """Parts of sites that are equal to one met before, cell by cell."""
    first: dict[tuple[bytes, ...], str] = {}
    for one in sites:
        for at, (part, rows) in enumerate((("train", one.entry.train_rows), ("test", one.entry.test_rows))):
            if not rows:
                continue
            where = f"{one.entry.name}/{part}"
            twin = first.setdefault(tuple(column.digest[at] for column in one.columns), where)
            if twin != where:
                action = "kept; keep both on one side of any split"
                what = f"equals {twin}"
                yield Finding(severity="warning", kind="twin-sites", where=where, what=what, count=rows, action=action)


def schemas(dataset: str, sites: Sequence[Examined]) -> Iterator[Finding]:
    """Whether sites could train one model: the same tags and sampling."""
    kinds = Counter((one.tags, one.entry.period_s) for one in sites)
    if len(kinds) > 1:
        alike = max(kinds.values())
        what = f"{len(sites)} sites have {len(kinds)} different sets of tags or sampling periods{_difference(sites)}"
        action = "each is loaded; sites that differ do not train one model"
        if alike < 2:
            action += ". Give all the same tags (`leave_out` in historian.toml), or check one plant alone"
        severity: Severity = "warning" if alike > 1 else "error"
        yield Finding(severity=severity, kind="schema", where=dataset, what=what, count=len(kinds), action=action)


def _difference(sites: Sequence[Examined]) -> str:
    """What tells the first site that differs from the first one."""
    first = sites[0]
    for one in sites:
        if odd := sorted(set(one.tags) ^ set(first.tags)):
            return f"; {first.entry.name} and {one.entry.name} differ by {_named(odd)}"
    return ""


def mended(repairs: Iterable[Repair]) -> Iterator[Finding]:
    """What the loader says, one finding a note. By custom a note reads `what was found: what was done`."""
    for repair in repairs:
        what, _, action = repair.what.partition(": ")
        yield Finding(
            severity="note", kind="repair", where=repair.where, what=what, count=repair.count, action=action or "mended"
        )


def _note(severity: Severity, kind: str, one: Examined, what: str, count: int, action: str) -> Finding:
    return Finding.model_validate(
        {"severity": severity, "kind": kind, "where": one.entry.name, "what": what, "count": count, "action": action}
    )


def _named(names: Iterable[str]) -> str:
    """The first few names."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
