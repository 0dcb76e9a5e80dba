"""A report as text for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from client.ingest.doctor.findings import Finding, Report, Section, Severity, SiteEntry

if TYPE_CHECKING:
    from rich.console import Console

_SITES, _FILES, _ALIKE = 12, 8, 3  # lines of each; --json has all
_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}


def as_json(report: Report) -> str:
    """The report as one JSON object, in ASCII."""
    return json.dumps(report.model_dump(mode="json"), indent=1, allow_nan=False)


def plain(text: str) -> str:
    """Text that cannot steer a terminal: what is not printable becomes a visible escape.

    Example:
        >>> plain("tag" + chr(27) + "[2J") == "tag" + chr(92) + "x1b[2J"
        True
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def print_text(report: Report, console: Console) -> None:
    """Print a report; every name in it is shown as text, whatever it contains."""
    page = _Page(console)
    for section in report.sections:
        _section(page, section, report.path)
    for finding in report.findings:
        page.finding(finding)
    page.line(report.verdict)
    if not report.sections:
        page.line(f"Known data sets: {', '.join(report.known)}. `crossplant data list` says what each needs.")
    page.line(f"usable: {'yes' if report.usable else 'no'}", "bold green" if report.usable else "bold red")
    for section in report.sections:
        if section.next:
            page.line(f'at a plant: dataset = "{section.dataset}" below [data] in its plant.toml')
            page.line(f"next: {section.next}", whole=True)


class _Page:
    """Writes lines that wrap with a hanging indent; nothing in them is markup."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str, style: str = "", whole: bool = False) -> None:
        from rich.text import Text

        self.console.print(Text(plain(text), style=style), soft_wrap=whole, highlight=False)

    def hanging(self, first: str, text: str, style: str = "", width: int = 9) -> None:
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        row.add_column(min_width=width, no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(Text(plain(first), style=style), Text(plain(text)))
        self.console.print(row, highlight=False)

    def finding(self, finding: Finding) -> None:
        counted = f" ({finding.count:,})" if finding.count and finding.kind != "figure" else ""
        action = f" -> {finding.action}" if finding.action else ""
        text = f"{finding.where}: {finding.what}{counted}{action}"
        self.hanging(finding.severity, text, _STYLES[finding.severity])


def _section(page: _Page, section: Section, root: str) -> None:
    page.line(f"{section.dataset}: {section.version}", "bold")
    _files(page, section, root)
    if section.sites:
        page.hanging("sites", _summary(section.sites))
        _site_table(page, section.sites)
    for figure in section.figures:
        published = " or ".join(f"{number:,}" for number in figure.published)
        agrees = "as published" if figure.agrees else f"published: {published}"
        page.hanging("figure", f"{figure.what}: {figure.found:,} ({agrees})")
    _findings(page, section.findings)
    page.line("")


def _files(page: _Page, section: Section, root: str) -> None:
    for file in section.files[:_FILES]:
        page.hanging("file", f"{_below(file.path, root)} ({file.role}, {_size(file.bytes)})")
    if len(section.files) > _FILES:
        total = sum(file.bytes for file in section.files)
        page.hanging("", f"and {len(section.files) - _FILES} more files, {_size(total)} in all")


def _below(path: str, root: str) -> str:
    """A path as seen from the folder that was given.

    Example:
        >>> _below("/data/skab/valve1/0.csv", "/data/skab"), _below("a.csv", "a.csv")
        ('valve1/0.csv', 'a.csv')
    """
    return path.removeprefix(root.rstrip("/") + "/")


def _summary(sites: Sequence[SiteEntry]) -> str:
    train, test = sum(site.train_rows for site in sites), sum(site.test_rows for site in sites)
    tags = sorted({site.tags for site in sites})
    labelled = [site.labelled_rows for site in sites if site.labelled_rows is not None]
    parts = [f"{len(sites):,}", f"{train:,} training rows", f"{test:,} test rows"]
    if labelled:
        rows = sum(site.test_rows for site in sites if site.labelled_rows is not None)
        events = sum(site.events or 0 for site in sites)
        parts.append(f"{sum(labelled):,} of them anomalous ({sum(labelled) / max(1, rows):.2%}) in {events:,} events")
    parts.append(f"{' or '.join(map(str, tags[:4]))} tags")
    parts.append(f"every {' or '.join(f'{s:g}' for s in sorted({site.period_s for site in sites})[:4])} s")
    cells = train * tags[0] + test * tags[0] if len(tags) == 1 else 0
    missing = sum(site.missing_cells for site in sites)
    parts.append(f"{missing:,} cells missing" + (f" ({missing / cells:.2%})" if cells and missing else ""))
    return ", ".join(parts)


def _site_table(page: _Page, sites: Sequence[SiteEntry]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    if len(sites) == 1 and sites[0].train_recordings + sites[0].test_recordings <= 2:
        return
    table = Table(box=SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_column("site", overflow="fold")
    for title in ("train", "test", "parts", "anomalous", "events", "missing", "still"):
        table.add_column(title, justify="right", no_wrap=True)
    for site in sites[:_SITES]:
        table.add_row(Text(plain(site.name)), *_figures(site))
    page.console.print(table, highlight=False)
    if len(sites) > _SITES:
        page.line(f"and {len(sites) - _SITES} more sites; --json lists them all")


def _figures(site: SiteEntry) -> Iterator[str]:
    """A site's cells: recordings are `parts`, empty and constant tags are `still`."""
    yield f"{site.train_rows:,}"
    yield f"{site.test_rows:,}"
    yield f"{site.train_recordings}+{site.test_recordings}"
    yield "-" if site.labelled_rows is None else f"{site.labelled_rows:,}"
    yield "-" if site.events is None else f"{site.events:,}"
    yield f"{site.missing_cells:,}"
    yield f"{len(site.empty_tags) + len(site.constant_tags)}"


def _findings(page: _Page, findings: Sequence[Finding]) -> None:
    """Findings of one kind together, the largest first; what was in order in one line."""
    loud = [finding for finding in findings if finding.severity != "ok"]
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in loud:
        groups.setdefault((finding.severity, _alike(finding)), []).append(finding)
    for group in groups.values():
        same = sorted(group, key=lambda finding: -finding.count)
        for finding in same[:_ALIKE]:
            page.finding(finding)
        if len(same) > _ALIKE:
            page.hanging("", f"and the same of {len(same) - _ALIKE} more: {_wheres(same[_ALIKE:])}")
    fine = [finding.what for finding in findings if finding.severity == "ok"]
    if fine:
        page.hanging("ok", "; ".join(fine), _STYLES["ok"])


def _alike(finding: Finding) -> str:
    return finding.what if finding.kind in ("repair", "incomplete", "figure", "file") else finding.kind


def _wheres(findings: Sequence[Finding], most: int = 6) -> str:
    names = [finding.where for finding in findings]
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _size(count: int) -> str:
    """Bytes in decimal units.

    Example:
        >>> _size(999), _size(614_000_000)
        ('999 B', '614.0 MB')
    """
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
