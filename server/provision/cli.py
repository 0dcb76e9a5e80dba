"""`crossplant provision`: set up a federation, take plants in, take them out, renew. Heavy imports wait for a command.

`site new` and `install` run at a plant and need nothing of the server; all other commands run at the operator.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.provision.federation import Federation
    from server.provision.site import Site

provision_app = typer.Typer(
    name="provision", help="Set up a federation; take plants in and out.", no_args_is_help=True, add_completion=False
)
site_app = typer.Typer(name="site", help="One plant: new, approve, revoke, list.", no_args_is_help=True)
provision_app.add_typer(site_app)

Fed = Annotated[Path, typer.Argument(metavar="FED_DIR", help="The operator's folder.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The plant.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@provision_app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)],
    name: Annotated[str, typer.Option(metavar="FED", help="The federation's name.")],
    host: Annotated[
        list[str],
        typer.Option(metavar="NAME|IP", help="Name or address that plants dial; again for more: kits name the first."),
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The gateway's port.")] = 9443,
    loopback: Annotated[bool, typer.Option("--loopback", help="The certificate is for localhost, too.")] = False,
    tags: Annotated[str | None, typer.Option(metavar="HEX", help="Schema that every plant must have.")] = None,
) -> None:
    """Make a federation: its authority and the server's certificate.

    The environment variable CROSSPLANT_CA_PASSPHRASE, when set, locks the authority's key.
    """
    from server.provision.federation import LOOPBACK, create
    from shared.pki.certificates import authority_fingerprint
    from shared.pki.keys import PASSPHRASE, passphrase_from_environment

    made = create(folder, name, [*host, *(LOOPBACK if loopback else ())], port, _now(), tags)
    _say(f"Federation {name}: {folder}")
    _say(f"  authority    until {made.authority.not_valid_after_utc:%Y-%m-%d}")
    _say(f"  fingerprint  {authority_fingerprint(made.authority)}")
    _say(f"  signs runs   {made.signer}")
    _say(f"  plants dial  {made.settings.hosts[0]}:{port}")
    if passphrase_from_environment() is None:
        _warn(
            f"the authority's key {folder / 'ca' / 'ca.key'} and the key that signs runs are not locked; "
            f"set {PASSPHRASE} before `init` to lock them."
        )


@provision_app.command("signer")
def signer(
    folder: Fed,
    new: Annotated[bool, typer.Option("--new", help="Make one, in a folder that is older than signatures.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make one in the place of the one that is there.")] = False,
) -> None:
    """The key that signs runs: print its fingerprint, which plants name in their policy as `signers`."""
    from server.provision.federation import opened
    from server.provision.signing import make_key

    with opened(folder) as federation:
        made = make_key(federation, replace) if new or replace else federation.signer
    if made is None:
        _say(f"{folder} has no key that signs runs: `crossplant provision signer {folder} --new` makes one.")
        return
    _say(made)
    if new or replace:
        _warn("plants that name signers in policy.toml refuse runs from now on until they name this one.")


@site_app.command("new")
def site_new(
    name: Name,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The plant's folder to make.")],
) -> None:
    """At the plant: make its keys and its request. The private keys never leave the folder."""
    from shared.pki.request import REQUEST, new_site

    request = new_site(name, out)
    _say(f"Keys of {name}: {out}")
    _say(f"  send to the operator      {out / REQUEST}")
    _say(f"  read out on the telephone {request.fingerprint}")


@site_app.command("approve")
def site_approve(
    folder: Fed,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The plant's request.toml.", show_default=False)],
    fingerprint: Annotated[str | None, typer.Option(metavar="HEX", help="As the plant reads it out.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="A revoked plant comes back with new keys.")] = False,
) -> None:
    """Take a plant in: check its request, issue its certificate, write its node key into the roster."""
    from server.provision.change import approve
    from server.provision.federation import opened
    from shared.pki.request import read_request

    now, read = _now(), read_request(request)
    with opened(folder) as federation:
        site = approve(federation, read, now, fingerprint, replace)
        _say(f"{site.name} is approved until {site.until:%Y-%m-%d}; fingerprint {site.fingerprint}")
        _say(f"next: crossplant provision kit {folder} {site.name} --out {site.name}.zip")
        if fingerprint is None:
            _warn(
                "nobody compared the fingerprint: let the plant read it out on the telephone before you send the kit, "
                "and give the command again with --fingerprint."
            )
        _warn_of_expiry(federation, now)


@site_app.command("revoke")
def site_revoke(folder: Fed, name: Name) -> None:
    """Shut a plant out: its certificates are revoked, its node key leaves the roster."""
    from server.provision.change import revoke
    from server.provision.federation import CA_CRL, opened

    now = _now()
    with opened(folder) as federation:
        revoke(federation, name, now)
        _say(f"{name} is revoked; {folder / CA_CRL} lists its certificates.")
        _say("A running coordinator shuts it out within seconds.")
        _warn_of_expiry(federation, now)


@site_app.command("list")
def site_list(folder: Fed, as_json: AsJson = False) -> None:
    """Every plant: its status, until when its certificate holds, whether its fingerprint was compared."""
    from server.provision.federation import opened
    from shared.pki.certificates import authority_fingerprint

    now = _now()
    with opened(folder) as federation:
        sites = [_entry(site, now) for site in federation.sites.values()]
        fingerprint = authority_fingerprint(federation.authority)
        if as_json:
            head = {"format": 1, "federation": federation.settings.name, "authority": fingerprint}
            typer.echo(json.dumps(head | {"sites": sites}, indent=1))
            return
        _say(f"{federation.settings.name}, {len(sites)} plants, authority {fingerprint}")
        for one in sites:
            heard = "compared" if one["compared"] else "NOT COMPARED"
            _say(f"  {one['name']:<24} {one['status']:<9} until {one['until'][:10]}  {one['fingerprint']}  {heard}")
        _warn_of_expiry(federation, now)


@provision_app.command("kit")
def kit(
    folder: Fed,
    name: Name,
    out: Annotated[Path, typer.Option(metavar="KIT.zip|DIR", help="A zip, or a folder to make.")],
) -> None:
    """Write a plant's kit: certificates, settings to fill in, start scripts. It holds nothing secret."""
    from server.provision.federation import opened
    from server.provision.kit import build_kit
    from shared.pki.certificates import authority_fingerprint
    from shared.pki.kit import write_kit

    now = _now()
    with opened(folder) as federation:
        write_kit(out, build_kit(federation, federation.site(name), now))
        _say(f"Kit of {name}: {out}")
        _say(f"  read out on the telephone {authority_fingerprint(federation.authority)}")
        _say(f"  signs runs                {federation.signer or 'nobody'}")
        _warn_of_expiry(federation, now)


@provision_app.command("install")
def install(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The zip or folder.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `site new` made.", show_default=False)],
    fingerprint: Annotated[str | None, typer.Option(metavar="HEX", help="As the operator reads it out.")] = None,
) -> None:
    """At the plant: put a kit beside the keys that were made there. Its own settings stay as they are."""
    from shared.pki.install import install as put
    from shared.pki.kit import PLANT, POLICY

    done = put(kit, folder, _now(), fingerprint)
    _say(f"{done.kit.card.plant} of {done.kit.card.federation}: {folder}")
    _say(f"  authority    {done.authority}")
    _say(f"  certificate  until {done.kit.client.not_valid_after_utc:%Y-%m-%d}")
    if done.kit.card.signer:
        _say(f"  signs runs   {done.kit.card.signer}")
    if done.kept:
        _say(f"  kept         {', '.join(done.kept)}")
    if not done.known:
        _warn("the authority is taken on trust: compare its fingerprint with the operator on the telephone.")
    if done.unnamed:
        _warn(
            f'{POLICY} is yours and was left as it is; to take part in signed runs only: signers = ["{done.unnamed}"]'
        )
    _say(f"next: crossplant preflight --config {folder / PLANT}")


@provision_app.command("renew")
def renew(
    folder: Fed,
    what: Annotated[list[str] | None, typer.Argument(metavar="[server|NAME|ca]...", show_default=False)] = None,
    overlap_days: Annotated[
        int, typer.Option(min=0, max=3650, help="With ca: how long both authorities are trusted.")
    ] = 90,
) -> None:
    """Issue certificates anew, for the keys that are there; without a name: what lapses within 30 days.

    `ca` replaces the authority and renews the server and every plant with it; old kits work on until the overlap ends.
    """
    from server.provision import change
    from server.provision.federation import opened

    now, chosen = _now(), what or []
    if "ca" in chosen and len(chosen) > 1:
        raise typer.BadParameter("ca renews everything with it; give it alone")
    with opened(folder) as federation:
        if chosen == ["ca"]:
            done = change.renew_authority(federation, now, timedelta(days=overlap_days))
        else:
            done = change.renew(federation, chosen or change.due(federation, now), now)
    for line in done:
        _say(line)
    plants = [line for line in done if not line.startswith(("server:", "authority:"))]
    if plants:
        _say(f"next: a new kit for {len(plants)} plants (`crossplant provision kit`), before the old one lapses.")
    if not done:
        _say("Nothing lapses within 30 days.")


def _now() -> datetime:
    from shared.pki.certificates import utc_now

    return utc_now()


def _entry(site: Site, now: datetime) -> dict[str, Any]:
    return {
        "name": site.name,
        "status": site.status,
        "until": f"{site.until:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": (site.until - now) // timedelta(days=1),
        "fingerprint": site.fingerprint,
        "compared": site.compared,
    }


def _warn_of_expiry(federation: Federation, now: datetime) -> None:
    from server.provision.change import due
    from shared.pki.certificates import WARN_BEFORE, days_left

    for name in due(federation, now):
        _warn(
            f"the certificate of {name} lapses within 30 days: `crossplant provision renew {federation.folder} {name}`."
        )
    if federation.authority.not_valid_after_utc < now + 6 * WARN_BEFORE:
        left = days_left(federation.authority, now)
        _warn(f"the authority lapses in {left} days: `crossplant provision renew {federation.folder} ca`.")


def _say(line: str) -> None:
    typer.echo(_plain(line))


def _warn(line: str) -> None:
    typer.echo(f"warning: {_plain(line)}", err=True)


def _plain(line: str) -> str:
    """Without what a terminal would obey; a path may hold anything."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)
