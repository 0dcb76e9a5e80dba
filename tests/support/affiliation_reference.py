"""Affiliation by its definition, on a fine grid of time: slow, exact to about one grid step."""

import numpy as np


def individual_slow(
    alarms: list[tuple[float, float]],
    events: list[tuple[float, float]],
    ranges: list[tuple[float, float]],
    grid: int = 4000,
) -> np.ndarray:
    """Precision and recall of each event, (2, E)."""
    found = []
    for j, (begin, end) in enumerate(events):
        low, high = next(r for r in ranges if r[0] <= begin < r[1])
        if j and events[j - 1][0] >= low:
            low = (events[j - 1][1] + begin) / 2
        if j + 1 < len(events) and events[j + 1][0] < high:
            high = (end + events[j + 1][0]) / 2
        zone = low + (np.arange(grid) + 0.5) * (high - low) / grid
        to_event = np.maximum(np.maximum(begin - zone, zone - end), 0)
        alarmed = np.zeros(grid, bool)
        to_alarm = np.full(grid, np.inf)
        for a, b in alarms:
            if min(b, high) > max(a, low):
                a, b = max(a, low), min(b, high)
                alarmed |= (zone >= a) & (zone < b)
                to_alarm = np.minimum(to_alarm, np.maximum(np.maximum(a - zone, zone - b), 0))
        if not alarmed.any():
            found.append((np.nan, 0.0))
            continue
        farther = np.array([np.mean(to_event > d) if d > 0 else 1.0 for d in to_event[alarmed]])
        inside = to_event == 0
        nearer = [
            np.mean(np.abs(zone - y) > d) if d > 0 else 1.0 for y, d in zip(zone[inside], to_alarm[inside], strict=True)
        ]
        found.append((float(farther.mean()), float(np.mean(nearer))))
    return np.array(found).T
