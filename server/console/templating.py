"""HTML by Jinja2: everything that is put into a page is text, unless it was made by a template.

A name that a plant chose reaches a page through autoescaping only; there is no `|safe` and no markup in Python. Names
that are missing from a page's values are an error, not an empty place.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from server.console import figures
from server.console.advice import advise
from server.console.context import Role, console_of, user_or_none

STATIC = Path(__file__).parent / "static"
"""What is served under `/static/`."""
_TEMPLATES = Path(__file__).parent / "templates"
_HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    "historyEnabled": False,
    "includeIndicatorStyles": False,
    "selfRequestsOnly": True,
    "timeout": 20_000,
}
_SAFE_PATH = ""  # of `quote`: a slash in a name is part of the name


def path(*parts: object, **query: object) -> str:
    """An address of this console; every part is quoted, so that a name stays one part of it.

    Example:
        >>> path("runs", "a b", "plants", "../x"), path("audit", before=7, after=None)
        ('/runs/a%20b/plants/..%2Fx', '/audit?before=7')
    """
    given = {name: value for name, value in query.items() if value is not None}
    quoted = "/".join(quote(str(part), safe=_SAFE_PATH, errors="replace") for part in parts)
    return f"/{quoted}" + (f"?{urlencode(given, errors='replace')}" if given else "")


@cache
def asset(name: str) -> str:
    """Address of a static file; it changes with the file, so that a browser may keep it."""
    return f"/static/{name}?{version_of(STATIC / name)}"


def version_of(file: Path) -> str:
    """What the address of a file ends with while it has the content that it has now."""
    return f"v={hashlib.sha256(file.read_bytes()).hexdigest()[:10]}"


def attribute(value: object) -> str:
    """A value as JSON, for a data attribute: autoescaping makes an attribute of it."""
    return json.dumps(value, allow_nan=False)


def quoted(text: str) -> str:
    """A name as a form can send it back: browsers change the ends of lines in it."""
    return quote(text, safe=" ", errors="replace")


def coded(text: str) -> Markup:
    """Text in which what stands between backticks is shown as code; all of it is escaped.

    Example:
        >>> str(coded("run `a <b>` & wait"))
        'run <code>a &lt;b&gt;</code> &amp; wait'
    """
    parts = figures.visible(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 and i < len(parts) - 1 else escape(part)
        for i, part in enumerate(parts)
    )


def environment(folder: Path) -> Environment:
    """Templates of a folder: whatever is put into them is text, and a name that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["coded"] = coded
    return made


def _environment() -> Environment:
    made = environment(_TEMPLATES)
    made.filters.update(
        number=figures.number,
        signed=figures.signed,
        percent=figures.percent,
        duration=figures.duration,
        size=figures.size,
        amount=figures.amount,
        cut=figures.cut,
        digest=figures.digest,
        when=figures.when,
        attribute=attribute,
        quoted=quoted,
    )
    made.globals.update(
        path=path, asset=asset, ago=figures.ago, metric=figures.metric, advise=advise, htmx=json.dumps(_HTMX), Role=Role
    )
    return made


_PAGES = _environment()


def render(request: Request, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Args:
        request: what it answers.
        template: name of a file in `templates/`.
        status_code: of the answer.
        values: what the page tells; `user`, `csrf`, `read_only`, `here` (the address) and `now` are added.
    """
    user = user_or_none(request)
    own = {
        "user": user,
        "csrf": "" if user is None else user.csrf,
        "read_only": console_of(request).read_only,
        "here": request.url.path,
        "now": datetime.now(UTC),
    }
    return HTMLResponse(_PAGES.get_template(template).render(own | values), status_code)


def trouble(request: Request, status: int, code: str, cause: str, cure: str) -> HTMLResponse:
    """The page that says what went wrong, and what to do about it."""
    return render(request, "error.html", status, code=code, cause=cause, cure=cure, status=status)
