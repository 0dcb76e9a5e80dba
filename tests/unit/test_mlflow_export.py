"""`crossplant store export-mlflow`: a run's settings and figures in a real MLflow, where there is one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from server.store.mlflow_export import export_run
from server.store.store import RoundStore
from shared.errors import MissingExtra, RoundNotFound, StoreError
from tests.support.stores import filled, record, state

needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs crossplant[mlflow]")


def test_without_mlflow_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "mlflow.exceptions", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="mlflow-skinny"):
        export_run(filled(tmp_path), "a", "sqlite:///x.db")
    with pytest.raises(RoundNotFound):
        export_run(RoundStore.open(str(tmp_path)), "b", "sqlite:///x.db")


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_entered_and_afterwards_what_is_new(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    store, uri = filled(tmp_path / "s"), f"sqlite:///{tmp_path}/mlflow.db"
    first = export_run(store, "a", uri)
    assert first.rounds == 3
    store.commit(record(state("a", 4)), state("a", 4))
    store.finish_run("a", "failed", "CP-302 gave up")
    again = export_run(store, "a", uri)
    assert (again.id, again.rounds) == (first.id, 1)
    assert export_run(store, "a", uri).rounds == 0
    client = MlflowClient(tracking_uri=uri)
    found = client.get_run(first.id)
    assert (found.info.status, found.data.tags["crossplant.note"]) == ("FAILED", "CP-302 gave up")
    assert found.data.params["recipe.detector.name"] == "hac-uml"
    history = client.get_metric_history(first.id, "holdout_loss")
    assert [(one.step, one.value) for one in sorted(history, key=lambda m: m.step)] == [
        (n, pytest.approx(0.7 / n)) for n in (1, 2, 3, 4)
    ]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("uri", ["nosuch://user:secret@host/x", " ", "sqlite:////dev/null/x.db"])
def test_a_place_that_is_none_is_one_clear_error(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        export_run(filled(tmp_path), "a", uri)
    assert "secret" not in str(caught.value)
