"""The bar that every panel clears."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.source.build import BOARDS, main
from tests.dashboards.queries import panels

ALL = list(panels())
DRAWING = {"stat", "timeseries", "table", "heatmap"}
by_title = pytest.mark.parametrize(("board", "panel"), ALL, ids=[f"{board}: {p['title']}" for board, p in ALL])
BOARD_UIDS = {f"toolspan-{board.name}" for board in BOARDS}


@by_title
def test_every_panel_says_what_it_answers(board: str, panel: dict[str, Any]) -> None:
    assert len(panel["title"]) > 5, board
    assert panel["description"].endswith((".", "."))


@by_title
def test_every_panel_that_asks_says_so_when_there_is_nothing(board: str, panel: dict[str, Any]) -> None:
    if "targets" in panel:
        assert panel["fieldConfig"]["defaults"]["noValue"], board


@by_title
def test_every_panel_that_draws_numbers_has_a_unit(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] in DRAWING:
        assert panel["fieldConfig"]["defaults"]["unit"], board


@by_title
def test_what_is_not_known_is_grey_and_never_a_green_zero(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] == "stat":
        [mapping] = panel["fieldConfig"]["defaults"]["mappings"]
        assert mapping["options"]["match"] == "null+nan", board
        assert mapping["options"]["result"]["color"].startswith("#")


@by_title
def test_a_graph_on_which_nothing_happens_does_not_go_up_to_100(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["unit"] not in {"s", "bytes"}:
        assert panel["fieldConfig"]["defaults"]["custom"].get("axisSoftMax", 100) < 100, board


@by_title
def test_every_graph_of_durations_has_exemplars(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] in {"timeseries", "heatmap"}:
        asked = [target for target in panel["targets"] if "_seconds_bucket" in target["expr"]]
        assert all(target["exemplar"] for target in asked), board


@by_title
def test_every_table_of_traces_leads_to_the_call(board: str, panel: dict[str, Any]) -> None:
    if panel["type"] == "table" and panel["datasource"]["type"] == "tempo":
        assert "/d/toolspan-call?" in json.dumps(panel["fieldConfig"]["overrides"]), board


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_links_lead_to_boards_that_exist_and_keep_the_time_and_the_stream(board: Any) -> None:
    links = re.findall(r'"url": "(/d/[^"]+)"', json.dumps(board.json()))

    for link in links:
        assert re.match(r"/d/([a-z-]+)\?", link)[1] in BOARD_UIDS  # type: ignore[index]
        assert "${__url_time_range}" in link
        assert "${stream:queryparam}" in link
    dropdown, *pages = board.json(docs="https://docs.example.com")["links"]
    assert dropdown["keepTime"]
    assert dropdown["includeVars"]
    assert [page["url"] for page in pages] == [
        "https://docs.example.com/how-to/ten-questions/",
        "https://docs.example.com/runbooks/",
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_variable_that_a_board_uses_is_its_own(board: Any) -> None:
    made = board.json()
    known = {variable["name"] for variable in made["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!__)([a-z_]+)", json.dumps([made["panels"], made["annotations"]])))

    assert used <= known


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_board_marks_what_changed(board: Any) -> None:
    names = {annotation["name"] for annotation in board.json()["annotations"]["list"]}

    assert {"Deploys", "Alerts", "Dead letters", "Redis restarts"} <= names


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: Any) -> None:
    placed = board.json()["panels"]
    cells = [
        (x, y)
        for panel in placed
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["id"] for panel in placed}) == len(placed)
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)


def test_the_overview_begins_with_six_coloured_figures() -> None:
    first = [panel for panel in BOARDS[0].json()["panels"] if panel["gridPos"]["y"] == 1]

    assert [panel["type"] for panel in first] == ["stat"] * 6
    assert all(panel["options"]["colorMode"] == "background" for panel in first)


def test_what_is_committed_is_what_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_a_file_that_was_edited_by_hand_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dashboards.source.build.ROOT", tmp_path)
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "dashboards" / "tool.json").write_text("{}")
    (tmp_path / "otel" / "prometheus" / "rules" / "mine.yml").write_text("")
    capsys.readouterr()

    assert main(["--check"]) == 1
    told = capsys.readouterr().out
    assert "dashboards/tool.json" in told
    assert "rules/mine.yml" in told
