"""`ewad` on the digits that ship with scikit-learn, one of them normal: the table of docs/detectors.md.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.digits

An image is a window of 8 rows of 8. The first 120 images of a digit are trained on, the rest of it and all of the
others tested; AUROC, mean over the ten digits and three seeds. One member, its plant's; 100 epochs, nothing chosen.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from client.training.loop import train_epochs
from client.training.tensors import TensorWindows
from client.training.workspace import Part
from shared.config import DetectorConfig, TrainingConfig
from shared.detectors import build
from shared.metrics.pointwise import auroc
from shared.model import initial_weights
from simulations.baselines import find

OURS = ("ewad", "vae")
OTHERS = ("isolation-forest", "knn", "lof", "one-class-svm", "pca", "mahalanobis")
TRAINED, EPOCHS, SEEDS = 120, 100, 3


def main() -> None:
    """Print the table in Markdown."""
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    images_NWD = (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8)
    print("| | mean AUROC | worst digit |\n| --- | --- | --- |")
    for name in (*OURS, *OTHERS):
        found = np.array(
            [[_auroc(name, images_NWD, labels, digit, seed) for digit in range(10)] for seed in range(SEEDS)]
        )
        print(f"| `{name}` | {found.mean():.3f} | {found.mean(axis=0).min():.3f} |", flush=True)


def _auroc(name: str, images_NWD: np.ndarray, labels_N: np.ndarray, digit: int, seed: int) -> float:
    own = np.flatnonzero(labels_N == digit)
    train, tested = own[:TRAINED], np.concatenate([own[TRAINED:], np.flatnonzero(labels_N != digit)])
    scored = _detector if name in OURS else _baseline
    return auroc(scored(name, images_NWD[train], images_NWD[tested], seed), labels_N[tested] != digit)


def _detector(name: str, train_NWD: np.ndarray, test_NWD: np.ndarray, seed: int) -> np.ndarray:
    made = build(DetectorConfig(name=name, window=8, members=1, dropout=0.0), 8)
    made.load_weights(initial_weights(made.manifest(), seed))
    windows = TensorWindows(Part(train_NWD.reshape(-1, 8), np.arange(len(train_NWD)) * 8), 8, torch.device("cpu"))
    config, noise = TrainingConfig(local_epochs=EPOCHS, batch_size=32), torch.Generator().manual_seed(seed)
    train_epochs(made, windows, None, config, noise)
    return made.score(torch.from_numpy(test_NWD)).error_N


def _baseline(name: str, train_NWD: np.ndarray, test_NWD: np.ndarray, seed: int) -> np.ndarray:
    """Each image as one row of 64."""
    rows = (part.reshape(len(part), -1) for part in (train_NWD, test_NWD))
    train_TD, test_TD = rows
    return find(name).fit(train_TD, (0,), seed).scores(test_TD, (0,))


if __name__ == "__main__":
    main()
