"""The examination: recognise, load, count, judge. `examine(path)` never raises for what is wrong with the data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from client.ingest import base
from client.ingest.base import Figure, Recognition
from client.ingest.doctor import damage, judge
from client.ingest.doctor.advise import advise, elsewhere
from client.ingest.doctor.columns import columns
from client.ingest.doctor.command import training_command
from client.ingest.doctor.findings import (
    KINDS_CHECKED,
    SEVERITIES,
    FigureEntry,
    FileEntry,
    Finding,
    Report,
    Section,
    shown,
)
from client.ingest.doctor.judge import Examined
from client.ingest.doctor.recognise import recognise
from client.ingest.doctor.repeats import repeated_rows
from client.ingest.peek import files_below
from shared.errors import CrossplantError, DataNotFound
from shared.series import SiteData

_LOOKED_AT = 1_000  # files of a folder that no loader counts as its own


def examine(path: Path) -> Report:
    """Say what a folder or a file is, whether it can be used, and everything that is worth knowing about it.

    Example:
        >>> examine(Path("no-such-folder")).usable
        False
    """
    try:
        found = recognise(path) if path.is_dir() or path.is_file() else ()
        if not found:
            return _unknown(path)
    except OSError as error:
        return _report(path, "The path cannot be read.", (), (_unreadable(path, error),))
    sections = tuple(_section(path, one) for one in found)
    return _report(path, _verdict(sections), sections, tuple(_strays(path, found)))


def _report(path: Path, verdict: str, sections: tuple[Section, ...], findings: tuple[Finding, ...]) -> Report:
    usable = bool(sections) and all(section.usable for section in sections)
    return Report(
        path=shown(path),
        usable=usable,
        verdict=verdict,
        sections=sections,
        findings=findings,
        known=tuple(base.known()),
    )


def _verdict(sections: Sequence[Section]) -> str:
    good = [section.dataset for section in sections if section.usable]
    bad = [section.dataset for section in sections if not section.usable]
    if not bad:
        warned = sum(finding.severity == "warning" for section in sections for finding in section.findings)
        told = f"; {warned} warning{'s' if warned > 1 else ''} to look at" if warned else ""
        return f"{_names(good)} can be used{told}."
    told = f"{_names(bad)} cannot be used as {'it is' if len(bad) == 1 else 'they are'}"
    return told + (f"; {_names(good)} can." if good else ".")


def _names(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _unknown(path: Path) -> Report:
    if not path.exists():
        near = difflib.get_close_matches(path.name, _beside(path), n=1)
        action = f"Did you mean {shown(path.with_name(near[0]))}?" if near else "Check the path."
        gone = Finding(severity="error", kind="path", where=shown(path), what="does not exist", action=action)
        return _report(path, "There is nothing at this path.", (), (gone,))
    return _report(path, "This is no data set that Crossplant knows.", (), tuple(advise(path)))


def _beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


def _unreadable(path: Path, error: OSError) -> Finding:
    what = f"cannot be read: {error.strerror or type(error).__name__}"
    action = "Check its permissions and the disk."
    where = shown(Path(error.filename)) if error.filename else shown(path)
    return Finding(severity="error", kind="path", where=where, what=what, action=action)


def _section(path: Path, found: Recognition) -> Section:
    """Load one data set and judge it; what the loader refuses is a finding."""
    findings = list(_damages(file.path for file in found.files))
    sites: tuple[Examined, ...] = ()
    figures: tuple[Figure, ...] = ()
    try:
        loaded = base.load(found.dataset, path)
        sites = tuple(_examined(site) for site in loaded)
        figures = base.find(found.dataset).figures(found, loaded)
        findings += _judged(found, sites, figures)
    except CrossplantError as error:
        what = f"{error.code} {type(error).__name__}: {error.cause}"
        where = found.dataset
        findings.append(Finding(severity="error", kind="load", where=where, what=what, action=error.cure))
        findings += elsewhere(path) if isinstance(error, DataNotFound) and not found.missing else ()
    usable = not any(finding.severity == "error" for finding in findings)
    findings += _lacking(found, usable)
    return Section(
        dataset=found.dataset,
        version=found.version,
        usable=usable,
        next=_command(found.dataset, path, sites) if usable else None,
        files=tuple(_file_entry(file.path, file.role) for file in found.files),
        missing=found.missing,
        figures=tuple(_figure_entry(figure) for figure in figures),
        sites=tuple(one.entry for one in sites),
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def _command(dataset: str, path: Path, sites: Sequence[Examined]) -> str:
    rows = [one.entry.train_rows for one in sites]
    partition = base.suiting(base.find(dataset).natural_partition, len(rows))
    return training_command(dataset, path, partition, rows, min(one.entry.period_s for one in sites))


def _file_entry(path: Path, role: str) -> FileEntry:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return FileEntry(path=shown(path), role=role, bytes=size)


def _figure_entry(figure: Figure) -> FigureEntry:
    return FigureEntry(what=figure.what, found=figure.found, published=tuple(figure.published), agrees=figure.agrees)


def _examined(site: SiteData) -> Examined:
    figures = columns(site)
    return Examined(judge.entry_of(site, figures), site.schema.tags, figures, repeated_rows(site), site.repairs)


def _strays(path: Path, found: Sequence[Recognition]) -> Iterator[Finding]:
    """Damaged files that no loader counts as its own, perhaps because of the damage."""
    own = {file.path for one in found for file in one.files}
    yield from _damages(file for file in islice(files_below(path), _LOOKED_AT) if file not in own)


def _damages(files: Iterable[Path]) -> Iterator[Finding]:
    """Files whose end is missing. A loader may still read what is there, so this alone does not condemn."""
    for file in files:
        try:
            sign = damage.broken(file)
        except OSError as error:
            sign = _unreadable(file, error)
        if sign is not None:
            yield sign.model_copy(update={"severity": "warning"})


def _lacking(found: Recognition, usable: bool) -> Iterator[Finding]:
    for what in found.missing:
        yield Finding(
            severity="note",
            kind="incomplete",
            where=found.dataset,
            what=f"not here: {what}",
            action="the rest is loaded without it" if usable else "add it if the error above names it",
        )


def _judged(found: Recognition, sites: Sequence[Examined], figures: Sequence[Figure]) -> list[Finding]:
    dataset = found.dataset
    told = [finding for one in sites for finding in judge.mended(one.repairs)]
    seen = [
        *(finding for one in sites for finding in judge.judge(one)),
        *judge.twin_sites(sites),
        *judge.schemas(dataset, sites),
        *(_disagreement(found, figure) for figure in figures if not figure.agrees),
        *_nothing_to_learn(dataset, sites),
    ]
    return [*_merged(told, seen), *_in_order(dataset, seen, figures)]


def _merged(told: Sequence[Finding], seen: Sequence[Finding]) -> Iterator[Finding]:
    """The loader's words where both speak of the same rows of the same part; the doctor's severity."""
    words = {(finding.where, finding.count): finding for finding in told}
    for finding in seen:
        same = words.pop((finding.where, finding.count), None) if finding.kind in ("twin-sites", "outlying") else None
        yield finding if same is None else finding.model_copy(update={"what": same.what, "action": same.action})
    yield from (finding for finding in told if words.get((finding.where, finding.count)) is not None)


def _disagreement(found: Recognition, figure: Figure) -> Finding:
    """A count unlike the published one; what is only a part of a data set need not agree."""
    published = " or ".join(f"{number:,}" for number in figure.published) or "nothing"
    return Finding(
        severity="note" if found.missing else "warning",
        kind="figure",
        where=found.dataset,
        what=f"{figure.what}: {figure.found:,}, published are {published}",
        count=figure.found,
        action="loaded as it is; published results are not for these rows",
    )


def _nothing_to_learn(dataset: str, sites: Sequence[Examined]) -> Iterator[Finding]:
    if sites and not any(one.learnable for one in sites):
        what = "no tag of any site ever changes in training: there is nothing to learn"
        action = "Check the export: are these the right files?"
        yield Finding(severity="error", kind="constant", where=dataset, what=what, count=len(sites), action=action)


def _in_order(dataset: str, seen: Sequence[Finding], figures: Sequence[Figure]) -> Iterator[Finding]:
    """What was looked for and not found, so that silence is not mistaken for not looking."""
    noticed = {finding.kind for finding in seen}
    for kind in KINDS_CHECKED:
        if kind not in noticed and (kind != "figure" or figures):
            yield Finding(severity="ok", kind=kind, where=dataset, what=_FINE[kind])


_FINE: dict[str, str] = {
    "figure": "all published figures agree",
    "missing": "no tag has gaps",
    "empty": "no tag is empty",
    "constant": "no tag stands still in training",
    "wakes": "no tag moves in the test data only",
    "outlying": "no reading is far outside what training shows",
    "twin-tags": "no two tags are the same",
    "twin-sites": "no two sites are the same",
    "repeats": "the test data repeats no training data",
    "labels": "labels are plausible",
    "schema": "all sites have the same tags and sampling",
}
