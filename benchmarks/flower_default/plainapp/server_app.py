"""The server's side: FedAvg as it comes; the clock is written down after every round."""

from __future__ import annotations

import json
import time
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from plainapp.task import Net

app = ServerApp()
PLANTS = 3


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct a run; `stamps` names the file that gets one line a round."""
    stamps = Path(str(context.run_config["stamps"]))

    def told(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        with stamps.open("a", encoding="ascii") as file:
            file.write(json.dumps([number, time.time()]) + "\n")
        return None

    weights = ArrayRecord(Net().state_dict())
    strategy = FedAvg(min_train_nodes=PLANTS, min_evaluate_nodes=PLANTS, min_available_nodes=PLANTS)
    result = strategy.start(grid, weights, int(context.run_config["num-server-rounds"]), evaluate_fn=told)
    ends = {number: dict(metrics) for number, metrics in result.train_metrics_clientapp.items()}
    stamps.with_suffix(".metrics").write_text(json.dumps(ends), encoding="ascii")
