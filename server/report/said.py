"""The report's first page: what happened, for somebody who knows the plant and not the method. Plain sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from server.console.advice import advise
from server.console.figures import amount, cut, number, percent, when
from server.report.changes import changes, middle
from server.report.material import Material
from server.store.rows import RunStatus
from server.store.words import spans
from shared.privacy.claim import rounded_up

_NAMED = 8
_SELDOM = 0.5  # share of its rounds in which a plant counts at least, or it is named


@dataclass(frozen=True)
class Paragraph:
    """A question that people ask, and the answer in some sentences."""

    title: str
    text: str


def names(plants: Iterable[str]) -> str:
    """Plants in a sentence, the first few.

    Example:
        >>> names(["north"]), names(["a", "b", "c"])
        ('north', 'a, b and c')
    """
    known = [cut(plant, 60) for plant in plants]
    if len(known) > _NAMED:
        return f"{', '.join(known[:_NAMED])} and {len(known) - _NAMED:,} more"
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}" if known else "nobody"


def summary(material: Material) -> tuple[Paragraph, ...]:
    """The answers, in the order in which people ask."""
    return (
        Paragraph("How does the run stand?", _standing(material)),
        Paragraph("Who took part?", _who(material)),
        Paragraph("Did it get better, and for whom?", _better(material)),
        Paragraph("What failed, and why?", _failed(material)),
        Paragraph("What did it cost in privacy?", _privacy(material)),
        Paragraph("Which model is live where?", _live(material)),
    )


def _standing(material: Material) -> str:
    info, statuses = material.page.info, material.page.statuses
    if not info.rounds:
        return f"{material.live.title}. It was started on {when(info.created)} and has not finished a round yet."
    halted = sum(count for status, count in statuses.items() if status != "committed")
    less = f", of which {halted:,} did not count" if halted else ""
    note = f" Why: {cut(info.note, 600)}" if info.status is RunStatus.FAILED and info.note else ""
    begun = f"It was started on {when(info.created)} and has finished {amount(info.rounds, 'round')}{less}."
    return f"{material.live.title}. {begun}{note}"


def _who(material: Material) -> str:
    if not material.plants:
        return "No plant has been asked yet."
    asked = names(line.plant for line in material.plants)
    counted = [line for line in material.plants if line.accepted]
    never = [line.plant for line in material.plants if not line.accepted]
    seldom = [line.plant for line in counted if line.accepted < _SELDOM * line.rounds]
    total = len(material.plants) + material.left_out
    said = [f"{amount(total, 'plant')} {'was' if total == 1 else 'were'} asked: {asked}."]
    if never:
        said.append(f"Of {names(never)} no reply ever counted.")
    if seldom:
        said.append(f"Fewer than half of their replies counted of {names(seldom)}.")
    if not never and not seldom:
        said.append("Each of them counted in at least half of its rounds.")
    return " ".join(said)


def _better(material: Material) -> str:
    found, said = changes(material.losses), []
    for verdict, word in (("better", "better"), ("worse", "worse"), ("alike", "neither better nor worse")):
        plants = [plant for plant, change in found.items() if change.verdict == verdict]
        share = middle(found[plant] for plant in plants)
        by = f", by {percent(abs(share))} (median)" if share is not None and verdict != "alike" else ""
        if plants:
            said.append(f"The model fits {amount(len(plants), 'plant')} {word} than at first{by}: {names(plants)}.")
    if not found:
        said.append("No plant has told twice how well a model fits it, so this cannot be said.")
        if material.config is not None and material.config.recipe.privacy.on:
            said.append("Under differential privacy plants do not tell: each such figure would cost privacy.")
    else:
        said.append("Measured by each plant on normal data of its own that the model was not trained on.")
    return " ".join([*said, *_measured(material)])


def _measured(material: Material) -> Iterator[str]:
    """What a simulation found on labelled data."""
    results = material.results
    if results is None or not results.sites:
        return
    recall, alarms = results.mean.get("event_recall"), results.mean.get("false_alarms_per_day")
    yield (
        f"On labelled test data of {amount(len(results.sites), 'site')} the alarms noticed {percent(recall)} of the "
        f"events, with {number(alarms)} false alarms a day (means over the sites)."
    )


def _failed(material: Material) -> str:
    lost = sum(line.rounds - line.accepted for line in material.plants)
    said = []
    if lost:
        asked = sum(line.rounds for line in material.plants)
        said.append(f"{lost:,} of {asked:,} replies did not count.")
        kinds = Counter(advise(attempt.reason).kind for found in material.refusals.values() for attempt in found)
        told = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common(4))
        said.append(f"Among the newest of each plant: {told}.")
    if material.halted:
        count = sum(many for status, many in material.page.statuses.items() if status != "committed")
        newest = spans(sorted(line.number for line in material.halted[:_NAMED]))
        reason = cut(material.halted[0].reason, 300).rstrip(".") or "no reason is known"
        said.append(f"{amount(count, 'round')} did not count at all ({newest}). The newest one: {reason}.")
    return " ".join(said) or "Nothing: every reply and every round counted."


def _privacy(material: Material) -> str:
    config = material.config
    if config is None:
        return "The run's settings are of another version of Crossplant and cannot be read here."
    privacy = config.recipe.privacy
    if not privacy.on:
        return (
            "The run promises no differential privacy. Readings stayed at the plants all the same: what left them were "
            "model updates, counts and losses."
        )
    where = "at each plant, before anything leaves it" if privacy.mode == "local" else "at the coordinator"
    said = [
        f"The run promises differential privacy (noise is added {where}) with an epsilon of {number(privacy.epsilon)}."
    ]
    worst = max(material.balances, key=lambda balance: balance.epsilon, default=None)
    if worst is not None:
        more = f" of {number(worst.budget)}" if worst.budget is not None else ""
        spent = number(rounded_up(worst.epsilon))
        said.append(
            f"The ledger that spent most, of {cut(worst.plant, 60)}, stands at {spent}{more}, over all its runs."
        )
    elif privacy.mode == "local":
        said.append("What was spent stands in each plant's own ledger: `crossplant privacy ledger` there.")
    return " ".join(said)


def _live(material: Material) -> str:
    by_round: dict[int, list[str]] = {}
    for line in material.plants:
        if line.live_round is not None:
            by_round.setdefault(line.live_round, []).append(line.plant)
    said = [
        f"{names(plants)} {'scores' if len(plants) == 1 else 'score'} by the model that round {number_} sent."
        for number_, plants in sorted(by_round.items(), reverse=True)
    ]
    without = [line.plant for line in material.plants if line.live_round is None]
    if without and by_round:
        said.append(f"{names(without)} {'has' if len(without) == 1 else 'have'} none of this run yet.")
    if not by_round:
        said.append("No plant has calibrated a model of this run yet, so none scores by it.")
    waiting = next((order for order in material.orders if order.state.value == "open"), None)
    if waiting is not None:
        said.append(f"An operator wants {waiting.label}; that waits for the run's next round.")
    return " ".join(said)
