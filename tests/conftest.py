"""What several tests share: where real data lies, and small files in the layouts of real data sets."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from shared.schema import SensorSchema
from shared.series import SiteData

REPOSITORY = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in a shell's background, where Ctrl-C is not heard
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, however slow: a check that fails here fails there.
settings.register_profile("crossplant", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("CROSSPLANT_HYPOTHESIS", "crossplant"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: CROSSPLANT_DATA, else ../shared/data beside the repository."""
    given = os.environ.get("CROSSPLANT_DATA")
    root = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist; set CROSSPLANT_DATA")
    return root


def real(data_root: Path, folder: str) -> Path:
    """One real data set's folder, or a skipped test."""
    if not (data_root / folder).is_dir():
        pytest.skip(f"no real data: {data_root / folder} does not exist")
    return data_root / folder


def site(
    name: str,
    train: int = 20,
    test: int = 12,
    tags: tuple[str, ...] = ("a", "b"),
    group: str = "",
    labelled: bool = True,
) -> SiteData:
    """A small site whose values count upwards, so that a moved row shows."""
    values = np.arange((train + test) * len(tags), dtype=np.float32).reshape(-1, len(tags))
    labels = (np.arange(test) % 3 == 0) if labelled else None
    schema = SensorSchema(tags=tags, period_s=1)
    return SiteData(name, schema, values[:train], values[train:], labels, group=group, source="made up")


def write_telemanom(folder: Path, channels: Mapping[str, str], dim: int = 55, spacecraft: str = "MSL") -> Path:
    """Write channels (name to `anomaly_sequences`) of 30 train and 40 test rows in telemanom's layout."""
    lines = ["chan_id,spacecraft,anomaly_sequences,class,num_values"]
    for seed, (name, sequences) in enumerate(channels.items()):
        rng = np.random.default_rng(seed)
        for part, rows in (("train", 30), ("test", 40)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            np.save(folder / part / f"{name}.npy", rng.uniform(-1, 1, (rows, dim)))
        lines.append(f'{name},{spacecraft},"{sequences}","[point, contextual]",40')
    (folder / "labeled_anomalies.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
