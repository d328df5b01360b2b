"""The rounds of all clients as one table: medians with their extremes, and ratios to ours. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.clients.rounds import Round
from bench.stats import Spread, spread


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of one client; the first of several is what others are compared with."""

    name: str
    version: str
    size_bytes: int
    rounds: Sequence[Round]


Figure = Callable[[Round], float]
FIGURES: Mapping[str, Figure] = {
    "first update of a new page, ms": lambda found: found.first_ms,
    "CPU of the page per 1,000 updates, ms": lambda found: found.cpu_ms,
    "of which JavaScript, ms": lambda found: found.script_ms,
    "updates again after a kill, ms": lambda found: median(found.back_ms),
    "updates lost in the kills of a round": lambda found: float(found.lost),
}


def markdown(clients: Sequence[Client]) -> str:
    """One row for each figure, one column for each client."""
    head = ["", *(f"{client.name} {client.version}" for client in clients)]
    rows = [["size, gzipped, bytes", *_sizes(clients)]]
    rows += [[name, *_cells(clients, figure)] for name, figure in FIGURES.items()]
    lines = [head, ["---"] + ["---:"] * len(clients), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sizes(clients: Sequence[Client]) -> list[str]:
    ours = clients[0].size_bytes
    return [f"{client.size_bytes:,}{_ratio(client.size_bytes, ours)}" for client in clients]


def _cells(clients: Sequence[Client], figure: Figure) -> list[str]:
    spreads = [spread([figure(found) for found in client.rounds]) for client in clients]
    ours = spreads[0].median
    return [f"{_text(one)}{_ratio(one.median, ours)}" for one in spreads]


def _text(one: Spread) -> str:
    if one.low == one.high:
        return _number(one.median)
    return f"{_number(one.median)} ({_number(one.low)} to {_number(one.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _ratio(theirs: float, ours: float) -> str:
    """Nothing for ours, and nothing where it says nothing."""
    return "" if not ours or theirs == ours else f", {theirs / ours:.1f}x"
