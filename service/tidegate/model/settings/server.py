"""The replica as a process: listeners, name, limits, and drain."""

from __future__ import annotations

import ipaddress
import platform
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, Host, Port, pattern, split_list


def _host_name() -> str:
    """The host name, which is the pod name in Kubernetes, as a valid consumer name."""
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


def _network(text: str) -> str:
    """In the one spelling of an address or a network."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an IP address or a network without host bits") from None
    if not network.prefixlen:
        raise ValueError("must not contain all addresses: clients could choose theirs")
    return str(network) if "/" in text else str(network.network_address)


Networks = Annotated[
    tuple[
        Annotated[
            str,
            pattern(
                r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
                "an IP address or a network without host bits, such as 10.0.0.7 or 10.0.0.0/8",
                max_length=49,
            ),
            AfterValidator(_network),
        ],
        ...,
    ],
    Field(max_length=64),
    BeforeValidator(split_list),
]


class ServerSettings(Group):
    """Listeners, name and authentication mode of a replica."""

    group_name = "server"

    host: Annotated[
        Host,
        Field(
            description="Listen address for viewers; `::` is every address, of IPv4 and of IPv6. "
            "The default is loopback, so a new installation is not reachable from outside."
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, Field(description="Port for viewers; 0 selects a free port.")] = 8080
    admin_host: Annotated[
        Host,
        Field(
            description="Listen address of the admin port: health, metrics, debug state. The "
            "default is loopback, because it exposes operation ids."
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        Port,
        Field(
            description="Admin port; 0 selects a free port. It is separate from the viewers' "
            "port, so that an ingress does not expose it by accident."
        ),
    ] = 9090
    pod: str = Field(
        default_factory=_host_name,
        pattern=r"^[A-Za-z0-9._-]{1,128}$",
        description="Name of this replica in Redis (consumer name), logs and metrics. Must be "
        "unique among the replicas on one Redis.",
        json_schema_extra={
            "allowed": "1 to 128 of A-Z a-z 0-9 . _ -",
            "default_text": "the host's name",
        },
    )
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Number of worker processes that share both ports; each is a replica with "
            "its own connections to Redis, and uses one core. For a machine with several cores "
            "outside Kubernetes; on Kubernetes, run more pods. Limits of `replica` and `topic` "
            "apply to each worker.",
        ),
    ] = 1
    auth: Annotated[
        Literal["none", "jwt"] | None,
        Field(
            description="How viewers are authenticated: by a signed token (`jwt`, see `auth`) or "
            "not at all. There is no default, because `none` allows anyone who can reach the port "
            "to subscribe to every operation."
        ),
    ] = None
    allowed_hosts: Annotated[
        Hosts,
        Field(
            description="With `server.auth` = none: accepted values of the `Host` header, such as "
            "`gateway.internal` or `*.example.com`, in addition to loopback and `server.host`. "
            "Without this check any web page could read the gateway through DNS rebinding. `*` "
            "disables the check."
        ),
    ] = ()
    forwarded_allow_ips: Annotated[
        Networks,
        Field(
            description="Addresses and networks of the proxies in front of the gateway, such as "
            "`10.0.0.0/8`. The client's address of a request from one of them is the last one in "
            "`X-Forwarded-For` that is not in this list, so list no addresses of clients. Empty: "
            "it is the address of the peer, so all anonymous clients behind a proxy share one rate "
            "of requests to cancel."
        ),
    ] = ()
    #: How frames are written to sockets: `direct` writes prepared frames to the transport, `asgi`
    #: sends one ASGI message per frame, `auto` uses `direct` where the server supports it.
    sender: Constant[Literal["auto", "direct", "asgi"]] = "auto"
    demo: Annotated[
        bool,
        Field(
            description="Serve the demo page at `/` and, without authentication, let it start "
            "operations of the demo backend. Off by default; it is not for production."
        ),
    ] = False
    demo_replicas: Annotated[
        ReplicaUrls,
        Field(
            description="Base URLs of all replicas that the demo page can switch between, such as "
            "`http://127.0.0.1:8080`. Empty: only the replica that served the page."
        ),
    ] = ()
    admin_token: Annotated[
        SecretStr | None,
        Field(
            description="Bearer token required on the admin port for changes (disconnecting a "
            "user) and for debug endpoints (`/debug/...`). Unset: changes are refused, and debug "
            "endpoints are available only if `server.admin_host` is loopback. Set it by "
            "environment variable."
        ),
    ] = None
    shutdown_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Longest wait, after the drain, for connections that do not close. The "
            "grace period of the pod must include it in addition to `drain.delay_s` and "
            "`drain.window_s`.",
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
    """Limits of one replica; above them, clients are asked to retry later."""

    group_name = "replica"

    max_connections: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="Maximum number of open connections on the public port, of any protocol; "
            "an idle HTTP connection is closed to make room for a new one. An idle viewer uses "
            "about 5 KiB, and 5 KiB more if no one else watches its operation: 20,000 use at most "
            "200 MiB. Each connection needs a file descriptor: "
            "`tidegate serve` raises the limit of the process as far as allowed, and reserves 128 "
            "for Redis and the admin port.",
        ),
    ] = 20_000
    connects_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="Sustained rate of new connections per second. A core accepts about "
            "8,000; the default leaves half of that for connected viewers.",
        ),
    ] = 4_000.0
    connects_burst: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Burst of new connections above the rate; also the limit of connections "
            "that have not sent their request yet.",
        ),
    ] = 2_000
    #: Maximum size of request line and headers: enough for a token of 8 KiB and cookies, and what
    #: Node.js takes by default.
    header_max_bytes: Constant[int] = 16_384
    #: Timeout for receiving the request of a new connection.
    header_timeout_s: Constant[float] = 10.0
    keep_alive_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Idle timeout of an HTTP connection. It must be longer than that of the "
            "load balancer (nginx and ALB: 60 s); otherwise the load balancer may send a request "
            "to a connection that is being closed, and its client receives a 502.",
        ),
    ] = 75.0
    #: Time limit from the handshake to a viewer's first frame: token, operation source, slot and
    #: Redis together. After it the viewer is asked to retry later, so that a slow dependency does
    #: not fill the gateway with pending viewers.
    first_frame_timeout_s: Constant[float] = 15.0


class DrainSettings(Group):
    """Graceful shutdown: viewers are asked to reconnect, spread over a window."""

    group_name = "drain"

    delay_s: Annotated[
        float,
        Field(
            ge=0,
            le=300,
            description="Time between becoming not ready and the first close, so that load "
            "balancers notice. Kubernetes needs 1 to 2 s to update its endpoints.",
        ),
    ] = 2.0
    window_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="Time over which closes are spread. Together with `delay_s` it must fit "
            "into the grace period of the pod.",
        ),
    ] = 15.0
    absorb_per_s: Annotated[
        float,
        Field(
            ge=1,
            le=100_000,
            description="Connections per second that the other replicas can accept from this one. "
            "If the window is too short for that, viewers are given longer delays.",
        ),
    ] = 1_000.0
    jitter_s: Annotated[
        float,
        Field(
            ge=0,
            le=300,
            description="Minimum spread of the reconnect delays that are sent to viewers.",
        ),
    ] = 1.0
