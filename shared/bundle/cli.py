"""`crossplant bundle`: look into a bundle, and check it as an edge box would."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.bundle.edge import EdgeBundle, read_edge_bundle
from shared.bundle.files import CURRENT
from shared.bundle.folder import versions
from shared.bundle.trust import Trust, check_any_signature, fingerprint, read_signature
from shared.errors import BundleInvalid

bundle_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Look into a bundle; check its signature and its files."
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A bundle, or the folder of versions that an agent wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_INDENT = " " * 13  # where what is told begins


@bundle_app.command()
def show(folder: Folder, as_json: Json = False) -> None:
    """Print what a bundle holds. Its digests are checked, its signature is not."""
    content = described(folder, read_edge_bundle(folder))
    typer.echo(
        json.dumps(content, indent=1) if as_json else "\n".join(_wrapped(_printable(line)) for line in _lines(content))
    )


@bundle_app.command()
def verify(
    folder: Folder,
    trust: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The agent's bundle.pub. Without it any signer will do.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check signature, digests and that all parts fit; the exit code is 0 if they do."""
    bundle = read_edge_bundle(folder, None if trust is None else Trust(trust))
    signer = bundle.signer or check_any_signature(bundle.folder)
    if as_json:
        typer.echo(json.dumps({"digest": bundle.digest, "signer": signer, "trusted": trust is not None}, indent=1))
        return
    typer.echo(f"bundle     {bundle.digest}\nsigned by  {signer}")
    if trust is None:
        typer.echo("Whether that is the plant's own key was not checked: give --trust FILE,\nthe agent's bundle.pub.")


def described(folder: Path, bundle: EdgeBundle) -> dict[str, Any]:
    """What `show` prints, as plain JSON values."""
    figures, clusters = bundle.calibration, bundle.clusters
    others = versions(folder) if (folder / CURRENT).exists() else (bundle.digest,)
    return {
        "digest": bundle.digest,
        "folder": str(bundle.folder),
        "signed_by": _claimed_signer(bundle.folder),
        "versions": list(others),
        "provenance": bundle.provenance.as_dict(),
        "setup": bundle.setup.as_dict(),
        "tags": list(bundle.schema.tags),
        "period_s": bundle.schema.period_s,
        "clusters": None if clusters is None else {"all": clusters.count, "active": int(clusters.active_K.sum())},
        "threshold": {k: v for k, v in bundle.threshold.as_dict().items() if k != "tracking"},
        "calibration": {
            "holdout_loss": figures.holdout_loss,
            "windows": figures.distribution.size,
            "effective_size": figures.effective_size,
            "score_quantiles": {f"{share:g}": figures.distribution.quantile(share) for share in _QUANTILES},
            "rehearsal": None if figures.rehearsal is None else figures.rehearsal.as_dict(),
            "occupancy": list(figures.occupancy),
            "tag_error": dict(zip(bundle.schema.tags, figures.tag_error, strict=True)),
        },
        "probe_windows": len(bundle.probe.scores_M),
        "graph_bytes": len(bundle.graph),
        "int8": bundle.graph_int8 is not None,
        "guard": bundle.guard is not None,
    }


def _claimed_signer(folder: Path) -> str | None:
    """Fingerprint of the key that a bundle says it is signed with; None if it is not signed."""
    try:
        return fingerprint(read_signature(folder).key_bytes)
    except BundleInvalid:
        return None


def _lines(content: dict[str, Any]) -> list[str]:
    p, t, c = content["provenance"], content["threshold"], content["calibration"]
    clusters = content["clusters"]
    asked = "" if t.get("false_alarm_rate") is None else f" for {t['false_alarm_rate']:.3%} false alarms"
    rehearsal, rows = c["rehearsal"], content["setup"]["window"]
    unseen = (
        "too little data to tell" if rehearsal is None else f"{rehearsal['rate']:.3%} of {rehearsal['size']} windows"
    )
    return [
        f"bundle       {content['digest']}",
        f"site         {p['site']}, bundle {p['number']}; {len(content['versions'])} kept",
        f"model        {p['model'][:12]} of run {p['run']}, round {p['round']}; {content['setup']['detector']}",
        f"signed by    {content['signed_by'] or 'nobody'} (not checked: crossplant bundle verify)",
        f"columns      {len(content['tags'])} tags every {content['period_s']:g} s; windows of {rows} rows",
        f"clusters     {'none' if clusters is None else '{active} of {all} active'.format(**clusters)}",
        f"threshold    {t['value']:.4g} by {t['rule']}{asked}; {t['status']}{': ' + t['note'] if t['note'] else ''}",
        f"calibrated   on {c['windows']} windows, worth {c['effective_size']:.0f}; loss {c['holdout_loss']:.4g}",
        f"scores       {', '.join(f'{float(q):.1%}: {value:.4g}' for q, value in c['score_quantiles'].items())}",
        f"false alarms {unseen} of unseen normal data, by a threshold set on the rest",
        f"parts        graph {content['graph_bytes'] / 1e6:.2f} MB, probe of {content['probe_windows']} windows, "
        f"int8 {'yes' if content['int8'] else 'no'}, local guard {'yes' if content['guard'] else 'no'}",
    ]


def _wrapped(line: str) -> str:
    """A line of `show` on 80 columns; a digest or a name that is longer stays whole."""
    found = textwrap.wrap(line, 80, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)
    return "\n".join(found)


def _printable(line: str) -> str:
    """A bundle from somewhere may hold names that would steer the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)
