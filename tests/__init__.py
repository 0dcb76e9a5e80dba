"""Tests of Crossplant, quickest first: unit, property, contract, golden, faults, e2e."""

import os

# One thread a process: two of them on a busy machine wait for each other. Here, before anything imports torch or NumPy.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
