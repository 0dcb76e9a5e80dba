from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
import torch

from shared.catalogue import tags as catalogue
from shared.catalogue.meaning import meaning
from shared.config import DetectorConfig, Recipe
from shared.detectors import HacUml, Loss, known
from shared.detectors.adapter import OWN, Adapted, build_for, directions, inverse
from shared.detectors.base import _REGISTRY
from shared.errors import InvalidConfig
from shared.schema import SensorSchema

SMALL = {"window": 8, "hidden": 6, "latent": 3, "dropout": 0.0}
TAGS = ("LIT101", "FIT101", "P101")
TRUNKS = [name for name in known() if name != "ewad"]
SWAT = tuple(tag.name for tag in catalogue("swat"))


def made(name: str = "hac-uml", tags: tuple[str, ...] = TAGS, width: int = 7) -> Adapted:
    torch.manual_seed(0)
    return Adapted(DetectorConfig.model_validate({"name": name, **SMALL}), tags, width)


def alike(a: str, b: str, width: int = 256) -> float:
    """Cosine of the directions in which two tags begin."""
    a_M, b_M = (directions((tag,), width)[:, 0] for tag in (a, b))
    return float(a_M @ b_M / np.linalg.norm(a_M) / np.linalg.norm(b_M))


# ---- what tags mean --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "quantity", "kind"),
    [
        ("LIT301", "level", "sensor"),
        ("2_LT_001_PV", "level", "sensor"),
        ("L_T7", "level", "sensor"),
        ("P501", "pump", "actuator"),
        ("P603", "pump", "actuator"),
        ("P_J280", "pressure", "sensor"),
        ("F_PU1", "flow", "sensor"),
        ("S_PU1", "status", "actuator"),
        ("AIT202", "ph", "sensor"),
        ("DPIT301", "differential pressure", "sensor"),
        ("1_MV_001_STATUS", "valve", "actuator"),
        ("Accelerometer2RMS", "accelerometer", "sensor"),
        ("Thermocouple", "temperature", "sensor"),
        ("XMEAS(7)", "xmeas", "sensor"),
        ("", "", "sensor"),
        ("éü", "", "sensor"),
    ],
)
def test_a_name_tells_what_a_tag_is(tag: str, quantity: str, kind: str) -> None:
    assert (meaning(tag).quantity, meaning(tag).kind) == (quantity, kind)


def test_like_tags_of_unlike_plants_begin_in_like_channels() -> None:
    like = [("LIT101", "1_LT_001_PV"), ("FIT101", "F_PU1"), ("PIT501", "P_J280"), ("MV101", "1_MV_001_STATUS")]
    unlike = [("LIT101", "F_PU1"), ("FIT101", "1_MV_001_STATUS"), ("P101", "P_J280"), ("MV101", "L_T1")]
    assert min(alike(*pair) for pair in like) > 0.5
    assert max(alike(*pair) for pair in unlike) < 0.3


def test_two_tags_of_one_meaning_are_told_apart() -> None:
    assert 0.7 < alike("P203", "P204") < 0.99


def test_a_tag_begins_alike_whatever_stands_beside_it() -> None:
    here, there = directions(("LIT101", "FIT101"), 16), directions(("P101", "FIT101", "x", "y"), 16)
    np.testing.assert_allclose(here[:, 1] * np.sqrt(2), there[:, 1] * np.sqrt(4), rtol=1e-12)


def test_channels_begin_with_the_variance_of_tags() -> None:
    into_MD = directions(SWAT, 64)
    rows_TD = np.random.default_rng(0).normal(size=(4000, len(SWAT)))
    assert np.square(rows_TD @ into_MD.T).mean() == pytest.approx(1.0, rel=0.05)


def test_what_goes_in_comes_out_where_there_are_enough_channels() -> None:
    into_MD = directions(("a", "b", "c", "d"), 64)
    back_DD = inverse(into_MD) @ into_MD
    assert np.diag(back_DD).min() > 0.85
    assert np.abs(back_DD - np.diag(np.diag(back_DD))).max() < 0.1


# ---- the detector ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRUNKS)
def test_plants_with_other_tags_have_one_manifest(name: str) -> None:
    north, south = made(name), made(name, ("Pressure",))
    assert north.manifest() == south.manifest()
    assert north.weights().keys() == {spec.name for spec in north.manifest()}
    assert not any(key.startswith(OWN) for key in north.weights())
    assert all(key.startswith(OWN) for key in north.own_weights())


@pytest.mark.parametrize("name", TRUNKS)
def test_all_of_it_is_trained(name: str) -> None:
    detector = made(name)
    noise = torch.Generator().manual_seed(0)
    torch.autograd.backward(detector.loss(torch.randn(4, 8, 3, generator=noise), None, noise).total)
    assert all(bool(p.grad.abs().sum() > 0) for p in detector.adapter.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in detector.adapter.parameters())
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in detector.trunk.parameters())


@pytest.mark.parametrize("name", TRUNKS)
@torch.no_grad()
def test_the_error_is_that_of_the_plants_own_tags(name: str) -> None:
    detector, windows = made(name).eval(), torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(1))
    rebuilt, _ = detector(windows)
    error_N = (rebuilt - windows).square().mean(dim=(1, 2))
    assert float(detector.loss(windows, None).reconstruction) == pytest.approx(float(error_N.mean()), rel=1e-5)
    np.testing.assert_allclose(detector.score(windows).error_N, error_N.detach().numpy(), rtol=1e-5)
    losses_N = detector.losses(windows, None)
    assert float(losses_N.mean()) == pytest.approx(float(detector.loss(windows, None).total), rel=1e-5)


@pytest.mark.parametrize("name", TRUNKS)
def test_the_graph_is_the_whole_network(name: str) -> None:
    detector, windows = made(name).eval(), torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(2))
    graph = detector.graph()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["reconstruction", "latents"], {"windows": windows.numpy()})
    for one, due in zip(found, detector(windows), strict=True):
        np.testing.assert_allclose(one, due.detach().numpy(), atol=1e-5)
    assert detector.graph() == graph
    assert [tuple(d.shape) for d in session.get_inputs()] == [(1, 8, 3)]


def test_weights_come_back_whole() -> None:
    one, other = made(), made(width=7)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.25)
    other.load_weights({**one.weights(), **one.own_weights()})
    windows = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one(windows)[0], other(windows)[0])
    other.load_weights(made().weights())
    np.testing.assert_array_equal(other.own_weights()["adapter.inlet.bias"], one.own_weights()["adapter.inlet.bias"])


def test_a_detector_with_a_loss_or_a_score_of_its_own_is_no_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(HacUml):
        name: ClassVar[str] = "odd"

        def loss(self, *arguments: object, **named: object) -> Loss:
            raise AssertionError("never asked")

    monkeypatch.setitem(_REGISTRY, "odd", Odd)
    with pytest.raises(InvalidConfig, match="of its own"):
        made("odd")
    with pytest.raises(InvalidConfig, match="of its own"):
        made("ewad")


def test_a_recipe_says_whether_there_is_an_adapter() -> None:
    schema = SensorSchema(tags=TAGS, period_s=1)
    plain = build_for(Recipe(), schema)
    assert type(plain) is HacUml
    assert plain.own_weights() == {}
    shared = build_for(Recipe.model_validate({"sharing": {"share": "trunk", "adapter": 9}}), schema)
    assert isinstance(shared, Adapted)
    assert (shared.dim, shared.trunk.dim) == (3, 9)
