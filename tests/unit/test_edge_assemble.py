"""Readings become rows: whatever comes late, twice, backwards, not at all or as a storm of NaN."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.edge.records import Notice, Sample
from client.edge.sources.assemble import Assembler, Grumbler, Rules
from shared.schema import SensorSchema

TWO = SensorSchema(tags=("A", "B"), period_s=1.0)


def made(schema: SensorSchema = TWO, **rules: float) -> Assembler:
    return Assembler(schema, Rules(**rules), wall=lambda: 7.0)  # type: ignore[arg-type]


def rows(given: list[Sample | Notice]) -> list[tuple[float, list[float]]]:
    return [(one.time, one.values_D.tolist()) for one in given if isinstance(one, Sample)]


def kinds(given: list[Sample | Notice]) -> list[str]:
    return [one.kind for one in given if isinstance(one, Notice)]


def whole(assembler: Assembler, now: float, time: float, value: float = 0.0) -> list[Sample | Notice]:
    assembler.take(now, time, [0, 1], [value, -value])
    return assembler.drain(now)


def test_every_whole_message_is_a_row_at_its_own_time() -> None:
    assembler = made()
    given = [one for k in range(5) for one in whole(assembler, k, 1000.0 + 1.01 * k, k)]
    assert rows(given) == [(1000.0 + 1.01 * k, [k, -k]) for k in range(5)]
    assert [one.number for one in given if isinstance(one, Sample)] == list(range(5))


def test_single_readings_make_a_row_once_every_tag_has_one() -> None:
    assembler = made()
    assembler.take(0.0, 1000.0, [0], [1])
    assert assembler.drain(0.0) == []
    assembler.take(0.1, 1000.1, [1], [2])
    assert rows(assembler.drain(0.1)) == [(1000.1, [1, 2])]
    assembler.take(1.0, 1001.0, [0], [3])
    assert rows(assembler.drain(1.0)) == []
    assembler.take(1.2, 1001.2, [1], [4])
    assert rows(assembler.drain(1.2)) == [(1001.1, [3, 4])]


def test_a_tag_without_a_new_reading_keeps_its_last_one() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0, 5)
    assembler.take(1.0, 1001.0, [0], [6])
    assert rows(assembler.drain(1.4)) == []
    assert rows(assembler.drain(1.5)) == [(1001.0, [6, -5])]


def test_a_last_reading_is_held_only_so_long() -> None:
    assembler = made(hold_s=2.0)
    whole(assembler, 0.0, 1000.0, 5)
    for k in range(1, 6):
        assembler.take(k, 1000.0 + k, [0], [k])
    given = rows(assembler.drain(5.5))
    assert [math.isnan(values[1]) for _, values in given] == [False, False, True, True, True]


def test_a_row_waits_for_what_is_on_its_way() -> None:
    assembler = made(lateness_s=1.0)
    whole(assembler, 0.0, 1000.0, 5)
    assembler.take(1.0, 1001.0, [0], [6])
    assembler.take(2.1, 1002.0, [0], [8])
    assert rows(assembler.drain(2.4)) == []
    assembler.take(2.45, 1001.0, [1], [7])
    assert rows(assembler.drain(2.45)) == [(1001.0, [6, 7])]


def test_readings_out_of_order_go_where_they_belong() -> None:
    assembler = made(lateness_s=3.0)
    whole(assembler, 0.0, 1000.0)
    for now, time, tag, value in [(1.0, 1002, 0, 2), (1.1, 1001, 0, 1), (1.2, 1001, 1, 10), (1.3, 1002, 1, 20)]:
        assembler.take(now, float(time), [tag], [value])
    assert rows(assembler.drain(1.3)) == [(1001.0, [1, 10]), (1002.0, [2, 20])]


def test_what_comes_twice_makes_one_row() -> None:
    assembler = made()
    given = [one for time in (1000, 1000, 1001, 1001, 1000, 1002) for one in whole(assembler, time - 1000, time, time)]
    assert [time for time, _ in rows(given)] == [1000, 1001, 1002]
    assert kinds(given) == []


def test_a_backlog_delivered_at_once_becomes_all_its_rows() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0)
    assembler.pause()
    given = [one for k in range(3600) for one in whole(assembler, 3600.0 + k * 1e-3, 1001.0 + k)]
    assert len(rows(given)) == 3600
    assert kinds(given) == []


def test_faster_readings_than_the_schema_are_thinned() -> None:
    assembler = made()
    given = [one for k in range(50) for one in whole(assembler, k / 10, 1000 + k / 10, k)]
    assert [round(time) for time, _ in rows(given)] == [1000, 1001, 1002, 1003, 1004, 1005]


def test_a_plant_whose_clock_drifts_loses_no_row_and_invents_none() -> None:
    assembler = made()
    for k in range(20_000):  # 0.1 % slow: twenty periods in all
        for tag in (0, 1):
            assembler.take(1.001 * k + 0.01 * tag, 1000 + 1.001 * k + 0.01 * tag, [tag], [k])
    given = rows(assembler.drain(20_020.0))
    assert len(given) == 20_000
    assert all(a == b for _, (a, b) in given)


def test_silence_stops_the_rows_and_says_so() -> None:
    assembler = made(stall_s=3.0)
    whole(assembler, 0.0, 1000.0)
    given = [one for k in range(1, 100) for one in assembler.drain(k / 2)]
    assert kinds(given) == ["stalled"]
    assert len(rows(given)) <= 3
    back = whole(assembler, 60.0, 1060.0, 9)
    assert kinds(back) == ["resumed", "gap"]
    assert rows(back) == [(1060.0, [9, -9])]


def test_a_source_that_says_nothing_changed_is_no_silence() -> None:
    assembler = made(stall_s=3.0)
    whole(assembler, 0.0, 1000.0)
    given = []
    for k in range(1, 31):
        assembler.alive(k)
        given += assembler.drain(k)
    assert kinds(given) == []
    assert len(rows(given)) == 29


def test_a_connection_that_was_lost_leaves_a_gap_and_no_invented_rows() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0)
    assembler.pause()
    assert [one for k in range(1, 30) for one in assembler.drain(k)] == []
    back = whole(assembler, 30.0, 1030.0)
    assert kinds(back) == ["gap"]
    assert "29 rows" in next(one.text for one in back if isinstance(one, Notice))


def test_one_wrong_time_moves_nothing() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0)
    assembler.take(0.5, 4e9, [0], [3.0])
    given = whole(assembler, 1.0, 1001.0, 1)
    assert kinds(given) == []
    assert rows(given)[-1] == (1001.0, [1, -1])
    assert assembler.counts.restamped == 1


@pytest.mark.parametrize("moved", [-3600.0, 3600.0, -86_400.0 * 365])
def test_a_clock_that_was_set_is_told_and_followed(moved: float) -> None:
    assembler = made()
    before = [one for k in range(5) for one in whole(assembler, k, 1e9 + k)]
    after = [one for k in range(5, 15) for one in whole(assembler, k, 1e9 + moved + k, k)]
    assert kinds(before) == []
    assert kinds(after) == ["clock"]
    assert rows(after)[-1] == (1e9 + moved + 14, [14, -14])


def test_times_that_are_none_count_as_now() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0)
    for bad in (math.nan, math.inf, -math.inf, -1.0, 1e300):
        assembler.take(1.0, bad, [0, 1], [1, 2])
    assert rows(assembler.drain(1.0)) == [(1001.0, [1, 2])]


def test_a_flood_of_future_readings_takes_no_memory() -> None:
    assembler = made(most=8)
    whole(assembler, 0.0, 1000.0)
    for k in range(10_000):
        assembler.take(0.5, 1000.9, [k % 2], [k])
    assert len(assembler._pending) <= 16


def test_a_storm_of_nan_gives_rows_of_nan() -> None:
    assembler = made()
    given = []
    for k in range(4):
        assembler.take(k, 1000.0 + k, [0, 1], [math.nan, math.inf if k % 2 else 1e300])
        given += assembler.drain(k)
    assert len(rows(given)) == 4
    assert all(np.isnan(values).all() for _, values in rows(given))
    assert assembler.counts.bad == 8


def test_a_tag_that_never_comes_is_named_once_and_rows_go_on() -> None:
    assembler = made()
    given = []
    for k in range(20):
        assembler.take(k, 1000.0 + k, [0], [k])
        given += assembler.drain(k)
    assert kinds(given) == ["missing"]
    assert "B" in next(one.text for one in given if isinstance(one, Notice))
    assert rows(given)
    assert all(math.isnan(values[1]) for _, values in rows(given))


def test_old_values_of_a_fresh_connection_do_not_say_how_late_it_is() -> None:
    """OPC UA tells every value when a subscription begins, with the time when it last changed."""
    assembler = made()
    assembler.take(0.0, 10.0, [0], [1], anchor=False)
    assembler.take(0.0, 9000.0, [1], [2], anchor=False)
    assert assembler.drain(0.0) == []
    assembler.take(1.0, 10_000.0, [1], [3])
    assert rows(assembler.drain(1.5)) == [(10_000.0, [1, 3])]


def test_what_was_known_is_forgotten_when_the_source_tells_it_anew() -> None:
    assembler = made()
    whole(assembler, 0.0, 1000.0, 5)
    assembler.pause(forget=True)
    assembler.take(1.0, 1001.0, [0], [6])
    assert rows(assembler.drain(1.0)) == []


def test_a_flood_of_refusals_is_one_notice_a_minute() -> None:
    grumbler = Grumbler(60.0)
    said = [grumbler.refuse(k / 10, "no JSON") for k in range(1300)]
    assert len([one for one in said if one]) == 3
    assert grumbler.total == 1300


def test_ten_thousand_random_readings_never_break_the_order() -> None:
    rng = np.random.default_rng(0)
    assembler, now, last = made(stall_s=5.0, lateness_s=0.3), 0.0, -math.inf
    for _ in range(10_000):
        now += float(rng.exponential(0.2))
        time = 1000 + now + float(rng.choice([0, 0, 0, -0.2, -3, -2000, 5000]))
        assembler.take(now, time, [int(rng.integers(2))], [float(rng.normal())], anchor=bool(rng.integers(10)))
        if rng.random() < 0.01:
            assembler.pause(forget=bool(rng.integers(2)))
        for one in assembler.drain(now):
            if isinstance(one, Notice):
                last = -math.inf if one.kind == "clock" else last
            else:
                assert one.time > last
                last = one.time
    assert assembler.counts.rows > 1000


def test_every_option_of_a_source_or_sink_is_documented() -> None:
    import msgspec

    from client.edge.sinks import history, opcua, prometheus, webhook
    from client.edge.sinks import mqtt as mqtt_sink
    from client.edge.sources import mqtt
    from client.edge.sources import opcua as opcua_source

    docs = Path(__file__).parents[2] / "docs/edge"
    sources, sinks = ((docs / name).read_text() for name in ("sources.md", "sinks.md"))
    told: list[tuple[str, list[Any]]] = [(sources, [mqtt.MqttOptions, opcua_source.OpcuaOptions])]
    told += [(sinks, [mqtt_sink.MqttSinkOptions, opcua.OpcuaSinkOptions, webhook.WebhookOptions])]
    told += [(sinks, [history.HistoryOptions, prometheus.PrometheusOptions])]
    for text, kinds_of_options in told:
        for options in kinds_of_options:
            assert [f.name for f in msgspec.structs.fields(options) if f"`{f.name}`" not in text] == []


@pytest.mark.parametrize(
    ("location", "extra"), [("opc.tcp://127.0.0.1", "opcua"), ("mqtt://127.0.0.1/a", "mqtt")], ids=["opcua", "mqtt"]
)
def test_a_missing_extra_is_named(location: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from client.edge.sinks.base import SinkSettings, open_sink
    from client.edge.sources.base import SourceSettings, open_source
    from shared.errors import MissingExtra

    for package in ("asyncua", "aiomqtt"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as caught:
        open_source(SourceSettings(location, TWO))
    assert f"crossplant[{extra}]" in str(caught.value)
    with pytest.raises(MissingExtra) as caught:
        open_sink(SinkSettings(location, tmp_path))
    assert f"crossplant[{extra}]" in str(caught.value)
