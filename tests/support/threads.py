"""One thread for torch, set before it is imported: networks this small gain nothing from two, and two that wait for
each other on a busy machine take ten times as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
