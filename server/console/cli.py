"""`crossplant console`: serve it, and keep its accounts. Heavy imports wait until the options are parsed."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.console.roles import Role

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from server.store.auditlog import Actor

console_app = typer.Typer(
    name="console", help="See rounds in a browser; keep who may.", invoke_without_command=True, add_completion=False
)
account_app = typer.Typer(
    help="People who may log in: add, list, role, password, disable, enable.", no_args_is_help=True
)
token_app = typer.Typer(
    help="Programs that may call the API: add; `account` lists and disables them.", no_args_is_help=True
)
console_app.add_typer(account_app, name="account")
console_app.add_typer(token_app, name="token")


Store = Annotated[str | None, typer.Option("--store", help="Round store.", metavar="DIR|URL")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The account.", show_default=False)]
GivenRole = Annotated[Role, typer.Option("--role", help="What it may do; each may what those before it may.")]
PasswordFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Its first line is the password; `-`: stdin. Else it is asked for."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@console_app.callback()
def console(
    context: typer.Context,
    store: Store = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8321,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nothing is written to the store, by nobody.")] = False,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate with its chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    behind_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Of a proxy that ends TLS and whose X-Forwarded headers are believed."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name by which browsers ask for it; again for more.")
    ] = None,
    metrics_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its first line lets a scraper read /metrics from elsewhere.")
    ] = None,
    federation: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The federation's folder, where the store lies elsewhere.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="console.toml: log in through OpenID Connect.")
    ] = None,
) -> None:
    """Serve the rounds console until interrupted. `console account add NAME --role admin` makes its first account."""
    context.obj = store
    if context.invoked_subcommand is not None:
        return
    from server.console.app import create_app
    from server.console.oidc import read_provider
    from server.console.serve import Listening, bound, serve
    from server.console.settings import ConsoleSettings

    place = _store(context, None)
    listening = Listening(host, port, tls_cert, tls_key, tuple(behind_proxy or ()), tuple(allow_host or ())).checked()
    settings = ConsoleSettings(
        read_only=read_only,
        secure=listening.secure,
        hosts=listening.hosts(),
        proxied=bool(listening.proxies),
        metrics_token="" if metrics_token_file is None else _first_line(metrics_token_file, "token", shortest=16),
        federation=None if federation is None else _federation(federation),
        provider=None if config is None else read_provider(config),
    )
    with bound(listening) as listener:
        app = create_app(place, settings)
        _greet(app.state.access, place, listening, listener.getsockname()[1], read_only)
        serve(app, listening, listener, _say)


def _greet(access: Any, place: str, listening: Any, port: int, read_only: bool) -> None:
    """Say where it is; to somebody who has no account yet, how to look around and how to make one."""
    from server.console.serve import is_loopback
    from server.store.place import parse_place

    place, url = parse_place(place).shown, listening.url(port)  # a URL may hold a password, and a journal keeps this
    _tell(f"The console of {place}{', read-only' if read_only else ''}: {url}/")
    if not access.nobody_yet():
        return
    _tell(f"There is no account yet. Make one: crossplant console account add NAME --role admin --store {place}")
    if is_loopback(listening.host) and not listening.proxies:
        _tell("To look around now, open this link; it works once, and changes nothing:")
        _tell(f"  {url}/login?once={access.offer_look()}")


# ---- accounts ----


@account_app.command("add")
def add(
    context: typer.Context, name: Name, role: GivenRole, password_file: PasswordFile = None, store: Store = None
) -> None:
    """Make an account. The password is asked for, or read from a file; it is never an argument."""
    from server.console import accounts, passwords

    place = _store(context, store)
    with _changing(place) as (session, _):
        accounts.check_new(session, name)  # before anybody types a password
    secret = passwords.hashed(_password(password_file), name)
    with _changing(place) as (session, actor):
        accounts.add(session, actor, name, role, secret)
    typer.echo(f"{name} may log in, as {role.value}.")


@account_app.command("list")
def list_accounts(context: typer.Context, as_json: AsJson = False, store: Store = None) -> None:
    """All accounts, people's and programs'."""
    from server.console import accounts
    from server.store.database import has_table
    from server.store.store import RoundStore

    with RoundStore.open(_store(context, store), look=True).session() as session:
        known = accounts.listed(session) if has_table(session.connection(), "accounts") else []
    if as_json:
        rows = [{name: getattr(one, name) for name in _SHOWN} for one in known]
        return typer.echo(json.dumps(rows, indent=2))
    for one in known:
        typer.echo(f"{one.name:<24} {one.role:<9} {one.kind:<9} {'disabled' if one.disabled else ''}".rstrip())
    return None if known else typer.echo("There is no account yet: `crossplant console account add NAME --role admin`.")


_SHOWN = ("name", "role", "kind", "created", "changed", "disabled")


@account_app.command("role")
def change_role(context: typer.Context, name: Name, role: GivenRole, store: Store = None) -> None:
    """Give an account another role; its sessions end."""
    from server.console import accounts

    with _changing(_store(context, store)) as (session, actor):
        accounts.set_role(session, actor, name, role)
    typer.echo(f"{name} is {role.value}.")


@account_app.command("password")
def change_password(
    context: typer.Context, name: Name, password_file: PasswordFile = None, store: Store = None
) -> None:
    """Give an account another password; its sessions end."""
    from server.console import accounts, passwords

    place = _store(context, store)
    secret = passwords.hashed(_password(password_file), name)
    with _changing(place) as (session, actor):
        accounts.set_password(session, actor, name, secret)
    typer.echo(f"{name} has another password.")


@account_app.command("disable")
def disable(context: typer.Context, name: Name, store: Store = None) -> None:
    """Let an account in no more; its sessions end, or its token holds no longer."""
    _set_disabled(context, store, name, True)


@account_app.command("enable")
def enable(context: typer.Context, name: Name, store: Store = None) -> None:
    """Let an account in again."""
    _set_disabled(context, store, name, False)


def _set_disabled(context: typer.Context, store: str | None, name: str, disabled: bool) -> None:
    from server.console import accounts

    with _changing(_store(context, store)) as (session, actor):
        accounts.set_disabled(session, actor, name, disabled)
    typer.echo(f"{name} is {'disabled' if disabled else 'enabled'}.")


@token_app.command("add")
def add_token(context: typer.Context, name: Name, role: GivenRole = Role.VIEWER, store: Store = None) -> None:
    """Make an account for a program, and print its bearer token: once, it is kept nowhere."""
    from server.console import accounts

    with _changing(_store(context, store)) as (session, actor):
        token = accounts.add_token(session, actor, name, role)
    typer.echo(token)


# ---- parts ----


def _store(context: typer.Context, own: str | None) -> str:
    given: str | None = own or context.find_root().obj or _parent(context)
    if given is None:
        raise typer.BadParameter("--store DIR|URL is missing.", context)
    return given


def _parent(context: typer.Context) -> str | None:
    while context.parent is not None and not isinstance(context.obj, str):
        context = context.parent  # type: ignore[assignment]
    return context.obj if isinstance(context.obj, str) else None


@contextmanager
def _changing(location: str) -> Iterator[tuple[Session, Actor]]:
    """A transaction on the accounts of a store, and who makes it: the user of this terminal."""
    from server.console.opening import opened
    from server.rounds_cli.options import me

    with opened(location, read_only=False).session(writes=True) as session:
        yield session, me()


def _password(file: str | None) -> str:
    if file is not None and file != "-":
        return _first_line(Path(file), "password")
    if file == "-" or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != first:
        from shared.errors import InvalidConfig

        raise InvalidConfig("the two passwords differ.", "Type it twice alike.")
    return first


def _federation(folder: Path) -> Path:
    from shared.errors import FileTrouble

    if not (folder / "federation.toml").is_file():
        raise FileTrouble(f"{folder} is no federation's folder.", "Give the one that `crossplant provision init` made.")
    return folder


def _first_line(file: Path, what: str, shortest: int = 1) -> str:
    from shared.errors import InvalidConfig

    try:
        with file.open(encoding="utf-8") as opened:
            line = opened.readline(4096).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{file} is no text.", f"Write the {what} into its first line.") from error
    if len(line) < shortest:
        raise InvalidConfig(f"the first line of {file} has {len(line)} characters: too short a {what}.", "Write one.")
    return line


def _tell(line: str) -> None:
    from server.store.views import plain

    typer.echo(plain(line), err=True)


def _say(line: str) -> None:
    _tell(f"{datetime.now(UTC):%H:%M:%S} {line}")
