"""An ensemble of Wasserstein GANs with gradient penalty, each trained on the data of its own plants.

    member e: windows (N, W, D) -> flat x -> E_e, 2 dense layers of 64 -> latent (N, 16), tanh -> G_e -> x_e
    A_e(x) = 0.9 ||x - x_e||^2 / (W D) + 0.1 ||f_e(x) - f_e(x_e)||^2 / H   reconstruction, and what the critic sees
    a_e ~ 1 / A_e^2,  sum_e a_e = 1         rebuilt = sum_e a_e x_e        A = sum_e a_e A_e
    what is given out as the reconstruction: x' = x - (x - rebuilt) sqrt(A / mean squared (x - rebuilt))

So the mean squared error of x', which is what every detector here is scored by, is A: reconstruction and critic, and a
sensor's share of it is its share of the reconstruction's error. A member counts the more the better it explains a
window: whoever's plant it resembles judges it. Latents are the members' mean. One member: `ewad_member.py`; who trains
which: `shared/ensemble.py`. The paper's critic takes five steps to one of the generator: four come before each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from shared.config import DetectorConfig
from shared.detectors.base import Detector, Pass, register
from shared.detectors.ewad_faults import Faults
from shared.detectors.ewad_member import SEEN, SLOPE, Member
from shared.ensemble import trained_by

if TYPE_CHECKING:
    from shared.detectors.graph import Graph

CRITIC_STEPS = 5  # to one of the generator: Gulrajani et al. 2017, algorithm 1
_TINY = 1e-8


@register
class Ewad(Detector):
    """See the module's docstring.

    Example:
        >>> from shared.config import DetectorConfig
        >>> sum(spec.size for spec in Ewad(DetectorConfig(name="ewad", members=1), dim=51).manifest())
        310090
    """

    name: ClassVar[str] = "ewad"
    unclipped: ClassVar[str] = "the gradient penalty of its critics takes gradients of gradients"

    def __init__(self, config: DetectorConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.members = nn.ModuleList(Member(config, dim) for _ in range(config.members))
        self._own = tuple(range(config.members))
        self._faults: Faults | None = None

    @property
    def _gans(self) -> list[Member]:
        return [member for member in self.members if isinstance(member, Member)]

    def assign(self, place: int, count: int) -> None:
        self._own = trained_by(place, count, self.config.members)

    def contrast(self, windows_NWD: Tensor) -> None:
        self._faults = Faults.of(windows_NWD)

    def encode(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """The members' mean; gradients reach those that are trained here. Nothing is dropped."""
        found = [member.encode(windows_NWD.flatten(1)) for member in self._gans]
        own = [one if number in self._own else one.detach() for number, one in enumerate(found)]
        return torch.stack(own).mean(dim=0)

    def decode(self, latents_NZ: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """The mean of what the members generate."""
        made_NX = torch.stack([member.generate(latents_NZ) for member in self._gans]).mean(dim=0)
        return made_NX.view(-1, self.config.window, self.dim)

    def forward(self, windows_NWD: Tensor) -> tuple[Tensor, Tensor]:
        """The x' of the module's docstring (N, W, D), and latents (N, Z)."""
        rebuilt_NX, total_N1 = self._together(windows_NWD.flatten(1))
        off_NX = windows_NWD.flatten(1) - rebuilt_NX
        off_NX = off_NX * (total_N1 / (off_NX.square().mean(dim=1, keepdim=True) + _TINY)).sqrt()
        return windows_NWD - off_NX.view_as(windows_NWD), self.encode(windows_NWD)

    def rebuilt(self, windows_NWD: Tensor) -> Tensor:
        """Without the critics' part, which grows while they learn: a plant would take that for too much training."""
        return self._together(windows_NWD.flatten(1))[0].view_as(windows_NWD)

    def _together(self, windows_NX: Tensor) -> tuple[Tensor, Tensor]:
        """The members' reconstructions weighted (N, X), and A (N, 1)."""
        rebuilt_NEX, strange_NE = self._rebuilt(windows_NX)
        counts_NE = (strange_NE + _TINY).square().reciprocal()
        counts_NE = counts_NE / counts_NE.sum(dim=1, keepdim=True)
        rebuilt_NX = (counts_NE[:, :, None] * rebuilt_NEX).sum(dim=1)
        return rebuilt_NX, (counts_NE * strange_NE).sum(dim=1, keepdim=True)

    def _rebuilt(self, windows_NX: Tensor) -> tuple[Tensor, Tensor]:
        """What every member makes of the windows (N, E, X), and its A_e (N, E)."""
        rebuilt = [member.generate(member.encode(windows_NX)) for member in self._gans]
        strange = [member.strange(windows_NX, one) for member, one in zip(self._gans, rebuilt, strict=True)]
        return torch.stack(rebuilt, dim=1), torch.stack(strange, dim=1)

    def passed(self, windows_NWD: Tensor, noise: torch.Generator | None = None) -> Pass:
        """The ensemble's reconstruction for the record only; what is trained are the losses of the own members."""
        with torch.no_grad():
            shown_NWD, _ = self(windows_NWD)
        windows_NX = windows_NWD.flatten(1)
        losses = [self._gans[number].losses(windows_NX, noise, self._faults) for number in self._own]
        return Pass(shown_NWD, self.encode(windows_NWD), torch.stack(losses).mean(dim=0))

    def before_step(
        self, batch: Callable[[], Tensor], optimizer: torch.optim.Optimizer, noise: torch.Generator
    ) -> None:
        """Steps of the own critics alone, against windows generated anew each time."""
        windows_NX = batch().flatten(1)
        for _ in range(CRITIC_STEPS - 1):
            optimizer.zero_grad(set_to_none=True)
            losses = [self._gans[number].critic_losses(windows_NX, noise, self._faults) for number in self._own]
            torch.autograd.backward(torch.stack(losses).mean())
            optimizer.step()

    def graph(self) -> bytes:
        from shared.detectors.graph import Graph  # needs the package onnx, which a plant has

        c, g = self.config, Graph(self.weights())
        whole = c.window * self.dim
        flat = g.reshape("windows", [1, whole], "flat")
        found = [self._drawn_member(g, flat, f"members.{number}") for number in range(c.members)]
        latents, rebuilt, strange = (list(parts) for parts in zip(*found, strict=True))
        g.node("Mean", latents, ["latents"])
        rebuilt_EX = g.node("Concat", rebuilt, ["rebuilt.each"], axis=0)
        strange_1E = g.node("Concat", strange, ["strange.each"], axis=1)
        tiny = g.constant("tiny", np.array(_TINY, np.float32))
        above = g.node("Add", [strange_1E, tiny], ["strange.above"])
        counts = g.node("Reciprocal", [g.node("Mul", [above, above], ["strange.squared"])], ["counts.free"])
        counts = g.node("Div", [counts, g.node("ReduceSum", [counts], ["counts.sum"])], ["counts"])
        total = g.node("ReduceSum", [g.node("Mul", [counts, strange_1E], ["strange.counted"])], ["strange"])
        off = g.node("Sub", [flat, g.node("MatMul", [counts, rebuilt_EX], ["rebuilt"])], ["off"])
        mean = g.node("Add", [_mean_square(g, off), tiny], ["off.above"])
        stretch = g.node("Sqrt", [g.node("Div", [total, mean], ["stretch.squared"])], ["stretch"])
        shown = g.node("Sub", [flat, g.node("Mul", [off, stretch], ["off.stretched"])], ["shown"])
        window = (1, c.window, self.dim)
        g.reshape(shown, window, "reconstruction")
        return g.model({"windows": window}, {"reconstruction": window, "latents": (1, c.latent)})

    def _drawn_member(self, g: Graph, flat: str, name: str) -> tuple[str, str, str]:
        """One member's latents (1, Z), what it rebuilds (1, X) and A_e (1, 1)."""
        layers = self.config.layers
        latents = _dense(g, flat, f"{name}.encoder", layers + 1)
        if self.config.bottleneck == "tanh":
            latents = g.node("Tanh", [latents], [f"{name}.latents"])
        rebuilt = _dense(g, latents, f"{name}.generator", layers + 1)
        both = g.node("Concat", [flat, rebuilt], [f"{name}.both"], axis=0)
        seen = g.node("LeakyRelu", [_dense(g, both, f"{name}.critic", layers)], [f"{name}.seen"], alpha=SLOPE)
        ends = [f"{name}.sight.flat", f"{name}.sight.rebuilt"]
        g.node("Split", [g.normalised(seen, self.config.hidden, f"{name}.sight")], ends, axis=0)
        off = g.node("Sub", [flat, rebuilt], [f"{name}.off"])
        unseen = g.node("Sub", ends, [f"{name}.unseen"])
        shares = {off: 1.0 - SEEN, unseen: SEEN}
        parts = [
            g.node(
                "Mul", [_mean_square(g, one), g.constant(f"{one}.share", np.array(share, np.float32))], [f"{one}.part"]
            )
            for one, share in shares.items()
        ]
        return latents, rebuilt, g.node("Add", parts, [f"{name}.strange"])


def _dense(g: Graph, value: str, layers: str, count: int) -> str:
    """Linear layers with leaky ReLUs between them."""
    for depth in range(count):
        name = f"{layers}.{depth}"
        value = g.node("LeakyRelu", [value], [f"{name}.in"], alpha=SLOPE) if depth else value
        value = g.linear(value, name, f"{name}.out")
    return value


def _mean_square(g: Graph, value: str) -> str:
    """(1, 1) of (1, F)."""
    square = g.node("Mul", [value, value], [f"{value}.square"])
    return g.node("ReduceMean", [square], [f"{value}.mean"], axes=[1], keepdims=1)
