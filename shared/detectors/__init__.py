"""Detectors. Importing this package registers all of them."""

from shared.detectors.base import ClusterTarget, Detector, Loss, Pass, WindowScores, build, cluster_target, known
from shared.detectors.cnn_lstm import CnnLstm
from shared.detectors.ewad import Ewad
from shared.detectors.foresee import Foresee
from shared.detectors.hac_uml import HacUml
from shared.detectors.multiscale import Multiscale
from shared.detectors.vae import Vae

__all__ = [
    "ClusterTarget",
    "CnnLstm",
    "Detector",
    "Ewad",
    "Foresee",
    "HacUml",
    "Loss",
    "Multiscale",
    "Pass",
    "Vae",
    "WindowScores",
    "build",
    "cluster_target",
    "known",
]
