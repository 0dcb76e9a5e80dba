"""A water distribution network with WADI's 127 tags: raw water, two elevated reservoirs, booster, six consumers.

    plant.py       what makes one network differ from the next
    drift.py       readings that wander by themselves
    conditions.py  what it meets from outside, minute by minute
    primary.py reservoirs.py booster.py consumer.py returns.py   its parts, one second at a time
    instruments.py meters and drives, where attacks take hold
    state.py       the parts together, and what can be attacked in them
    trace.py       the loop
    sensors.py     what the historian logs
    plan.py published.py stealth.py   attacks

Ahmed et al. 2017, doi 10.1145/3055366.3055375, describe the real one. How its parts hang together is inferred from
published statistics (`shared/catalogue/wadi.csv`).
"""

from simulations.twin.network.twin import NetworkTwin

TWIN = NetworkTwin()

__all__ = ["TWIN", "NetworkTwin"]
