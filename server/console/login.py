"""Logging in and out, and changing one's own password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import RedirectResponse

from server.console import accounts, passwords
from server.console.access import Access
from server.console.context import User, console_of, user_of
from server.console.forms import Form
from server.console.gate import address_of
from server.console.problems import Denied
from server.console.sessions import Ticket
from server.console.settings import ConsoleSettings
from server.console.templating import render
from shared.errors import CrossplantError, InvalidConfig

router = APIRouter(include_in_schema=False)
Somebody = Annotated[User, Depends(user_of)]
_LONGEST_NEXT = 2000


def access_of(request: Request) -> Access:
    """The door of the console, in a route."""
    access: Access = request.app.state.access
    return access


def settings_of(request: Request) -> ConsoleSettings:
    """How the console was set up, in a route."""
    settings: ConsoleSettings = request.app.state.settings
    return settings


def local(target: str) -> str:
    """A page of this console to go on to; the first one for anything that could lead elsewhere.

    Example:
        >>> local("/runs/a?x=1"), local("//elsewhere"), local("https://elsewhere"), local("/login?next=/")
        ('/runs/a?x=1', '/', '/', '/')
    """
    leads_out = not target.startswith("/") or target[1:2] in ("/", "\\") or not target.isprintable()
    loops = target.startswith(("/login", "/logout"))
    return "/" if leads_out or loops or not target.isascii() or len(target) > _LONGEST_NEXT else target


def welcome(request: Request, ticket: Ticket, target: str) -> Response:
    """Send a browser on, with the cookie of its new session; the old session of that browser ends."""
    name, secure = request.app.state.cookie, settings_of(request).secure
    if old := request.cookies.get(name):
        access_of(request).log_out(old)
    answer = RedirectResponse(local(target), 303)
    # Lax, so that a link in a mail or on a board opens the page; changes carry a token and an origin besides.
    answer.set_cookie(
        name, ticket.token, int(ticket.lasts.total_seconds()), path="/", secure=secure, httponly=True, samesite="lax"
    )
    return answer


@router.get("/login")
def show_login(request: Request, next: str = "/", once: str = "") -> Response:  # noqa: A002 - the field's name
    """The login page; with the token of the first start, a session that looks around."""
    if once:
        try:
            return welcome(request, access_of(request).look(once, address_of(request)), next)
        except Denied as denied:
            return login_page(request, next, denied)
    return login_page(request, next)


def login_page(request: Request, target: str, denied: Denied | None = None, name: str = "") -> Response:
    """The page with the form; with what went wrong, if something did."""
    provider = settings_of(request).provider
    message = "" if denied is None else f"{denied.cause} {denied.cure}".strip()
    values = {"next": local(target), "message": message, "name": name[:64]}
    values["oidc"] = "" if provider is None else "/login/oidc"
    page = render(request, "login.html", 200 if denied is None else denied.status, **values)
    page.headers.update({} if denied is None else denied.headers)
    return page


@router.post("/login")
def log_in(request: Request, form: Form) -> Response:
    """Log in with a local account."""
    name, target = form.get("name", "").strip(), form.get("next", "/")
    try:
        ticket = access_of(request).log_in(name, form.get("password", ""), address_of(request))
    except Denied as denied:
        return login_page(request, target, denied, name)
    return welcome(request, ticket, target)


@router.post("/logout")
def log_out(request: Request, user: Somebody) -> Response:
    """Log out: the session ends, not only its cookie."""
    cookie = request.app.state.cookie
    access_of(request).log_out(request.cookies.get(cookie, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie, path="/", secure=settings_of(request).secure, httponly=True, samesite="lax")
    return answer


@router.get("/account/password")
def show_password(request: Request, user: Somebody) -> Response:
    """The page to change one's own password."""
    return render(request, "password.html", message="", shortest=passwords.SHORTEST)


@router.post("/account/password")
def change_password(request: Request, user: Somebody, form: Form) -> Response:
    """Change one's own password; every session of the account ends, and this browser gets a new one."""
    access, address, new = access_of(request), address_of(request), form.get("new", "")
    try:
        access.check_password(user.name, form.get("password", ""), address)
        secret = passwords.hashed(new, user.name)
        if form.get("again", new) != new:
            raise InvalidConfig("the two new passwords differ.", "Type it twice alike.")
        with console_of(request).store.session(writes=True) as session:
            accounts.set_password(session, user.actor, user.name, secret)
    except CrossplantError as error:
        status = error.status if isinstance(error, Denied) else 422
        message = f"{error.cause} {error.cure}".strip()
        return render(request, "password.html", status, message=message, shortest=passwords.SHORTEST)
    return welcome(request, access.log_in(user.name, new, address), "/")
