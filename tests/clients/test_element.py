"""`<tidegate-progress>` in a real Chromium, on a real gateway: what it says and shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.browser import Browser
from tests.clients.package import PageServer
from tests.clients.scene import base
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("chromium", "node"),
    pytest.mark.full,
    pytest.mark.xdist_group("js"),
]

ELEMENT = "document.querySelector('tidegate-progress')"
LOOK = f"""(() => {{
  const root = {ELEMENT}.shadowRoot;
  const text = (part) => root.querySelector('.' + part).textContent;
  const track = root.querySelector('[role=progressbar]');
  const fill = root.querySelector('.fill').getBoundingClientRect();
  const whole = track.getBoundingClientRect();
  return {{
    title: text('title'), status: text('status'), message: text('message'), note: text('note'),
    now: track.getAttribute('aria-valuenow'), said: track.getAttribute('aria-valuetext'),
    name: track.getAttribute('aria-label'), busy: track.getAttribute('aria-busy'),
    live: text('said'),
    filled: Math.round(100 * fill.width / whole.width),
    fromTheRight: Math.round(whole.right - fill.right) === 0,
    states: ['waiting', 'running', 'completed', 'failed', 'cancelled', 'refused', 'indeterminate',
      'stale', 'gap'].filter((state) => {ELEMENT}.matches(`:state(${{state}})`)),
  }};
}})()"""


async def place(browser: Browser, url: str, operation: str, **attributes: str) -> None:
    await browser.evaluate("import('/package/dist/element.min.js')")
    await browser.until("!!customElements.get('tidegate-progress')")
    given = {"operation": operation, "url": url, **attributes}
    await browser.evaluate(
        "{ const made = document.createElement('tidegate-progress');"
        f" for (const [name, value] of Object.entries({json.dumps(given)}))"
        " made.setAttribute(name, value); document.body.append(made); }"
    )


async def looks(browser: Browser, **expected: Any) -> dict[str, Any]:
    """Wait until it looks so."""
    await browser.until(
        f"Object.entries({json.dumps(expected)}).every(([name, value]) =>"
        f" JSON.stringify({LOOK}[name]) === JSON.stringify(value))"
    )
    found: dict[str, Any] = await browser.evaluate(LOOK)
    return found


async def test_from_not_started_to_completed(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with Replica(redis_server.url, auth={"origins": [pages.origin]}) as replica:
        await place(browser, base(replica), "a")
        await looks(
            browser, status="Not started", states=["waiting"], now=None, filled=0, title="a"
        )
        await backend.publish("a", "operation_started", title="Import", message="opening")
        seen = await looks(browser, status="Running", states=["running", "indeterminate"])
        assert (seen["title"], seen["busy"], seen["now"]) == ("Import", "true", None)
        assert (seen["name"], seen["said"]) == ("Import", "Running, opening")
        await backend.publish("a", progress=0.5, message="half way")
        await looks(browser, status="50%", states=["running"], now="50", filled=50, busy="false")
        await backend.publish("a", progress="0.999")
        await looks(browser, status="99%", now="100")
        await backend.finish("a")
        seen = await looks(browser, status="Completed", states=["completed"], filled=100)
        assert "Completed" in seen["live"]
    assert browser.console == []


async def test_a_failure_says_why(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with Replica(redis_server.url, auth={"origins": [pages.origin]}) as replica:
        await backend.publish("a", progress=0.4)
        await backend.publish("a", "operation_failed", error="no space left")
        await place(browser, base(replica), "a", label="Deploy")
        failed = {"status": "Failed", "message": "no space left", "states": ["failed"]}
        seen = await looks(browser, **failed, filled=40)
        assert (seen["title"], seen["said"]) == ("Deploy", "Failed, no space left")


STOP = f"{ELEMENT}.shadowRoot.querySelector('button.stop')"
STOP_SHOWS = (
    f"(({{ hidden, textContent, ariaDisabled, ariaLabel }}) =>"
    f" [hidden, textContent, ariaDisabled, ariaLabel])({STOP})"
)


async def stop_shows(browser: Browser, text: str, disabled: str, label: str) -> None:
    expected = json.dumps([False, text, disabled, label])
    await browser.until(f"JSON.stringify({STOP_SHOWS}) === JSON.stringify({expected})")


async def test_the_stop_button_asks_the_worker_to_stop(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with Replica(redis_server.url, auth={"origins": [pages.origin]}) as replica:
        await place(browser, base(replica), "a", cancellable="", label="Import")
        await looks(browser, status="Not started")
        assert await browser.evaluate(f"{STOP}.hidden"), "there is nothing to stop yet"
        await backend.publish("a", progress=0.4)
        await stop_shows(browser, "Stop", "false", "Stop Import")
        await browser.evaluate(f"{STOP}.focus()")
        await browser.press("Enter")
        await browser.press("Enter")
        await looks(browser, status="40%", states=["running"])
        await stop_shows(browser, "Cancelling…", "true", "Cancelling… Import")
        await browser.until(f"{ELEMENT}.state.status === 'cancelling'")
        await backend.publish("a", "operation_cancelled")
        await looks(browser, status="Cancelled", states=["cancelled"], note="")
        assert await browser.evaluate(f"{STOP}.hidden")
        assert await browser.evaluate(f"{ELEMENT}.state.entries") == 3, "it was asked for once"
    assert browser.console == []


async def test_a_refusal_to_stop_is_shown(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    settings: dict[str, Any] = {"auth": {"origins": [pages.origin]}, "cancel": {"allow": "none"}}
    async with Replica(redis_server.url, **settings) as replica:
        await backend.publish("a", progress=0.4)
        await place(browser, base(replica), "a")
        await looks(browser, status="40%")
        assert await browser.evaluate(f"{STOP}.hidden"), "only where a page asks for it"
        await browser.evaluate(f"{ELEMENT}.toggleAttribute('cancellable')")
        await stop_shows(browser, "Stop", "false", "Stop a")
        await browser.evaluate(f"{STOP}.click()")
        await browser.until(f"{LOOK}.note.startsWith('Not stopped: ')")
        seen = await looks(browser, status="40%")
        assert seen["note"] in seen["live"]
        await stop_shows(browser, "Stop", "false", "Stop a")
        await backend.finish("a")
        await looks(browser, status="Completed", note="")


async def test_redis_is_away(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with Replica(redis_server.url, auth={"origins": [pages.origin]}) as replica:
        await backend.publish("a", progress=0.4)
        await place(browser, base(replica), "a")
        await looks(browser, status="40%")
        redis_server.pause()
        await looks(browser, states=["running", "stale"], note="Updates are delayed")
        redis_server.resume()
        await looks(browser, states=["running"], note="")


async def test_from_right_to_left_another_operation_and_a_bad_one(
    redis_server: Server, backend: Backend, browser: Browser, pages: PageServer
) -> None:
    async with Replica(redis_server.url, auth={"origins": [pages.origin]}) as replica:
        await backend.publish("a", progress=0.25)
        await backend.publish("b", progress=0.75)
        await browser.evaluate("document.documentElement.dir = 'rtl'")
        await place(browser, base(replica), "a")
        await looks(browser, now="25", filled=25, fromTheRight=True)
        await browser.evaluate(f"{ELEMENT}.operation = 'b'")
        await looks(browser, now="75", title="b", filled=75)
        await browser.evaluate(f"{ELEMENT}.operation = 'no/id'")
        await looks(browser, states=["refused"], status="Not available")
        await browser.evaluate(f"{ELEMENT}.remove()")
