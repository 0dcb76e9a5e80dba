"""What an edge box needs to score by a model: a plant's bundle, made and signed where the data lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.agent.own import OwnParts
from client.training.calibrate import Calibrated
from client.training.own_model import Own
from client.training.probe import probe
from client.training.workspace import Workspace
from shared.bundle.parts import Provenance
from shared.bundle.whole import Bundle, Live, publish
from shared.config import Recipe
from shared.detectors import Detector
from shared.series import SiteData
from shared.wire.messages import Request


@dataclass(frozen=True)
class Publisher:
    """Publishes a plant's bundles.

    Attributes:
        site: the plant's data.
        own: what it learnt alone.
        home: where bundles go, `home/SITE.bundle`.
        key: file with the key that signs them, made at the first one.
    """

    site: SiteData
    own: OwnParts
    home: Path
    key: Path

    def publish(
        self,
        request: Request,
        kept: Own,
        calibration: Calibrated,
        workspace: Workspace,
        detector: Detector,
        recipe: Recipe,
    ) -> None:
        """What an edge box needs to score by this model, beside what it was needed for before."""
        from shared.bundle.keys import own_key  # Imports cryptography, which an agent without a home does not need.
        from shared.detectors.graph import in_eight_bits  # Imports onnx.

        name, scale, own = self.site.name, calibration.scale, self.own
        loss = calibration.holdout_loss
        model, base = kept.model, "" if kept.model.digest == request.digest else request.digest
        provenance = Provenance(
            site=name,
            run=request.run,
            round=request.round,
            model=model.digest,
            holdout_loss=loss,
            origin=kept.origin,
            base=base,
            compared=kept.losses,
        )
        scored = (calibration.judge, calibration.relations)
        local = (workspace.schema, workspace.preprocessor, scale, calibration.threshold, *scored)
        sample = probe(self.site, workspace.preprocessor, detector, model.clusters, scale, recipe, *scored)
        graph = detector.graph()
        live = Live(graph, calibration.figures, sample, in_eight_bits(graph), own.guard, limits=own.limits)
        publish(Bundle(provenance, model, recipe, *local), live, self.home / f"{name}.bundle", own_key(self.key))
