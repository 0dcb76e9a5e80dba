"""Detectors. Importing this package registers all of them."""

from shared.detectors.base import ClusterTarget, Detector, Loss, WindowScores, build, cluster_target, known
from shared.detectors.hac_uml import HacUml

__all__ = ["ClusterTarget", "Detector", "HacUml", "Loss", "WindowScores", "build", "cluster_target", "known"]
