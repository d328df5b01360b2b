"""Settings that are variables of the environment, and the variables that are not ours to refuse.

Invariant: nothing unknown is ignored. A misspelt variable is an error with a suggestion, except for
those that Kubernetes makes for a Service named like us.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from tidegate.settings_loading.fields import SettingField
from tidegate.settings_loading.loading import Given, Problem, known, unknown

# A Service named `tidegate`, `tidegate-admin` or `tidegate-operator` gives every pod of its
# namespace TIDEGATE_SERVICE_HOST, TIDEGATE_PORT_8080_TCP_ADDR and the like.
_SERVICE_LINK = re.compile(
    r"^[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)$"
)
_SERVICE_LINK_URL = re.compile(r"^(tcp|udp|sctp)://")


def from_environment(
    env: Mapping[str, str],
    fields: Mapping[str, SettingField],
    problems: list[Problem],
    *,
    prefix: str,
    others: Iterable[str] = (),
) -> Iterator[Given]:
    """What the variables say; their names are taken in any case, their values are text.

    Args:
        prefix: what begins so is ours.
        others: variables that are no settings.
    """
    paths = {field.variable: path for path, field in fields.items()}
    for name, text in sorted(env.items()):
        variable = name.upper()
        if not variable.startswith(prefix) or _is_service_link(name, text) or name in others:
            continue
        if variable in paths:
            yield from known([Given(paths[variable], text, variable)], fields, problems)
        else:
            why = unknown(variable, [*paths, *others], "variable", prefix=prefix)
            problems.append(Problem(name, "", why, "the environment"))


def _is_service_link(name: str, value: str) -> bool:
    if "__" in name:
        return False
    return _SERVICE_LINK.match(name) is not None or (
        name.endswith("_PORT") and _SERVICE_LINK_URL.match(value) is not None
    )
