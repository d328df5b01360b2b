"""The replica as a process: listeners, name, bounds, and how it leaves."""

from __future__ import annotations

import platform
import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, Host, Port, pattern, split_list


def _host_name() -> str:
    """The host's name, which is the pod's name in Kubernetes, made fit for a consumer name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", platform.node())[:128] or "tidegate"


ReplicaUrls = Annotated[
    tuple[
        Annotated[
            str, pattern(r"^https?://[^/\s]+$", "such as http://127.0.0.1:8080", max_length=256)
        ],
        ...,
    ],
    Field(max_length=64),
    BeforeValidator(split_list),
]


Hosts = Annotated[
    tuple[
        Annotated[
            str,
            pattern(
                r"^(\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:.]+\]?)$",
                "a name or an address without a port, such as gateway.internal, *.example.com or "
                "10.0.0.7; or *",
                max_length=255,
            ),
        ],
        ...,
    ],
    Field(max_length=256),
    BeforeValidator(split_list),
]


class ServerSettings(Group):
    """Listeners, name and life of this replica."""

    group_name = "server"

    host: Annotated[
        Host,
        Field(description="Address for viewers. Loopback: a fresh start is reachable by nobody."),
    ] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port for viewers; 0 takes any free one.")] = 8080
    admin_host: Annotated[
        Host,
        Field(
            description="Address of the admin listener: health, metrics, debug state. "
            "Loopback, because it tells operation ids."
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        Port,
        Field(
            description="Port of the admin listener; 0 takes any free one. "
            "Apart from the viewers' port, so that no ingress exposes it by accident."
        ),
    ] = 9090
    pod: str = Field(
        default_factory=_host_name,
        pattern=r"^[A-Za-z0-9._-]{1,128}$",
        description="Name of this replica: its consumer in the shared group, its name in "
        "logs and metrics. Two replicas on one Redis must differ.",
        json_schema_extra={
            "allowed": "1 to 128 of A-Z a-z 0-9 . _ -",
            "default_text": "the host's name",
        },
    )
    auth: Annotated[
        Literal["none", "jwt"] | None,
        Field(
            description="How viewers are authenticated: by a signed token (`jwt`, see `auth`) or "
            "not at all. No default: `none` lets anybody who reaches the port watch every "
            "operation, so it has to be said."
        ),
    ] = None
    allowed_hosts: Annotated[
        Hosts,
        Field(
            description="With `server.auth` = none: the names and addresses by which viewers may "
            "ask for this gateway (their `Host` header), such as `gateway.internal` or "
            "`*.example.com`, beside loopback and `server.host`. A page of any site can have its "
            "own name resolve to an address that only you reach, and read what is served there. "
            "`*` lifts the check."
        ),
    ] = ()
    #: How frames reach sockets: `direct` writes prepared frames to the transport, `asgi` sends one
    #: message per frame through the server's plain interface, `auto` takes `direct` where the
    #: server offers it.
    sender: Constant[Literal["auto", "direct", "asgi"]] = "auto"
    demo: Annotated[
        bool,
        Field(description="Serve the demo page at `/`. Off: a gateway has no pages of its own."),
    ] = False
    demo_replicas: Annotated[
        ReplicaUrls,
        Field(
            description="Base URLs of all replicas, for the demo page to move between, such as "
            "`http://127.0.0.1:8080`. Empty: the page knows only the one that served it."
        ),
    ] = ()
    admin_token: Annotated[
        SecretStr | None,
        Field(
            description="What changes something on the admin port (disconnect a user) and the "
            "look inside (`/debug/...`) need this as a bearer token. Not set: changes are "
            "refused, and the look inside is given only where `server.admin_host` is loopback. "
            "Give it by environment."
        ),
    ] = None
    shutdown_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Longest wait, after the drain, for connections that do not close. It "
            "comes on top of `drain.delay_s` and `drain.window_s` in the pod's grace period.",
        ),
    ] = 10.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.port and self.port == self.admin_port and self.host == self.admin_host:
            raise rule_broken(
                "server.admin_port",
                self.admin_port,
                "must differ from server.port on the same address",
            )
        return self


class ReplicaSettings(Group):
    """What one replica takes on; above it, clients are told to come back and others may serve."""

    group_name = "replica"

    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Open connections of the public port, whatever is spoken over them; an "
            "idle HTTP connection makes room for a new one. An idle viewer costs about 11 KiB, so "
            "20,000 are 220 MiB. Each is a descriptor of the process: `tidegate serve` raises the "
            "limit of these as far as it may, and 128 are kept for Redis and the admin port.",
        ),
    ] = 20_000
    connects_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="New connections in the long run. A core does about 8,000; half of it is "
            "left for those who are connected.",
        ),
    ] = 4_000.0
    connects_burst: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="New connections at once, above the rate; as many may be open that have "
            "not sent their request yet.",
        ),
    ] = 2_000
    header_max_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=1_048_576,
            description="Request line and headers. 16 KiB holds a token of 8 KiB and cookies.",
        ),
    ] = 16_384
    #: Time for a new connection to send its request; slower ones are cut.
    header_timeout_s: Constant[float] = 10.0
    keep_alive_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Time that an HTTP connection may be without a request. Longer than a "
            "load balancer keeps it (nginx and ALB: 60 s), or that one sends a request just as it "
            "is closed here, and its client gets a 502.",
        ),
    ] = 75.0
    #: Time from the handshake to a viewer's first frame: its token, its operation source, its slot
    #: and Redis, all together. Whoever has none by then is told to come back, so that what is slow
    #: behind the gateway does not fill it with waiters.
    first_frame_timeout_s: Constant[float] = 15.0


class DrainSettings(Group):
    """How a replica goes away: slowly enough that the others notice nothing."""

    group_name = "drain"

    delay_s: Annotated[
        float,
        Field(
            ge=0,
            le=300,
            description="Between becoming not ready and the first close: load balancers need a "
            "moment to look. Kubernetes' endpoints take 1 to 2 s.",
        ),
    ] = 2.0
    window_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="Closes are spread over this time. With `delay_s` it has to fit into the "
            "grace period of the pod.",
        ),
    ] = 15.0
    absorb_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="Connects per second that the other replicas can take from this one. "
            "Where the window is too short for it, viewers are told to wait longer.",
        ),
    ] = 1_000.0
    jitter_s: Annotated[
        float,
        Field(ge=0, le=300, description="Least spread of the delays that viewers are told."),
    ] = 1.0
