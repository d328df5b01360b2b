"""`python -m bench.clients`: rounds of all clients in turns, and the table."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.clients import libraries
from bench.clients.libraries import CENTRIFUGE, SOCKET_IO, TIDEGATE, Library
from bench.clients.rounds import Plan, Round, measure
from bench.clients.table import Client, markdown
from bench.errors import BenchError
from bench.machine import machine

CLIENTS: Final = (TIDEGATE, CENTRIFUGE, SOCKET_IO)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where something cannot be measured."""
    options = _parsed(arguments)
    plan = Plan(
        options.operations, options.per_second, options.seconds, options.loads, options.kills
    )
    try:
        clients = asyncio.run(_measure(plan, options.rounds))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{markdown(clients)}\n")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if options.json:
        found = {
            "machine": machine(),
            "plan": asdict(plan),
            "clients": [asdict(client) for client in clients],
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--operations", type=_positive, default=50, help="watched by the page")
    parser.add_argument("--per-second", type=float, default=1000, help="updates of all of them")
    parser.add_argument("--seconds", type=float, default=10, help="at that pace")
    parser.add_argument(
        "--loads", type=_positive, default=7, help="of the page, for its first update"
    )
    parser.add_argument("--kills", type=_positive, default=3, help="of the server")
    parser.add_argument("--json", type=Path, help="a file for all rounds")
    return parser.parse_args(arguments)


async def _measure(plan: Plan, rounds: int) -> list[Client]:
    modules = libraries.installed()
    found: dict[Library, list[Round]] = {library: [] for library in CLIENTS}
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        scratch = Path(folder)
        sizes = {library: libraries.size(library, scratch) for library in CLIENTS}
        for turn in range(rounds):
            # Another one begins each time.
            first = turn % len(CLIENTS)
            for library in CLIENTS[first:] + CLIENTS[:first]:
                one = await measure(library, plan, scratch, modules)
                found[library].append(one)
                load = os.getloadavg()[0]
                print(f"round {turn + 1}, {library.name}: {one} (load {load:.1f})", flush=True)
    return [
        Client(library.name, libraries.version(library), sizes[library], found[library])
        for library in CLIENTS
    ]


if __name__ == "__main__":
    sys.exit(main())
