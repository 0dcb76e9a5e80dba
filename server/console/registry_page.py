"""The models of a run: which one holds, who wanted it and why, and the orders that change it."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from server.console.asked import cursor, whole
from server.console.context import Role, User, console_of, needs, user_of
from server.console.forms import Form
from server.console.templating import path, render
from server.store.export import export_round
from server.store.models import file_errors
from server.store.registry import LONGEST_WHY, Order, OrderAction, OrderState, Registry
from server.store.retention import Policy, Pruned, foresee, prune

router = APIRouter(include_in_schema=False)
ROWS = 25
MODELS = 10
"""Newest rounds whose models are listed."""
LOOKED = 200
"""Newest orders among which the one is looked for that holds."""
Operator = Annotated[User, Depends(needs(Role.OPERATOR))]
Admin = Annotated[User, Depends(needs(Role.ADMIN))]


@router.get("/runs/{run}/registry")
def registry(request: Request, run: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """The models of a run, and its orders."""
    console, before = console_of(request), cursor(request, "before")
    page = console.reader.page(run)
    orders = console.registry.orders(run, before, ROWS + 1)
    keep = cursor(request, "keep")
    foreseen = _foreseen(request, run, keep) if keep and user.role.covers(Role.ADMIN) else None
    return render(
        request,
        "registry.html",
        run=run,
        page=page,
        waiting=console.registry.open_order(run),
        held=_held(console.registry, run),
        orders=orders[:ROWS],
        older=path("runs", run, "registry", before=orders[ROWS - 1].id) if len(orders) > ROWS else None,
        newest=path("runs", run, "registry") if before else None,
        plants=console.reader.plants(run),
        models=[line for line in console.reader.rounds(run, limit=MODELS) if line.model],
        keep=keep,
        foreseen=foreseen,
        gone=None if foreseen is None else foreseen.rounds.get(run, ()),
        ordered=cursor(request, "ordered"),
        pruned=cursor(request, "pruned"),
        longest=LONGEST_WHY,
    )


def _held(registry: Registry, run: str) -> Order | None:
    """The order that was carried out last; None: there is none, or it says to follow the newest."""
    done = (order for order in registry.orders(run, limit=LOOKED) if order.state is OrderState.DONE)
    found = next(done, None)
    return found if found is not None and found.action is not OrderAction.FOLLOW else None


def _foreseen(request: Request, run: str, keep: int) -> Pruned:
    return foresee(console_of(request).store, Policy(keep=keep), run)


@router.post("/runs/{run}/promote")
def promote(request: Request, run: str, user: Operator, form: Form) -> Response:
    """Have plants score by a round's model."""
    number = whole(form.get("number", "").strip(), "round")
    order = console_of(request).registry.promote(run, number, user.actor, form.get("why", ""))
    return _back(run, ordered=order.id)


@router.post("/runs/{run}/rollback")
def rollback(request: Request, run: str, user: Operator, form: Form) -> Response:
    """Have plants score by an earlier model again."""
    given = form.get("to", "").strip()
    to = whole(given, "round") if given else None
    order = console_of(request).registry.rollback(run, user.actor, form.get("why", ""), to)
    return _back(run, ordered=order.id)


@router.post("/runs/{run}/follow")
def follow(request: Request, run: str, user: Operator, form: Form) -> Response:
    """Let each newest model go out again."""
    order = console_of(request).registry.follow(run, user.actor, form.get("why", ""))
    return _back(run, ordered=order.id)


@router.post("/runs/{run}/prune")
def remove(request: Request, run: str, user: Admin, form: Form) -> Response:
    """Remove what only old rounds need."""
    keep = whole(form.get("keep", "").strip(), "number of rounds")
    done = prune(console_of(request).store, Policy(keep=keep), user.actor, run)
    return _back(run, pruned=1 + len(done.rounds.get(run, ())))


def _back(run: str, **told: int) -> Response:
    return RedirectResponse(path("runs", run, "registry", **told), 303)


@router.get("/runs/{run}/rounds/{number}/export")
def export(request: Request, run: str, number: str, user: Annotated[User, Depends(user_of)]) -> Response:
    """A round's model as a zip: `model.safetensors`, byte for byte the store's, and `model.json`."""
    asked = whole(number, "round")
    with file_errors("the folder for temporary files"), tempfile.TemporaryDirectory(prefix="crossplant-") as scratch:
        folder = Path(scratch) / "model"
        export_round(console_of(request).store, run, asked, folder)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '-', run)[:64].lstrip('.')}-round-{asked}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data.getvalue(), media_type="application/zip", headers=headers)
