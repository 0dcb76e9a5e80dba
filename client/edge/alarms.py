r"""The alarm machine: `step(state, event, rules) -> (state, records)`. Pure: no clock, no file, no model.

    normal -> pending -> active -> acknowledged -> (cleared) -> normal
                              \-> cleared, until somebody acknowledges -> normal

The states are those of ISA-18.2 (IEC 62682): normal; active is "unacknowledged alarm"; cleared is "returned to normal,
unacknowledged"; acknowledged is the same word. Pending is its on-delay. docs/edge/alarms.md has the table.
"""

from __future__ import annotations

import math

from msgspec import structs

from client.edge.alarm_values import (
    Ack,
    Alarm,
    AlarmRules,
    AlarmState,
    Broken,
    Event,
    Judged,
    Kind,
    Named,
    Ordered,
    Shelve,
    Stalled,
    Told,
    What,
    bounded,
    notice,
    shelf_of,
)
from client.edge.incidents import DAY_S, TAGS, Incident, Tally, belongs, joined
from client.edge.records import Record
from client.edge.shelving import ALL, Shelf, counted, ended, put, without

WAITING = 100  # cleared alarms that are kept until somebody acknowledges them
_UNLIKELY = 0.01

Stepped = tuple[AlarmState, tuple[Record, ...]]


def step(state: AlarmState, event: Event, rules: AlarmRules) -> Stepped:
    """The next state, and what people and machines are told.

    Example:
        >>> from client.edge.records import Part, Scored
        >>> part = Part("LIT101", 0.9, 1, 812.0, 640.0)
        >>> scored = Scored(100.0, 0, 9.0, 3.0, 0.001, 2.5, None, (part,), "0" * 12)
        >>> above = Judged(scored, ("federated",), ("federated",), below=False, elapsed_s=1.0)
        >>> state, records = step(AlarmState(), above, AlarmRules(hits=1, among=1))
        >>> state.standing, records[0].as_json()["sensors"][0]["tag"]
        ('active', 'LIT101')
    """
    if isinstance(event, Judged):
        return _judged(state, event, rules)
    if isinstance(event, Broken):
        return _broken(state), ()
    if isinstance(event, Stalled):
        return _stalled(state, event)
    return _ordered(state, event, rules)


# ---- scores ----------------------------------------------------------------------------------------------------------


def _judged(state: AlarmState, event: Judged, rules: AlarmRules) -> Stepped:
    state, records = _shelves_ended(state, event.scored.time) if state.shelves else (state, ())
    if not event.by and not state.bits and state.current is None:
        return _aged(state, event), records
    state = _counted(_aged(state, event), event, rules)
    raised = _due(state, event, rules)
    if raised is not None and (state.current is None or (raised == "alarm" and state.current.kind != "alarm")):
        state, new = _raised(state, event, rules, raised)
    elif state.current is not None:
        state, new = _standing(state, event, rules)
    else:
        new = ()
    return state, (*records, *new)


def _aged(state: AlarmState, event: Judged) -> AlarmState:
    return structs.replace(state, clock=state.clock + event.elapsed_s)


def _counted(state: AlarmState, event: Judged, rules: AlarmRules) -> AlarmState:
    """With one score more among the newest `among`."""
    mask = (1 << rules.among) - 1
    bits = (state.bits << 1 | bool(event.by)) & mask
    begins = bool(bits) and not state.bits
    return structs.replace(
        state,
        bits=bits,
        free_bits=(state.free_bits << 1 | bool(event.free_by)) & mask,
        pending_clock=state.clock if begins else state.pending_clock,
        pending_time=event.scored.time if begins else state.pending_time,
    )


def _due(state: AlarmState, event: Judged, rules: AlarmRules) -> Kind | None:
    """What there is to raise now, if nothing stands."""
    if not event.by or state.bits.bit_count() < rules.hits or state.clock - state.pending_clock < rules.least_s:
        return None
    return "alarm" if event.free_by and state.free_bits.bit_count() >= rules.hits else event.cause


def _raised(state: AlarmState, event: Judged, rules: AlarmRules, kind: Kind) -> Stepped:
    last, time = state.last, event.scored.time
    back = last is not None and last.kind == kind and _since(time, last.cleared) <= rules.rearm_s
    if kind == "shelved":
        return _held_back(state, event), ()
    tally = _tally(state.tally, time, rules) if kind == "alarm" else state.tally
    state, told = _grouped(structs.replace(state, tally=tally), event, rules)
    if back and last is not None:
        alarm, what = _returned(last, state, event), "returned"
        state = structs.replace(state, waiting=tuple(a for a in state.waiting if a.id != last.id), last=None)
    else:
        state = structs.replace(state, number=state.number + 1)
        alarm, what = _new(state, event, kind), "raised"
    alarm = structs.replace(alarm, told=told or alarm.told) if what == "returned" else _told_or_not(alarm, told)
    state = structs.replace(state, current=alarm, below_clock=None, untold=state.untold + (not told))
    records = (_tell(state, alarm, "returned" if what == "returned" else "raised", time, rules),) if told else ()
    over, notices = _budget(state, time, rules)
    return over, (*records, *notices)


def _told_or_not(alarm: Alarm, told: bool) -> Alarm:
    return alarm if told else structs.replace(alarm, told=False)


def _held_back(state: AlarmState, event: Judged) -> AlarmState:
    alarm = _new(state, event, "shelved")
    tags = [part.tag for part in event.scored.parts]
    return structs.replace(state, current=alarm, below_clock=None, shelves=counted(state.shelves, tags))


def _new(state: AlarmState, event: Judged, kind: Kind) -> Alarm:
    scored, mark = event.scored, "" if kind == "shelved" else name("a", event.scored.time, state.number)
    return Alarm(
        id=mark,
        incident=state.incident.id if state.incident and kind != "shelved" else "",
        kind=kind,
        state="active",
        began=state.pending_time,
        raised=scored.time,
        by=event.by,
        bundle=scored.bundle,
        mode=scored.mode,
        sensors=tuple(Named.of_part(part) for part in (scored.sensors if kind == "alarm" else scored.parts)),
        score=bounded(scored.score),
        threshold=bounded(scored.threshold),
        p_value=scored.p_value,
        guard=None if scored.guard is None else bounded(scored.guard),
        guard_threshold=scored.guard_threshold,
        window="" if kind == "shelved" else f"windows/{mark}.json",
    )


def _returned(last: Alarm, state: AlarmState, event: Judged) -> Alarm:
    """It is unacknowledged again: what comes back may be something else."""
    incident = last.incident if state.incident is None else state.incident.id
    back = structs.replace(last, state="active", cleared=None, acked=None, returns=last.returns + 1, incident=incident)
    return structs.replace(back, acked_by="", note="").worse(event.scored, event.by)


def _grouped(state: AlarmState, event: Judged, rules: AlarmRules) -> tuple[AlarmState, bool]:
    """The incident that an alarm belongs to, and whether people are told of the alarm."""
    time, mode, before = event.scored.time, event.scored.mode, state.incident
    tags = tuple(part.tag for part in event.scored.sensors[:TAGS])
    if before is not None and belongs(before, time, tags, mode, rules.group_s, state.tally.flood):
        incident, told = joined(before, time, tags, mode, state.tally.flood)
    else:
        number = state.number + 1
        incident, told = Incident(name("i", time, number), time, time, tags=tags, mode=mode, flood=False), True
    return structs.replace(state, incident=incident), told


def _standing(state: AlarmState, event: Judged, rules: AlarmRules) -> Stepped:
    """An alarm stands: it may get worse, or clear."""
    alarm = state.current
    if alarm is None:
        return state, ()
    if not event.below:
        worse = alarm.worse(event.scored, event.by) if event.by else alarm
        return structs.replace(state, current=worse, below_clock=None), ()
    since = state.clock if state.below_clock is None else state.below_clock
    if state.clock - since < rules.clear_s:
        return structs.replace(state, below_clock=since), ()
    return _cleared(state, alarm, event.scored.time, rules)


def _cleared(state: AlarmState, alarm: Alarm, time: float, rules: AlarmRules) -> Stepped:
    done = structs.replace(alarm, state="cleared", cleared=time)
    state = structs.replace(state, bits=0, free_bits=0, below_clock=None, current=None)
    if alarm.kind == "shelved":
        return state, ()
    waiting = state.waiting if alarm.acked is not None or not alarm.told else (*state.waiting, done)
    incident = state.incident
    if incident is not None and incident.id == alarm.incident:
        incident = structs.replace(incident, last=time)
    state = structs.replace(
        state,
        last=done,
        waiting=waiting[-WAITING:],
        forgotten=state.forgotten + max(0, len(waiting) - WAITING),
        incident=incident,
    )
    return state, (_tell(state, done, "cleared", time, rules),) if alarm.told else ()


def _since(time: float, before: float | None) -> float:
    return math.inf if before is None else abs(time - before)


def _tell(state: AlarmState, alarm: Alarm, what: What, time: float, rules: AlarmRules) -> Told:
    incident = state.incident
    if incident is None or incident.id != alarm.incident:
        incident = Incident(alarm.incident, alarm.raised, time, tags=alarm.tags, mode=alarm.mode)
    return Told(time, what, alarm, incident, state.tally.since(time, DAY_S), rules.accepted_a_day)


# ---- how many --------------------------------------------------------------------------------------------------------


def _tally(tally: Tally, time: float, rules: AlarmRules) -> Tally:
    more = tally.plus(time)
    lately = more.since(time, rules.flood_s)
    flood = lately >= rules.flood_count or (more.flood and lately > rules.flood_count / 2)
    return structs.replace(more, flood=flood)


def _budget(state: AlarmState, time: float, rules: AlarmRules) -> Stepped:
    """Say once when the last day had more alarms than the budget of false ones explains."""
    day = state.tally.since(time, DAY_S)
    chance = at_least(day, rules.accepted_a_day)
    if (chance < _UNLIKELY) == state.tally.over_budget:
        return state, ()
    over = not state.tally.over_budget
    state = structs.replace(state, tally=structs.replace(state.tally, over_budget=over))
    if not over:
        return state, ()
    cause = (
        f"{day} alarms in a day, where {rules.accepted_a_day:g} a day may be false: by chance on {chance:.1%} of days"
    )
    return state, (notice(time, "budget", f"{cause}. The plant has real trouble, or the threshold is too low."),)


def at_least(count: int, rate: float) -> float:
    """Chance of `count` events or more where `rate` are expected, by Poisson.

    Example:
        >>> at_least(0, 1.0), round(at_least(5, 1.0), 4)
        (1.0, 0.0037)
    """
    below = math.fsum(math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in range(count))
    return min(1.0, max(0.0, 1.0 - below))


# ---- gaps and people -------------------------------------------------------------------------------------------------


def _broken(state: AlarmState) -> AlarmState:
    """What was pending is void; what stands goes on standing."""
    return structs.replace(state, bits=0, free_bits=0, below_clock=None)


def _stalled(state: AlarmState, event: Stalled) -> Stepped:
    if state.known == event.over:
        return state, ()
    state = structs.replace(state, known=event.over, below_clock=None)
    alarm = state.current
    if alarm is None or alarm.kind == "shelved":
        return state, ()
    told = f"{alarm.id} is judged again: readings are back." if event.over else _unknown(alarm)
    return state, (notice(event.time, "alarms", told),)


def _unknown(alarm: Alarm) -> str:
    return f"{alarm.id} stays {alarm.state}: no readings arrive, so it is not known whether it is over."


def _shelves_ended(state: AlarmState, time: float) -> Stepped:
    stay, over = ended(state.shelves, time)
    if not over:
        return state, ()
    notices = tuple(notice(time, "unshelved", f"the shelf of {_shelved(shelf)} has ended.") for shelf in over)
    return _reconsidered(structs.replace(state, shelves=stay)), notices


def _reconsidered(state: AlarmState) -> AlarmState:
    """After a shelf: what it held back is looked at anew."""
    held = state.current is not None and state.current.kind == "shelved"
    return structs.replace(state, current=None, bits=0, free_bits=0) if held else state


def _shelved(shelf: Shelf) -> str:
    return f"{shelf.tag} (by {shelf.by}: {shelf.note}), which held back {shelf.held} alarms,"


def _ordered(state: AlarmState, event: Ordered, rules: AlarmRules) -> Stepped:
    order, time = event.order, event.time
    if isinstance(order, Ack):
        return _acknowledged(state, order, time, rules)
    if isinstance(order, Shelve):
        return _shelve(state, order, time, rules)
    found = next((shelf for shelf in state.shelves if shelf.tag == order.tag), None)
    if found is None:
        return state, (notice(time, "rejected", f"{order.tag} is not shelved, so {order.by} cannot end that."),)
    state = _reconsidered(structs.replace(state, shelves=without(state.shelves, order.tag)))
    return state, (notice(time, "unshelved", f"{order.by} ended the shelf of {_shelved(found)} {order.note}".strip()),)


def _shelve(state: AlarmState, order: Shelve, time: float, rules: AlarmRules) -> Stepped:
    shelf = shelf_of(order, time)
    if shelf.until is None and shelf.tag == ALL:
        return state, (notice(time, "rejected", f"everything cannot be out of service ({order.by}: {order.note})."),)
    if shelf.until is not None and not time < shelf.until <= time + rules.shelve_most_s:
        told = f"{order.tag} cannot be shelved for {shelf.until - time:.0f} s, but for 1 to {rules.shelve_most_s:.0f}."
        return state, (notice(time, "rejected", told),)
    end = "" if shelf.until is None else f" for {shelf.until - time:.0f} s"
    told = f"{shelf.tag} is {shelf.word}{end}, by {shelf.by}: {shelf.note}"
    return structs.replace(state, shelves=put(state.shelves, shelf)), (notice(time, "shelved", told),)


def _acknowledged(state: AlarmState, order: Ack, time: float, rules: AlarmRules) -> Stepped:
    chosen = [a for a in state.listed if order.id in (a.id, a.incident) and a.acked is None and a.kind != "shelved"]
    if not chosen:
        return state, (notice(time, "rejected", f"no alarm {order.id} waits to be acknowledged (by {order.by})."),)
    seen = {a.id: _seen(a, order, time) for a in chosen}
    last = state.last if state.last is None else seen.get(state.last.id, state.last)
    current = state.current if state.current is None else seen.get(state.current.id, state.current)
    waiting = tuple(a for a in state.waiting if a.id not in seen)
    state = structs.replace(state, current=current, waiting=waiting, last=last)
    return state, tuple(_tell(state, alarm, "acknowledged", time, rules) for alarm in seen.values())


def _seen(alarm: Alarm, order: Ack, time: float) -> Alarm:
    standing = "acknowledged" if alarm.state == "active" else alarm.state
    return structs.replace(alarm, state=standing, acked=time, acked_by=order.by, note=order.note, told=True)


def name(letter: str, time: float, number: int) -> str:
    """An id that sorts by time.

    Example:
        >>> name("a", 1_451_260_800.0, 7)
        'a-20151228T000000-7'
    """
    try:
        from datetime import UTC, datetime

        stamp = datetime.fromtimestamp(time, UTC).strftime("%Y%m%dT%H%M%S")
    except (OverflowError, ValueError, OSError):
        stamp = "0"
    return f"{letter}-{stamp}-{number}"
