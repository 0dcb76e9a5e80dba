"""`historian`: a plant's own export from its process historian, as CSV, Parquet or XLSX.

A file is a plant, or a folder of files (months, say) is; folders inside the given one are plants of their own. What
the files do not say themselves stands in `historian.toml` beside them, see `HistorianSettings`.

- `source`: any file as named columns.
- `clock`: which column holds the times, and in which format.
- `tags`: which columns hold readings, and what stands where readings are missing.
- `timeline`: order, duplicates, and a regular grid of recordings. Arrays only.
- `loader`: all of it, plant by plant.
"""

from client.ingest.historian.loader import Historian
from client.ingest.historian.settings import HistorianSettings

__all__ = ["Historian", "HistorianSettings"]
