"""tqdm's bars, drawn and not drawn."""

from __future__ import annotations

from tidegate.integrations import operation, shared_reporter
from tidegate.integrations.tqdm import tqdm


def broken() -> object:
    yield from range(3)
    raise ValueError("row 3")


for _ in tqdm(range(500), operation="loop", desc="Import"):
    pass
for _ in tqdm(range(500), operation="quiet", disable=True):
    pass
for n in tqdm(range(500), operation="left"):
    if n == 100:
        break
try:
    for _ in tqdm(broken(), operation="broken"):
        pass
except ValueError:
    pass
try:
    with tqdm(total=10, operation="block") as bar:
        bar.update(5)
        raise ValueError("row 5")
except ValueError:
    with tqdm(total=10, unit="B", operation="counted") as bar:
        bar.update(4)
        bar.update(6)
with operation("whole") as op:
    for _ in tqdm(range(10), op=op):
        pass
for _ in tqdm(range(10)):
    pass
assert shared_reporter().flush(60)
