"""Quality over cost: the front against the definition, and a picture that is one whatever rows are called."""

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from leaderboard import pareto
from leaderboard.board import OUTSIDE
from leaderboard.pareto import Point, front

SVG = "{http://www.w3.org/2000/svg}"


def test_the_front_is_what_nothing_of_its_cost_or_less_beats():
    rng = np.random.default_rng(0)
    points = [Point(f"row {i}", "ours", float(rng.integers(1, 9)), float(rng.integers(1, 9))) for i in range(60)]
    found = front(points)
    for point in points:
        beaten = any(o.seconds <= point.seconds and o.value > point.value for o in points)
        cheaper = any(o.seconds < point.seconds and o.value == point.value for o in points)
        wanted = not beaten and not cheaper
        assert wanted == ((point.seconds, point.value) in {(f.seconds, f.value) for f in found})
    assert found == sorted(found, key=lambda one: one.seconds)


@pytest.fixture
def drawn(monkeypatch):
    def of(points, category="Cat"):
        monkeypatch.setattr(pareto, "points_of", lambda board: points)
        monkeypatch.setattr(pareto, "main_table", lambda board: SimpleNamespace(protocol="item"))
        return pareto.svg(SimpleNamespace(title=category))

    return of


def test_every_row_is_a_point_within_the_frame_and_no_name_is_markup(drawn):
    points = [
        Point('<script>alert("x")</script> & co', "community", 1.0, 0.5),
        Point("slow", "llm", 86400.0, 0.91),
        Point("worse", "traditional", 500.0, 0.2),
    ]
    root = ET.fromstring(drawn(points, "A<b>"))
    circles = [node for node in root.iter(f"{SVG}circle") if node.find(f"{SVG}title") is not None]
    assert [node.find(f"{SVG}title").text.split(":")[0] for node in circles] == [point.name for point in points]
    for node in circles:
        assert pareto.LEFT <= float(node.get("cx")) <= pareto.WIDTH - pareto.RIGHT
        assert pareto.TOP <= float(node.get("cy")) <= pareto.HEIGHT - pareto.BOTTOM
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert points[0].name in texts and "slow" in texts and "worse" not in texts  # the front alone is named
    assert not list(root.iter(f"{SVG}script"))
    height = {node.find(f"{SVG}title").text: float(node.get("cy")) for node in circles}
    assert min(height, key=height.get).startswith("slow")


def test_one_row_is_no_picture_and_equal_rows_are_drawn(drawn):
    assert drawn([Point("alone", "ours", 1.0, 0.1)]) == ""
    ET.fromstring(drawn([Point("a", "ours", 1.0, 0.0), Point("b", "ours", 1.0, 0.0)]))


def test_a_row_whose_training_was_elsewhere_is_no_point(monkeypatch):
    def row(name, seconds=60.0, **stage):
        record = SimpleNamespace(settings={"stages": [{"name": "s", "trainer": "gru4rec"} | stage]})
        system = SimpleNamespace(metric=lambda protocol, metric: 0.5)
        return SimpleNamespace(
            name=name, group="ours", mixed="", records=(record,), system=system, cost=lambda key: seconds,
            made_elsewhere=stage.get("trainer") in OUTSIDE,
        )  # fmt: skip

    rows = [
        row("own"), row("fast", 0.0), row("scored", 0.0, trainer="external"), row("given", 0.0, trainer="checkpoint"),
        row("over a run", parts={"net": "run:runs/x"}), row("unknown", None),
        row("of parts", parts={"net": {"name": "sasrec"}}),
    ]  # fmt: skip
    monkeypatch.setattr(pareto, "main_table", lambda board: SimpleNamespace(protocol="item", rows=rows))
    assert [(p.name, p.seconds) for p in pareto.points_of(None)] == [("own", 60.0), ("fast", 1.0), ("of parts", 60.0)]
