"""`crossplant rounds promote, rollback, follow, orders`: which round's model plants shall score by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.rounds_cli.options import AsJson, Number, Run, Store, Why, me, opened, opened_to_change
from server.rounds_cli.printing import print_json, print_lines, print_table

if TYPE_CHECKING:
    from server.store.registry import Order

_COLUMNS = ("order", "action", "round", "state", "in", "made", "who")
_MINUTE = 16  # characters of a time down to its minute


def promote(number: Number, store: Store, why: Why, run: Run = None, as_json: AsJson = False) -> None:
    """Have plants score by a round's model, in the next round."""
    from server.store.registry import Registry

    there, name = opened_to_change(store, run)
    return _tell(store, Registry(there).promote(name, number, me(), why), as_json)


def rollback(
    store: Store,
    why: Why,
    to: Annotated[
        int | None, typer.Option("--to", metavar="N", min=1, help="Which round; default: what was live before.")
    ] = None,
    run: Run = None,
    as_json: AsJson = False,
) -> None:
    """Have plants score by an earlier round's model again."""
    from server.store.registry import Registry

    there, name = opened_to_change(store, run)
    return _tell(store, Registry(there).rollback(name, me(), why, to), as_json)


def follow(store: Store, why: Why, run: Run = None, as_json: AsJson = False) -> None:
    """Let each newest model go out to the plants again."""
    from server.store.registry import Registry

    there, name = opened_to_change(store, run)
    return _tell(store, Registry(there).follow(name, me(), why), as_json)


def orders(
    store: Store,
    run: Run = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="The newest so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """What was promoted and rolled back, by whom, why, and in which round it was carried out."""
    from server.store.registry import Registry

    there, name = opened(store, run)
    found = Registry(there).orders(there.run(name).name, limit=last)[::-1]
    if as_json:
        return print_json({"run": name, "orders": [order_entry(order) for order in found]})
    if not found:
        return print_lines([f"Nobody has given an order for run {name}: each newest model goes out."])
    rows = [
        (str(o.id), o.action.value, str(o.target), o.state.value, "-" if o.round is None else str(o.round),
         o.made[:_MINUTE].replace("T", " "), o.who)
        for o in found
    ]  # fmt: skip
    return print_table(_COLUMNS, rows, 7, [o.why for o in found])


def order_entry(order: Order) -> dict[str, Any]:
    """An order in JSON."""
    return {
        "id": order.id,
        "run": order.run,
        "action": order.action.value,
        "round": order.target,
        "model": order.model,
        "made": order.made,
        "who": order.who,
        "why": order.why,
        "state": order.state.value,
        "done_in": order.round,
    }


def _tell(location: str, order: Order, as_json: bool) -> None:
    if as_json:
        return print_json(order_entry(order))
    words = {"promote": "Promoted", "rollback": "Rolled back to", "follow": "Following again from"}
    there, _ = opened(location, order.run)
    status = there.run(order.run).status
    what = f"{words[order.action.value]} round {order.target} of run {order.run}, model {order.model[:12]}"
    return print_lines([f"{what}: order {order.id}.", *carried_out_by(status.value, order.run)])


def carried_out_by(status: str, run: str) -> list[str]:
    """Who sends the model to the plants, and when."""
    if status == "running":
        return ["The run's next round sends it to the plants; each calibrates and publishes it as its bundle."]
    return [
        f"Run {run} is over ({status}).",
        "In a federation, `crossplant server run` carries the order out;",
        "of a simulation, `crossplant simulate --resume DIR` does.",
    ]
