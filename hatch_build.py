"""The hook with which a wheel's modules on the way of an entry are compiled, by mypyc.

Off by default: `HATCH_BUILD_HOOK_ENABLE_CUSTOM=1` turns it on, and then a C compiler and the
headers of Python are needed. The source files go into the wheel as well: they are what is compiled,
and what runs where there is no compiler. Nothing is written into the checkout, whose modules would
be hidden by those compiled from an older state of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "service"


class CompiledModules(BuildHookInterface[Any]):
    """Set up in pyproject.toml: `modules` are the files, below `service`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile them, and put them beside their sources. Raises SystemExit if that fails."""
        if self.target_name != "wheel" or version == "editable":
            return
        root = Path(self.root)
        # Its files go into the wheel after this, so it is kept by the hook, and goes with it.
        self._work = tempfile.TemporaryDirectory(prefix="tidegate-compiled-")
        work = Path(self._work.name)
        for made in compiled(root, self.config["modules"], work):
            build_data["force_include"][str(made)] = str(made.relative_to(work / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compiled(root: Path, modules: list[str], work: Path) -> list[Path]:
    """The extension modules, in `work`/lib, of these files below `root`/service."""
    # Imported here: the hook is loaded where neither is needed.
    from mypyc.build import mypycify
    from setuptools import Distribution

    lib = work / "lib"
    back = Path.cwd()
    os.chdir(root / SOURCE)  # module names are paths from here
    try:
        extensions = mypycify(
            ["--config-file", str(root / "pyproject.toml"), *modules],
            opt_level="3",
            debug_level="0",
            target_dir=str(work / "c"),
        )
        distribution = Distribution({"name": "tidegate", "ext_modules": extensions})
        command: Any = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(lib), str(work / "o")
        command.parallel = os.cpu_count()
        distribution.run_command("build_ext")
    finally:
        os.chdir(back)
    found = sorted(path for path in lib.rglob("*") if path.is_file())
    if not found:
        sys.exit("mypyc made nothing")
    return found
