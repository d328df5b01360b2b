"""The site: links, what is checked of it, and what a release does to publish it.

`make check-site` builds it. The packages for that are in the extra `docs`: tests that build are
skipped where `make check` has not installed them yet.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.cli.browser import Browser
from tests.docs.console import ROOT
from tests.servers import binaries
from website.checks import page_faults, site_faults
from website.links import OUTSIDE, SOURCE, BrokenLink, first_sentence, for_the_site

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="no mkdocs here: run `make check-site` first"
)


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("faq.md", "[a](protocol.md#frames)", "[a](protocol.md#frames)"),
        ("faq.md", "[a](../README.md)", "[a](index.md)"),
        ("faq.md", "[a](../CHANGELOG.md#x)", "[a](changelog.md#x)"),
        ("faq.md", "[a](../SECURITY.md)", f"[a]({SOURCE}/SECURITY.md)"),
        (
            "faq.md",
            "[a](#here) [b](https://x.example/../y)",
            "[a](#here) [b](https://x.example/../y)",
        ),
        ("faq.md", "`[a](b)` and\n```\n[a](../nothing)\n```", None),
        (
            "index.md",
            "[a](docs/faq.md) ![b](docs/pictures/page.png)",
            "[a](faq.md) ![b](pictures/page.png)",
        ),
        ("index.md", '<img src="docs/pictures/page.png">', '<img src="pictures/page.png">'),
        ("index.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("runbooks/TidegateAbsent.md", "[a](../metrics.md)", "[a](../metrics.md)"),
        ("runbooks/TidegateAbsent.md", "[a](../../README.md)", "[a](../index.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_to_the_source(
    page: str, text: str, expected: str | None
) -> None:
    assert for_the_site(page, text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    "target", ["nothing.md", "../nothing", "../../../etc/passwd", "/docs/faq.md"]
)
def test_a_link_to_nothing_is_refused(target: str) -> None:
    with pytest.raises(BrokenLink, match=r"docs/faq\.md"):
        for_the_site("faq.md", f"text [a]({target})")


def test_the_pages_beside_docs_exist() -> None:
    assert all((ROOT / outside).is_file() for outside in OUTSIDE.values())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# T\n\nOne `two` [three](x.md).\nNext.", "One two three."),
        ("<!-- made -->\n# T\n\n| a |\n\n```\ncode\n```\n\n**Bold** text:\n", "Bold text"),
        ("# T\n", ""),
    ],
)
def test_the_first_sentence_says_what_a_page_is_about(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<script src="https://cdn.example/a.js"></script>', "from another host"),
        ('<script src="//cdn.example/a.js"></script>', "from another host"),
        ('<link rel="preconnect" href="https://fonts.example">', "from another host"),
        ('<img src="https://img.example/a.png">', "from another host"),
        ("<p>text:\n* one\n* two</p>", "became text"),
        ("<p>text\n| a | b |</p>", "became text"),
        ('<a href="https://exa mple.com/">a</a>', "no web address"),
        ('<a href="https://[::1/">a</a>', "malformed"),
        ('<a href="https://x.example:99999/">a</a>', "malformed"),
        ('<a href="javascript:alert(1)">a</a>', "no web address"),
        ('<a href="https:///path">a</a>', "names no host"),
    ],
)
def test_faults_of_a_page_are_found(body: str, fault: str) -> None:
    (found,) = page_faults(f"<title>t</title>{body}")
    assert fault in found


def test_a_page_without_faults() -> None:
    page = """<title>t</title><link rel="canonical" href="https://x.example/">
    <link rel="stylesheet" href="assets/a.css"><img src="a.png"><svg><title>s</title></svg>
    <p>a - b * c</p><ul><li>* one</li></ul><a href="https://x.example/a?b=c#d">a</a>
    <a href="../b/">b</a><a href="mailto:a@x.example">c</a>"""
    assert page_faults(page) == []
    assert page_faults("<p>text</p>") == ["has no title"]


def built(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """What `make check-site` runs, in a copy."""
    return subprocess.run(
        (sys.executable, "-m", "website", "build", "--out", str(out)),
        cwd=root,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def copied(root: Path) -> None:
    """What the site is made of."""
    for name in ("docs", "website"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.md"):
        shutil.copy(path, root)
    for name in ("helm/tidegate", "clients/vectors", "bench", "tests/cluster/lab"):
        (root / name).mkdir(parents=True)
        shutil.copy(ROOT / name / "README.md", root / name)
    for path in ROOT.glob("examples/**/README.md"):
        (root / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.relative_to(ROOT))
    shutil.copy(ROOT / "bench" / "reporter.py", root / "bench")
    mark = Path("service/tidegate/web/assets/shared/mark.svg")
    (root / mark).parent.mkdir(parents=True)
    shutil.copy(ROOT / mark, root / mark)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of these files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.full
@needs_mkdocs
def test_what_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    copied(root)
    out = tmp_path / "site"
    done = built(root, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site_faults(out) == []
    listed = (out / "llms.txt").read_text("utf-8")
    assert listed.startswith("# Tidegate\n\n> ")
    assert "\n## Operate\n" in listed
    assert "/sizing/): tidegate size estimates" in listed

    (root / "docs" / "unlisted.md").write_text("# Not in the navigation\n", "utf-8")
    with (root / "docs" / "faq.md").open("a", encoding="utf-8") as page:
        page.write("\n[an anchor](glossary.md#nowhere)\n")
    done = built(root, out)
    assert done.returncode == 1
    for part in ("unlisted.md", "does not contain an anchor '#nowhere'"):
        assert part in done.stderr, done.stderr


@pytest.mark.full
@pytest.mark.real("chromium")
@needs_mkdocs
async def test_readers_can_search_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = built(ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    program = binaries.browser()
    assert program is not None
    with served(tmp_path) as address:
        async with Browser(program) as browser:
            for width, height in ((375, 812), (1440, 900)):
                await browser.size(width, height)
                for page in ("", "settings/", "comparison/", "troubleshooting/"):
                    await browser.open(f"{address}/{page}")
                    assert await browser.evaluate("document.documentElement.scrollWidth") <= width
            await browser.evaluate(
                "{ const input = document.querySelector('.md-search__input'); input.focus();"
                " input.value = 'rewound'; input.dispatchEvent(new Event('input')); }"
            )
            await browser.until(
                "[...document.querySelectorAll('.md-search-result__item h1')]"
                ".some((one) => one.textContent.includes('Troubleshooting'))"
            )
            elsewhere = await browser.evaluate(
                "performance.getEntriesByType('resource').map((one) => one.name)"
                ".filter((name) => !name.startsWith(location.origin)).join()"
            )
            assert elsewhere == ""


@pytest.mark.full
@needs_mkdocs
@pytest.mark.timeout(300)
def test_a_release_adds_its_version(tmp_path: Path) -> None:
    """The script of the workflow as it stands, with a repository of this machine as GitHub's."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text("utf-8"))
    (script,) = (
        step["run"]
        for step in workflow["jobs"]["site"]["steps"]
        if step.get("name") == "publish the site"
    )
    github, work = tmp_path / "github.git", tmp_path / "work"
    work.mkdir()
    copied(work)
    (work / ".venv").mkdir()
    (work / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    environment = os.environ | {
        "TOKEN": "a-token",
        "GITHUB_REPOSITORY": "tidegate/tidegate",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{github}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://x-access-token:a-token@github.com/tidegate/tidegate.git",
        "GIT_CONFIG_KEY_1": "init.defaultBranch",
        "GIT_CONFIG_VALUE_1": "main",
    }

    def run(*command: str, **more: str) -> str:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def published() -> dict[str, list[str]]:
        text = run("git", "--git-dir", str(github), "show", "gh-pages:versions.json")
        return {one["version"]: one["aliases"] for one in json.loads(text)}

    run("git", "init", "--bare", "--quiet", str(github))
    run("git", "init", "--quiet")
    run("git", "config", "user.name", "t")
    run("git", "config", "user.email", "t@example.com")
    run("git", "add", "docs")
    run("git", "commit", "--quiet", "--message", "All of it")
    for version in ("0.1.0", "0.2.0", "0.1.1"):
        run("git", "tag", f"v{version}")
        run("git", "push", "--quiet", f"file://{github}", f"v{version}")
        run("bash", "-c", script, GITHUB_REF_NAME=f"v{version}")
        run("git", "branch", "--delete", "--force", "--quiet", "gh-pages")  # a new machine
    assert published() == {"0.2": ["latest"], "0.1": []}
    shown = run("git", "--git-dir", str(github), "show", "gh-pages:index.html")
    assert "latest/" in shown
