"""A scorer's process with other rules than an edge.toml gives: `python -m tests.support.edge_run PARAMETERS [SWAP]`.

The parameters are those of `client.edge.main`, as JSON; SWAP is JSON of a `SwapSettings`. The runtime is the real one.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from msgspec import structs

from client.edge import main, runtime
from client.edge.alarm_values import AlarmRules
from client.edge.gates import SwapSettings

RULES = AlarmRules(hits=4, among=6, clear_s=600, group_s=7200)

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    job = main.job(main.Parameters(**given))
    swap = SwapSettings.parse(sys.argv[2]) if len(sys.argv) > 2 else SwapSettings()
    done = runtime.run(replace(job, settings=structs.replace(job.settings, alarms=RULES, swap=swap)), main.say)
    lost = sum(delivery.dropped for delivery in done.deliveries.values())
    main.say(f"{done.samples} samples, {done.scores} scores{f', {lost} records dropped' if lost else ''}")
