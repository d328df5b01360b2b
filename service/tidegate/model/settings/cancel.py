"""Cancelling of operations by their viewers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant


class CancelSettings(Group):
    """Cancelling: which viewers may ask the worker of an operation to stop."""

    group_name = "cancel"

    allow: Annotated[
        Literal["none", "granted", "viewers"] | None,
        Field(
            description="Who may cancel an operation: `granted`: users who may watch it and to "
            "whom the claim `cancel_operations` or the operation source grants it; `viewers`: "
            "every user who may watch it; `none`: no one. Unset: `viewers` with `server.auth` = "
            "none, otherwise `granted`, which is no one until you grant it."
        ),
    ] = None
    #: Requests of one user on one replica, whatever becomes of them: more than a person has
    #: reasons for, and each costs Redis two reads.
    user_per_s: Constant[float] = 1.0
    user_burst: Constant[int] = 10
    #: Users whose requests are counted at a time; the one that was quiet for longest is forgotten.
    users_max: Constant[int] = 10_000
