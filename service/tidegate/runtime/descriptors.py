"""The file descriptor limit of the process; every connection needs a descriptor."""

from __future__ import annotations

from types import ModuleType

import structlog

from tidegate.model.settings import Settings
from tidegate.runtime.listening import BACKLOG
from tidegate.web.server.port import DESCRIPTORS_KEPT

resource: ModuleType | None
try:
    import resource
except ImportError:  # pragma: no cover - Windows
    resource = None

log = structlog.get_logger(__name__)

#: Where there is no limit.
NO_LIMIT = 1 << 30


def descriptor_limit() -> int:
    """The soft limit."""
    if resource is None:
        return NO_LIMIT
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit(settings: Settings) -> None:
    """As far as is needed and allowed; many systems give 1,024 and allow much more.

    Room for a full backlog on top: so many may be accepted before the first of them is refused.
    """
    wanted = settings.replica.max_connections + DESCRIPTORS_KEPT + BACKLOG
    if resource is None or descriptor_limit() >= wanted:
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError) as error:
        log.warning("cannot raise the file descriptor limit", error=str(error))
    limit = descriptor_limit()
    if limit < settings.replica.max_connections + DESCRIPTORS_KEPT:
        log.warning(
            "replica.max_connections exceeds the file descriptor limit: connections will be "
            "refused earlier; raise the limit (ulimit -n) or lower the setting",
            descriptors=limit,
            max_connections=settings.replica.max_connections,
        )
