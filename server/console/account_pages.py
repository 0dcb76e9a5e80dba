"""Accounts, for admins: `/accounts` and the changes on it.

The page `accounts.html` gets `accounts` (values of `server.console.accounts.Account`), `roles`, `message` (what went
wrong, or empty), `token` (the bearer token that has just been made, or empty) and `shortest` (of a password). Its forms
post `csrf` and: `/accounts/add` name, role, password; `/accounts/token` name, role; `/accounts/role` name, role;
`/accounts/password` name, password; `/accounts/disable` name; `/accounts/enable` name.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse

from server.console import accounts, passwords
from server.console.context import Role, User, console_of, needs
from server.console.forms import Form
from server.console.templating import render
from shared.errors import CrossplantError, InvalidConfig, UnknownName

router = APIRouter(include_in_schema=False)
Admin = Annotated[User, Depends(needs(Role.ADMIN))]


@router.get("/accounts")
def show(request: Request, user: Admin) -> Response:
    """All accounts."""
    return _page(request)


def _page(request: Request, status: int = 200, message: str = "", token: str = "") -> Response:
    with console_of(request).store.session() as session:
        known = accounts.listed(session)
    values = {"accounts": known, "roles": list(Role), "shortest": passwords.SHORTEST}
    return render(request, "accounts.html", status, message=message, token=token, **values)


@router.post("/accounts/{change}")
def change(request: Request, user: Admin, change: str, form: Form) -> Response:
    """One change of one account."""
    name = form.get("name", "").strip()
    try:
        if change not in _CHANGES:
            raise UnknownName("change of an account", change[:40], sorted(_CHANGES))
        if name == user.name and change in ("role", "disable"):
            raise InvalidConfig("nobody takes their own rights away.", "Let another admin do it, or the terminal.")
        secret = passwords.hashed(form.get("password", ""), name) if change in ("add", "password") else ""
        with console_of(request).store.session(writes=True) as session:
            token = _carry_out(session, user, change, name, form.get("role", ""), secret)
    except CrossplantError as error:
        return _page(request, 422, f"{error.cause} {error.cure}".strip())
    return _page(request, token=token) if token else RedirectResponse("/accounts", 303)


_CHANGES = frozenset({"add", "token", "role", "password", "disable", "enable"})


def _carry_out(session: Session, user: User, change: str, name: str, role: str, secret: str) -> str:
    """Make the change; the bearer token, if that was it."""
    actor = user.actor
    if change == "token":
        return accounts.add_token(session, actor, name, parse_role(role))
    if change == "add":
        accounts.add(session, actor, name, parse_role(role), secret)
    elif change == "role":
        accounts.set_role(session, actor, name, parse_role(role))
    elif change == "password":
        accounts.set_password(session, actor, name, secret)
    else:
        accounts.set_disabled(session, actor, name, change == "disable")
    return ""


def parse_role(text: str) -> Role:
    """A role by its name.

    Raises:
        UnknownName: there is no such role.
    """
    try:
        return Role(text)
    except ValueError as error:
        raise UnknownName("role", text[:40], [role.value for role in Role]) from error
