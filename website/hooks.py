"""What MkDocs calls while it builds the site; `links` does the work.

It adds the pages that are files beside docs/, changes links, and writes `llms.txt`: each page in
the order of the navigation, with its title and its first sentence.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

# MkDocs loads this file by its path, not as a module of a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from website.links import OUTSIDE, ROOT, BrokenLink, first_sentence, for_the_site

#: On the site in assets/.
ASSETS = {
    "site.css": "website/assets/site.css",
    "mark.svg": "service/tidegate/web/assets/shared/mark.svg",
}
_pages: list[Page] = []
_about: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """In the navigation, a folder stands for its pages."""
    docs = Path(config.docs_dir)

    def expanded(entry: Any) -> Any:
        if isinstance(entry, list):
            return [expanded(one) for one in entry]
        if isinstance(entry, dict):
            return {title: expanded(one) for title, one in entry.items()}
        if isinstance(entry, str) and entry.endswith("/"):
            return [str(page.relative_to(docs)) for page in sorted((docs / entry).glob("*.md"))]
        return entry

    config.nav = expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages and assets that are not in docs/."""
    for page, outside in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / outside)))
    for name, source in ASSETS.items():
        files.append(File.generated(config, f"assets/{name}", abs_src_path=str(ROOT / source)))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Remember the order."""
    _pages[:] = nav.pages
    _about.clear()
    return nav


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links, and remember what the page is about."""
    _about[page.file.src_uri] = first_sentence(markdown)
    try:
        return for_the_site(page.file.src_uri, markdown)
    except BrokenLink as error:
        raise PluginError(f"links to nothing: {error}") from None


def on_page_context(context: dict[str, Any], page: Page, **_: Any) -> dict[str, Any]:
    """A description of its own for search engines."""
    page.meta.setdefault("description", _about.get(page.file.src_uri, ""))
    return context


def on_post_build(config: MkDocsConfig) -> None:
    """Write `llms.txt`: https://llmstxt.org."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}.", ""]
    section = ""
    for page in _pages:
        top = page.ancestors[-1].title if page.ancestors else ""
        if top != section:
            section = top
            lines += ["", f"## {section}", ""]
        about = _about.get(page.file.src_uri, "")
        lines.append(f"- [{page.title}]({page.canonical_url}): {about}")
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")
