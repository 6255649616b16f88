"""The picture docs/images/benchmarks.svg: each goal beside what was measured, and how fast everybody is."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.cases import CASES, peers
from benchmarks.results import Results, judge, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.case import Case
    from benchmarks.results import Verdict

_WIDTH, _ROW, _HEAD, _EDGE = 960, 26, 64, 20
_PLOT, _NUMBERS = 470, 840
"""Where what is drawn begins, and where it ends and its numbers stand."""

_OCTAVES: Final = 3
"""Eight times better or worse than promised is as far as the picture goes."""

_STYLE: Final = """\
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1d2433 }
.paper { fill: #ffffff } .dim { fill: #69728a } .line { stroke: #c6cbd8 }
.met { stroke: #15803d; fill: #15803d } .missed { stroke: #c62f3b; fill: #c62f3b }
.ours { fill: #4653c4 } .bare { fill: #69728a } .peer { fill: #a9b0c4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9f2 } .paper { fill: #161a26 } .dim { fill: #929bb4 } .line { stroke: #3a4157 }
  .met { stroke: #4cc38a; fill: #4cc38a } .missed { stroke: #ff7a85; fill: #ff7a85 }
  .ours { fill: #8b9bff } .bare { fill: #929bb4 } .peer { fill: #4a5270 }
}
"""


def picture() -> str:
    """Draw the results that were kept."""
    return drawn(Results.load(), CASES)


def drawn(results: Results, cases: Sequence[Case]) -> str:
    """Draw these *results*."""
    cases = [case for case in cases if case.name in results.cases]
    verdicts = [(case, verdict) for case in cases for verdict in judge(case, results.cases[case.name])]
    rates = list(_rates(results))
    second = _HEAD + _ROW * len(verdicts) + _HEAD
    height = second + _ROW * len(rates) + _EDGE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
            *_heading(_EDGE + 6, "What was promised, and what was measured", "worse ← as promised → better"),
            *_axis(_HEAD - 8, _ROW * len(verdicts)),
            *(part for row, known in enumerate(verdicts) for part in _goal(_HEAD + _ROW * row, *known)),
            *_heading(second - _HEAD + _EDGE + 18, "No-op calls a second, one worker process", "logarithmic"),
            *(part for row, rate in enumerate(rates) for part in _bar(second + _ROW * row, rate, rates)),
            "</svg>\n",
        ]
    )


def _heading(y: int, left: str, right: str) -> Iterator[str]:
    yield f'<text x="{_EDGE}" y="{y}" font-weight="bold">{escape(left)}</text>'
    yield f'<text class="dim" x="{(_PLOT + _NUMBERS) / 2}" y="{y}" text-anchor="middle">{escape(right)}</text>'


def _axis(y: int, height: int) -> Iterator[str]:
    x = _at(1)
    yield f'<line class="line" x1="{x}" x2="{x}" y1="{y}" y2="{y + height}" stroke-width="2"/>'


def _goal(y: int, case: Case, verdict: Verdict) -> Iterator[str]:
    kind = "met" if verdict.met else "missed"
    ends = sorted(_at(_of_promised(verdict, value)) for value in (verdict.rounds.least, verdict.rounds.most))
    yield f'<text x="{_EDGE}" y="{y + 5}">{escape(_short(f"{case.name}: {verdict.goal.promise}"))}</text>'
    yield f'<line class="{kind}" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}" stroke-width="2"/>'
    yield f'<circle class="{kind}" cx="{_at(_of_promised(verdict, verdict.value))}" cy="{y}" r="5"/>'
    yield f'<text class="dim" x="{_NUMBERS + 12}" y="{y + 5}">{verdict.value:,.2f}</text>'


def _of_promised(verdict: Verdict, value: float) -> float:
    """Tell how many times better than promised *value* is."""
    goal = verdict.goal
    if goal.at_least is not None:
        return max(value, 0.0) / goal.at_least
    # A difference may be less than nothing.
    return (goal.at_most or 1) / value if value > 0 else math.inf


def _at(times: float) -> float:
    octaves = math.log2(times) if times > 0 else -math.inf
    part = (max(-_OCTAVES, min(_OCTAVES, octaves)) + _OCTAVES) / (2 * _OCTAVES)
    return round(_PLOT + part * (_NUMBERS - _PLOT), 1)


def _short(text: str) -> str:
    most = (_PLOT - _EDGE) // 8 - 1
    return text if len(text) <= most else f"{text[: most - 1]}…"


class _Rate(NamedTuple):
    name: str
    rate: float


def _rates(results: Results) -> Iterator[_Rate]:
    for name, runs in results.cases.get(peers.CASE.name, {}).items():
        if runs:
            yield _Rate(name, spread(results.cases[peers.CASE.name], peers.rate_of(name)).median)


def _bar(y: int, rate: _Rate, rates: Sequence[_Rate]) -> Iterator[str]:
    decades = [math.log10(one.rate) for one in rates]
    lowest = math.floor(min(decades))
    part = (math.log10(rate.rate) - lowest) / (max(decades) - lowest)
    kind = "ours" if rate.name.startswith("toolspan") else "bare" if rate.name == "reference" else "peer"
    yield f'<text x="{_EDGE}" y="{y + 5}">{escape(rate.name)}</text>'
    yield f'<rect class="{kind}" x="{_PLOT}" y="{y - 8}" width="{part * (_NUMBERS - _PLOT):.1f}" height="16" rx="3"/>'
    yield f'<text class="dim" x="{_NUMBERS + 12}" y="{y + 5}">{rate.rate:,.0f}</text>'
