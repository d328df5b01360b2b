"""`python -m release COMMAND`: see the Makefile and docs/releasing.md for when to use which."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from release import audit, changelog, chart, hashes, tools, versions, workflows
from release.command import ROOT, ReleaseError
from release.dry_run import dry_run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description="What a release needs.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("versions", help="check that all places have one version")
    one.add_argument("--tag", help="the tag that the release is made for, such as v0.1.0")
    commands.add_parser("notes", help="print the notes of the version, from CHANGELOG.md")
    commands.add_parser("workflows", help="check the form of .github/workflows")
    one = commands.add_parser("chart", help="package the chart into dist/")
    one.add_argument("--image", help="the image that it installs: name@sha256:...")
    commands.add_parser("hashes", help="make requirements/ again")
    one = commands.add_parser("audit", help="look for known vulnerabilities in the image")
    one.add_argument("--required", action="store_true", help="fail if it could not look")
    one = commands.add_parser("dry-run", help="build and prove everything, publish nothing")
    one.add_argument("--newest", action="store_true", help="with the newest dependencies")
    one.add_argument("--required", action="store_true", help="fail if a step is skipped")
    return parser


def _run(wanted: argparse.Namespace) -> int:
    match wanted.command:
        case "versions":
            return _faults(versions.disagreements(wanted.tag)) or _say(versions.version())
        case "notes":
            section = changelog.section(versions.version(), changelog.read(), released=False)
            return _say(section.text)
        case "workflows":
            return _faults(workflows.faults())
        case "chart":
            section = changelog.section(versions.version(), changelog.read(), released=False)
            with tempfile.TemporaryDirectory(prefix="tidegate-chart-") as work:
                made = chart.package(
                    *(ROOT / "dist", Path(work), section),
                    image=wanted.image,
                    signed_by=chart.key(),
                )
            return _say(str(made))
        case "hashes":
            hashes.write(tools.python("release").with_name("uv"))
            return 0
        case "audit":
            looked = audit.look(tools.python("release").with_name("pip-audit"))
            code, lines = audit.result(looked, required=wanted.required)
            return _say(*lines) or code
        case _:
            dry_run(_print, newest=wanted.newest, required=wanted.required)
            return 0


def _print(line: str) -> None:
    """At once, also into a pipe: a run takes minutes."""
    print(line, flush=True)


def _say(*lines: str) -> int:
    for line in lines:
        _print(line)
    return 0


def _faults(found: list[str]) -> int:
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return int(bool(found))


def main() -> int:
    """The exit code."""
    # A shell that runs this in the background has Ctrl-C ignored, also in what this starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run(_parser().parse_args())
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
