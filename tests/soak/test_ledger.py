"""A soak is worth as much as its ledger: what must not be is found, each kind of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.ledger import Ledger, run_twice
from toolspan.model import DeadLetter, Failed, Progress, Remembered, Reply, Timings

if TYPE_CHECKING:
    from pathlib import Path

    from toolspan.model import ErrorType

CALLS = 1_000


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(7, CALLS)


def _first(ledger: Ledger, tool: str) -> int:
    return next(n for n in range(CALLS) if ledger.tool(n) == tool)


def _reply(n: int | str, end: ErrorType | None = None, result: int | None = None) -> Reply:
    failure = Failed(end, "because") if end else None
    return Reply(str(n), "1-1", "error" if end else "ok", n if result is None else result, failure, 1, "w", Timings())


def _letter(n: int, reason: str) -> DeadLetter:
    fields = [b"id", str(n).encode()]
    return DeadLetter("1-1", "1-1", reason, "", "", None, [], "w", None, 1, "", None, None, fields)


def test_a_call_without_a_reply_is_lost_unless_its_append_was_not_answered(ledger: Ledger) -> None:
    for n in range(2, CALLS):
        ledger.heard(_reply(n))
    ledger.unsure.add(1)

    assert ledger.lost() == [0]


def test_a_call_with_two_replies_is_doubled_and_so_is_one_that_runs_again_under_its_key(ledger: Ledger) -> None:
    for n in (0, 1, 1, "5-again"):
        ledger.heard(_reply(n))

    assert ledger.doubled() == [1, "5-again"]


@pytest.mark.parametrize(
    ("tool", "end"),
    [("echo", "worker_error"), ("fails", None), ("given_up", None), ("once", "quarantined"), ("killer", "tool_error")],
)
def test_a_reply_that_its_tool_cannot_have_is_wrong(ledger: Ledger, tool: str, end: ErrorType | None) -> None:
    ledger.heard(_reply(_first(ledger, tool), end))

    assert len(ledger.wrong) == 1


def test_another_calls_result_is_wrong(ledger: Ledger) -> None:
    n = _first(ledger, "echo")
    ledger.heard(_reply(n, result=n + 1))

    assert len(ledger.wrong) == 1


@pytest.mark.parametrize("steps", ["a12 a11", "a11 a11", "reply a11", "a11 b11 a12", "a11 a21 a12"])
def test_progress_is_wrong_out_of_order_after_the_reply_and_of_a_run_that_another_has_followed(
    ledger: Ledger, steps: str
) -> None:
    _tell(ledger, steps)

    assert len(ledger.wrong) == 1


@pytest.mark.parametrize("steps", ["a11 a12 a13 b11 b12 reply", "a31 b11 a21 a22", "a21 b11 a21 a22", "a21 a12 reply"])
def test_progress_is_right_in_order_also_where_a_new_group_counts_attempts_anew(ledger: Ledger, steps: str) -> None:
    _tell(ledger, steps)

    assert ledger.wrong == []


def _tell(ledger: Ledger, steps: str) -> None:
    """Have runs of one call tell: each step is consumer, attempt and number."""
    n = _first(ledger, "tells")
    for step in steps.split():
        if step == "reply":
            ledger.heard(_reply(n))
        else:
            ledger.heard(Progress(str(n), "1-1", 0, int(step[2]), int(step[1]), step[0]))


def test_a_key_that_stands_for_another_call_is_wrong(ledger: Ledger) -> None:
    ledger.joined(4, Remembered("4", "1-1", None))
    assert ledger.wrong == []

    ledger.joined(4, Remembered("4-again", "1-1", None))
    assert len(ledger.wrong) == 1


def test_whoever_is_quarantined_for_what_others_did_is_innocent(ledger: Ledger) -> None:
    innocent, killer = _first(ledger, "echo"), _first(ledger, "killer")
    ledger.heard(_reply(killer, "quarantined"))
    ledger.found_dead([_letter(innocent, "worker_lost"), _letter(killer, "worker_lost")])

    assert ledger.innocent() == [innocent]
    assert ledger.wrong == []


@pytest.mark.parametrize("missing", ["letter", "reply", "neither, but there are two letters"])
def test_a_dead_letter_and_its_reply_come_together(ledger: Ledger, missing: str) -> None:
    n = _first(ledger, "once")
    if missing != "reply":
        ledger.heard(_reply(n, "outcome_unknown"))
    ledger.found_dead([_letter(n, "outcome_unknown")] * {"letter": 0, "reply": 1}.get(missing, 2))

    assert len(ledger.wrong) == 1


def test_what_ran_for_nobody_is_found_in_the_files_of_its_tool(ledger: Ledger, tmp_path: Path) -> None:
    n = _first(ledger, "unheard")
    (tmp_path / "unheard-1").write_text(f"{n}\n")
    ledger.read(tmp_path)

    assert n not in ledger.lost()


def test_what_the_gateway_did_not_expect_is_wrong(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "called-1").write_text("1 12.5 ok\n2 600.0 unsure\n4 0.0 refused\n3 9.0 ToolTimeout('no reply')\n")
    ledger.read(tmp_path)

    assert ledger.called == {"ok": 1, "refused": 1, "unsure": 1, "wrong": 1}
    assert ledger.wrong == ["the gateway's 3 9.0 ToolTimeout('no reply')"]
    assert ledger.longest_wait == 12.5


def test_what_ran_twice_is_found_also_if_two_processes_ran_it(tmp_path: Path) -> None:
    (tmp_path / "once-1").write_text("1\n2\n")
    (tmp_path / "once-2").write_text("3\n2\n")

    assert run_twice(tmp_path) == [2]
