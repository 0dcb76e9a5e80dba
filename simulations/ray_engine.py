"""The process in which Flower's simulation runtime carries a run: `python -m simulations.ray_engine PLANTS WORKERS`.

`flwr.simulation.run_simulation` starts Ray in this process and leaves nothing behind, where `flwr run` starts a
SuperLink that stays (docs/decisions/0003). The run is named by the environment, which Ray's workers inherit.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import ray
from flwr.simulation import run_simulation

from client.app import app as client_app
from client.training.tensors import resolve_device
from server.app import app as server_app
from shared.errors import CrossplantError


def _end_with(parent: int) -> None:
    """Nobody follows this run once the process that started it is gone: end, so that it can be resumed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    ray.shutdown()
    os._exit(1)


def main(plants: int, workers: int) -> int:
    """Carry the run; returns the exit code."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    gpu = resolve_device(os.environ.get("CROSSPLANT_DEVICE", "auto")).type == "cuda"
    try:
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=plants,
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 1.0 / workers if gpu else 0.0},
                "init_args": {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False},
            },
        )
    except CrossplantError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent process reads it.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
