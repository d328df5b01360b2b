"""A `watch` for a bed: asks for metrics as a Prometheus would, while a server is measured.

The first time at once, so that a short stretch pays for a scrape as well, then every `EVERY_S`, as
the chart's monitors do: a stretch of `EVERY_S` has one. The work of the asking is on the load's
core.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from bench.errors import BenchError
from bench.stage import Stage

EVERY_S: Final = 15.0
ACCEPT: Final = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"


@asynccontextmanager
async def scraped(stage: Stage) -> AsyncIterator[None]:
    """Ask all `stage.scraped` for the time of the block; nothing where there is none.

    Raises `BenchError` when one answers with anything but metrics, or not at all."""
    if not stage.scraped:
        yield
        return
    async with httpx.AsyncClient(headers={"Accept": ACCEPT}, trust_env=False) as client:

        async def ask() -> None:
            while True:
                for url in stage.scraped:
                    try:
                        answer = await client.get(url)
                    except httpx.HTTPError as error:
                        raise BenchError(f"{url} does not answer: {error!r}") from error
                    if answer.status_code != httpx.codes.OK or "# EOF" not in answer.text:
                        raise BenchError(f"{url} answered {answer.status_code} and no metrics")
                await asyncio.sleep(EVERY_S)

        asking = asyncio.create_task(ask(), name="scrapes")
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait([asking])
    if not asking.cancelled():
        asking.result()
