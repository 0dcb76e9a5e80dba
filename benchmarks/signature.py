"""What checking a bundle's signature costs a scorer: not at all, in a child process (what we do), in the scorer itself.

Fresh processes, from their start to the first score of a bundle at D = 51, one thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import edge
from benchmarks.figures import Figure, median
from benchmarks.processes import ROOT

HOW = ("unchecked", "child", "itself")
_PROGRAM = """
import json, resource, sys
from pathlib import Path
from shared.bundle import trust
from shared.bundle.edge import read_edge_bundle
folder, key, how = sys.argv[1:]
if how == "itself":
    from shared.bundle.verify import holds
    def check(folder, found, index):
        assert holds(found.key_bytes, found.signature_bytes, index)
    trust._check = check
bundle = read_edge_bundle(Path(folder), None if how == "unchecked" else trust.Trust(Path(key)))
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
rows = bundle.preprocessor.live(bundle.probe.rows_RD).values_TD[: bundle.setup.window]
session.run(None, {"windows": rows[None]})
own, child = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = sum(used.ru_utime + used.ru_stime for used in (own, child))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([cpu, int(peak.split()[1]) * 1024 / 1e6]))  # ru_maxrss would remember the parent's
"""


def measure(scratch: Path, quick: bool) -> list[Figure]:
    """CPU of the process and its child, and the process's peak memory; the three ways in turns."""
    edge._bundle(scratch, 51)
    folder, key = next(scratch.glob("*.bundle")), scratch / "bundle.pub"
    found: dict[str, list[list[float]]] = {how: [] for how in HOW}
    for _ in range(3 if quick else 9):
        for how in HOW:
            command = [sys.executable, "-c", _PROGRAM, str(folder), str(key), how]
            done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
            found[how].append(json.loads(done.stdout))
    cpu = [median(f"signature {how}: to the first score", [one[0] for one in found[how]], "CPU s") for how in HOW]
    return [*cpu, *(median(f"signature {how}: peak memory", [one[1] for one in found[how]], "MB") for how in HOW)]
