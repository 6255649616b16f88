"""What a soak tells at its end: a table of counts, and a plot of what was answered when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.soak.faults import Faults
    from tests.soak.ledger import Ledger

_BARS: Final = " ▁▂▃▄▅▆▇█"
_SHOWN: Final = 5


def tell(ledger: Ledger, faults: Faults, verdicts: Mapping[str, Any], rates: list[int], *, seconds: float) -> None:
    """Print both; a verdict that is not 0 comes with a few examples."""
    console = Console()
    table = Table(title=f"{ledger.calls} calls in {seconds:.0f} s, seed {ledger.seed}", show_header=False)
    for kind, times in sorted(faults.done.items()):
        table.add_row(kind, str(times))
    table.add_section()
    for what, times in sorted(ledger.quarantined.items()):
        table.add_row(f"dead letters: {what}", str(times))
    for what, times in sorted(ledger.called.items()):
        table.add_row(f"calls of the gateway: {what}", str(times))
    table.add_row("the longest that one waited for its answer, in seconds", f"{ledger.longest_wait:.1f}")
    table.add_row("append not answered, and no reply", str(sum(not ledger.replies[n] for n in ledger.unsure)))
    table.add_section()
    for what, found in verdicts.items():
        table.add_row(what, f"{len(found)}" + (f"  {_some(found)}" if found else ""))
    console.print(table)
    console.print(f"answered in each second, at most {max(rates, default=0)}; ! where something went wrong")
    marks = [" "] * len(rates)
    for at, _ in faults.timeline:
        if int(at) < len(marks):
            marks[int(at)] = "!"
    for first in range(0, len(rates), console.width):
        console.print(_plot(rates, max(rates))[first : first + console.width], highlight=False)
        console.print("".join(marks)[first : first + console.width], highlight=False)


def _some(found: Any) -> str:
    return str(dict(found) if isinstance(found, dict) else list(found)[:_SHOWN])


def _plot(rates: list[int], most: int) -> str:
    return "".join(_BARS[-(-rate * (len(_BARS) - 1) // (most or 1))] for rate in rates)
