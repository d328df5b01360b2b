"""What is measured: the scenarios, their sizes, and the rows each gives, with the figures to reach.

Pure data. `centrifugo` is Centrifugo 6.9.1 (Go, Redis engine, recovery on; server CPU only),
measured on two cores of another machine: a mark to aim at, not a result of this run. `reach` is
our own target.
"""

import enum
from dataclasses import dataclass, replace
from typing import Final

from bench.ways import Way


class Kind(enum.Enum):
    """How a scenario is played; each has one function in `measures`."""

    LIVE = "entries to connected viewers"
    IDLE = "viewers that receive nothing"
    CONNECTS = "new viewers without history"
    JOINS = "new viewers that read a long history"
    REPLICAS = "the same entries with one replica and with several"
    HOSTILE = "entries to connected viewers, without and with hostile ones beside them"
    ONE_USER = "a user's requests, without and with another user who means harm"
    BURST = "entries to connected viewers, without and with many who come at once"
    TOKENS = "new viewers of a long text, token by token and joined"


class Better(enum.Enum):
    LOWER = "lower"
    HIGHER = "higher"

    @property
    def sign(self) -> str:
        return "<=" if self is Better.LOWER else ">="


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a scenario, as it is shown."""

    metric: str
    label: str
    unit: str
    centrifugo: float | None = None
    reach: float | None = None
    better: Better = Better.LOWER

    def reached(self, value: float) -> bool | None:
        """Whether `value` is good enough; None when nothing was asked."""
        if self.reach is None:
            return None
        return value <= self.reach if self.better is Better.LOWER else value >= self.reach


@dataclass(frozen=True, slots=True)
class Scenario:
    """One set-up: operations x viewers of each. `per_second` counts all operations' entries.

    With `sockets` the operations are shared by so many multiplexed ones. `server_args` are added to
    the gateway's command line. With `connections_per_user` viewers have tokens, and each user has
    as many as are allowed. `gang` is the number of hostile viewers of each kind, or of each of
    `kinds`; with `history` they have an operation of their own with so many large entries. `attack`
    is what one user does to another. `arrivals` viewers come at once, each to an operation with
    `history` entries that are larger by `pad` bytes. The baseline knows only `Way.SOCKET`, no
    users, and sits the others out.
    """

    name: str
    title: str
    kind: Kind
    operations: int
    viewers_each: int
    rows: tuple[Row, ...]
    per_second: float = 0.0
    history: int = 0
    replicas: int = 1
    way: Way = Way.SOCKET
    sockets: int = 0
    server_args: tuple[str, ...] = ()
    connections_per_user: int = 0
    gang: int = 0
    attack: str = ""
    kinds: tuple[str, ...] = ()
    arrivals: int = 0
    pad: int = 0

    @property
    def viewers(self) -> int:
        """Connections."""
        return self.sockets or self.operations * self.viewers_each

    def smaller(self) -> "Scenario":
        """For `--quick`: the same shape, with fewer operations where the size is the time."""
        title = f"{self.title} (quick: a fifth)"
        if self.kind in (Kind.IDLE, Kind.CONNECTS):
            return replace(self, operations=self.operations // 5, title=title)
        if self.kind is Kind.REPLICAS:
            return replace(self, replicas=4, title=f"{self.title} (quick: 4)")
        if self.kind is Kind.TOKENS:
            return replace(
                self, viewers_each=self.viewers_each // 10, title=f"{self.title} (quick: 200)"
            )
        return self

    def times(self, number: int) -> "Scenario":
        """So many times the operations, with their viewers and entries."""
        return replace(
            self,
            operations=self.operations * number,
            sockets=self.sockets * number,
            per_second=self.per_second * number,
        )

    def faster(self, factor: float) -> "Scenario":
        """So many times the entries; what is sent then is a figure of its own."""
        sent = Row("deliveries_per_s", "deliveries per second", "/s", better=Better.HIGHER)
        load = Row("load_us_per_delivery", "CPU of the viewers per delivery", "us")
        return replace(
            self,
            per_second=self.per_second * factor,
            title=f"{self.title}, {factor:g} times as fast",
            rows=(sent, *self.rows, load),
        )


ONE_USER_ROWS: Final = (
    Row("p50_ms_calm", "another user's request p50, without", "ms"),
    Row("p50_ms_hostile", "another user's request p50, with", "ms"),
    Row("p99_ms_calm", "another user's request p99, without", "ms"),
    Row("p99_ms_hostile", "another user's request p99, with", "ms"),
    Row("p99_ratio", "p99: with / without", "x"),
    Row("max_ms_hostile", "another user's longest request, with", "ms", None, 500.0),
    Row("answered_pct", "answered, of asked", "%", None, 100.0, Better.HIGHER),
    Row("attacks_per_s", "attacks, per second", "/s"),
    Row("asked_per_s", "questions to the backend, per second", "/s"),
    Row("asked_after", "questions to the backend after the attack", "", None, 100.0),
    Row("rss_growth_mib", "growth of RSS under it", "MiB", None, 32.0),
)
#: Of another user who reads as much as one may.
READING_ROWS: Final = (
    Row("p50_ms_calm", "another user's request p50, without", "ms"),
    Row("p50_ms_hostile", "another user's request p50, with", "ms"),
    Row("p99_ms_calm", "another user's request p99, without", "ms"),
    Row("p99_ms_hostile", "another user's request p99, with", "ms"),
    Row("p99_ratio", "p99: with / without", "x", None, 3.0),
    Row("max_ms_hostile", "another user's longest request, with", "ms"),
    Row("answered_pct", "answered, of asked", "%", None, 100.0, Better.HIGHER),
    Row("read_mib_per_s", "read by the one, per second", "MiB/s", better=Better.HIGHER),
    Row("rss_growth_mib", "growth of RSS under it", "MiB", None, 64.0),
)
DELIVERED: Final = Row("delivered_pct", "delivered, of expected", "%", None, 100.0, Better.HIGHER)
# A replica lets in 4,000 per second, as a protection; here it is asked what it can do.
NO_DOORMAN: Final = (
    *("--set", "replica.connects_per_s=100000"),
    *("--set", "replica.connects_burst=100000"),
)
CONNECT_ROWS: Final = (
    Row("connects_per_cpu_s", "connects per second of its CPU", "/s", better=Better.HIGHER),
    Row("cpu_us_per_connect", "server CPU per connect", "us"),
    Row("cpu_us_with_close", "server CPU per connect, join and close", "us"),
    Row("handshake_p99_ms", "handshake to first frame, p99", "ms"),
    Row("server_core_pct", "server's share of its core", "%"),
    Row("opened_pct", "connected, of expected", "%", None, 100.0, Better.HIGHER),
)


def _live(
    name: str,
    operations: int,
    viewers_each: int,
    per_second: float,
    *,
    centrifugo: tuple[float, float, float],
    reach: tuple[float, float],
    redis: tuple[float, float] | None = None,
) -> Scenario:
    redis_centrifugo, redis_reach = redis or (None, None)
    return Scenario(
        name=name,
        title=f"{operations:,} x {viewers_each:,} viewers, {per_second:,.0f} entries/s",
        kind=Kind.LIVE,
        operations=operations,
        viewers_each=viewers_each,
        per_second=per_second,
        rows=(
            Row("cpu_us_per_delivery", "server CPU per delivery", "us", centrifugo[0], reach[0]),
            Row("p50_ms", "latency p50", "ms", centrifugo[1]),
            Row("p99_ms", "latency p99", "ms", centrifugo[2], reach[1]),
            Row("p999_ms", "latency p99.9", "ms"),
            Row("max_ms", "latency max", "ms"),
            DELIVERED,
            Row(
                "redis_us_per_entry",
                "Redis CPU per entry, XADD included",
                "us",
                redis_centrifugo,
                redis_reach,
            ),
        ),
    )


def _multiplexed(name: str, operations: int, *, p99_ms: float) -> Scenario:
    """So many operations over 100 sockets, and always 2,000 entries per second."""
    sockets = 100
    return Scenario(
        name=name,
        title=f"{operations:,} operations over {sockets} multiplexed sockets, 2,000 entries/s",
        kind=Kind.LIVE,
        operations=operations,
        viewers_each=1,
        per_second=2000,
        way=Way.MANY,
        sockets=sockets,
        server_args=("--set", f"viewer.max_watches={operations // sockets}"),
        rows=(
            Row("cpu_us_per_delivery", "server CPU per delivery", "us"),
            Row("p50_ms", "latency p50", "ms"),
            Row("p99_ms", "latency p99", "ms", None, p99_ms),
            Row("p999_ms", "latency p99.9", "ms"),
            Row("max_ms", "latency max", "ms"),
            DELIVERED,
            Row("redis_us_per_entry", "Redis CPU per entry, XADD included", "us"),
        ),
    )


def _hostile_rows(*, growth_mib: float) -> tuple[Row, ...]:
    return (
        Row("p50_ms_calm", "latency p50, without", "ms"),
        Row("p50_ms_hostile", "latency p50, with them", "ms"),
        Row("p99_ms_calm", "latency p99, without", "ms"),
        Row("p99_ms_hostile", "latency p99, with them", "ms"),
        Row("p99_ratio", "p99: with / without", "x", None, 3.0),
        Row("server_core_pct_calm", "server's share of its core, without", "%"),
        Row("server_core_pct_hostile", "server's share of its core, with them", "%"),
        Row("attacks_per_s", "hostile connections ended, per second", "/s"),
        Row("rss_growth_mib", "growth of RSS under them", "MiB", None, growth_mib),
        DELIVERED,
    )


SCENARIOS: Final[tuple[Scenario, ...]] = (
    _live("1x2000", 1, 2000, 20, centrifugo=(14.4, 15.0, 27.0), reach=(12.0, 25.0)),
    _live("100x10", 100, 10, 4000, centrifugo=(24.0, 1.1, 10.0), reach=(15.0, 5.0)),
    _live(
        "200x10",
        200,
        10,
        1000,
        centrifugo=(44.0, 0.48, 1.2),
        reach=(22.0, 1.0),
        redis=(86.0, 60.0),
    ),
    _live("1000x1", 1000, 1, 5000, centrifugo=(134.0, 0.4, 6.4), reach=(60.0, 2.0)),
    Scenario(
        name="sse",
        title="200 x 10 event streams, 1,000 entries/s: beside 200x10",
        kind=Kind.LIVE,
        operations=200,
        viewers_each=10,
        per_second=1000,
        way=Way.EVENTS,
        rows=(
            Row("cpu_us_per_delivery", "server CPU per delivery", "us"),
            Row("p50_ms", "latency p50", "ms"),
            Row("p99_ms", "latency p99", "ms"),
            Row("max_ms", "latency max", "ms"),
            DELIVERED,
        ),
    ),
    _multiplexed("multiplex", 20_000, p99_ms=1.5),
    _multiplexed("multiplex-50000", 50_000, p99_ms=3.0),
    Scenario(
        name="idle",
        title="15,000 idle viewers of 1,500 operations",
        kind=Kind.IDLE,
        operations=1500,
        viewers_each=10,
        server_args=NO_DOORMAN,
        rows=(
            Row("rss_kib_per_connection", "RSS per connection", "KiB", 44.0, 20.0),
            Row("idle_cpu_us", "server CPU per connection and second", "us"),
            Row("opened_pct", "connected, of expected", "%", None, 100.0, Better.HIGHER),
            Row("delivered_pct", "delivered after idling", "%", None, 100.0, Better.HIGHER),
        ),
    ),
    Scenario(
        name="connects",
        title="connects per second, empty history",
        kind=Kind.CONNECTS,
        operations=1000,
        viewers_each=10,
        server_args=NO_DOORMAN,
        rows=(
            Row("connects_per_s", "connects per second", "/s", 4000.0, 4000.0, Better.HIGHER),
            *CONNECT_ROWS,
        ),
    ),
    Scenario(
        name="connects-jwt",
        title="the same with tokens (HS256) and slots, 1,000 users of 10 connections",
        kind=Kind.CONNECTS,
        operations=1000,
        viewers_each=10,
        server_args=NO_DOORMAN,
        connections_per_user=10,
        rows=(
            Row("connects_per_s", "connects per second", "/s", better=Better.HIGHER),
            *CONNECT_ROWS,
            Row("redis_us_per_connect", "Redis CPU per connect", "us"),
        ),
    ),
    Scenario(
        name="join",
        title="join with 1,000 entries of history",
        kind=Kind.JOINS,
        operations=50,
        viewers_each=0,
        history=1000,
        rows=(
            Row("join_p50_ms", "one join alone, p50", "ms"),
            Row("join_p99_ms", "one join alone, p99", "ms"),
            Row("joins_per_s", "joins per second, 8 at a time", "/s", better=Better.HIGHER),
            Row("cpu_us_per_entry", "server CPU per entry of history", "us"),
            Row("redis_us_per_entry", "Redis CPU per entry of history", "us"),
            Row("joined_pct", "complete, of started", "%", None, 100.0, Better.HIGHER),
        ),
    ),
    Scenario(
        name="tokens",
        title="2,000 viewers join a stream of 5,000 tokens: each as a frame, and joined",
        kind=Kind.TOKENS,
        operations=1,
        viewers_each=2000,
        history=5000,
        server_args=("--set", "viewer.ping_interval_s=3600"),  # the readers answer none
        rows=(
            Row("frames_each", "frames per viewer, each token", ""),
            Row("frames_joined", "frames per viewer, joined", ""),
            Row("frames_ratio", "frames: joined / each", "x", None, 0.05),
            Row("cpu_ms_each", "server CPU per viewer, each token", "ms"),
            Row("cpu_ms_joined", "server CPU per viewer, joined", "ms"),
            Row("cpu_ratio", "server CPU: joined / each", "x", None, 0.25),
            Row("redis_ms_each", "Redis CPU per viewer, each token", "ms"),
            Row("redis_ms_joined", "Redis CPU per viewer, joined", "ms"),
            Row("kib_each", "bytes per viewer, each token", "KiB"),
            Row("kib_joined", "bytes per viewer, joined", "KiB"),
            Row("text_p50_ms_each", "connect to the whole text p50, each token", "ms"),
            Row("text_p50_ms_joined", "connect to the whole text p50, joined", "ms"),
            Row("text_p99_ms_each", "connect to the whole text p99, each token", "ms"),
            Row("text_p99_ms_joined", "connect to the whole text p99, joined", "ms"),
            Row(
                "joined_pct",
                "have the whole text, of those who came",
                "%",
                None,
                100.0,
                Better.HIGHER,
            ),
        ),
    ),
    Scenario(
        name="replicas",
        title="200 operations, 2,000 entries/s: 1 and 10 replicas with viewers",
        kind=Kind.REPLICAS,
        operations=200,
        viewers_each=1,
        per_second=2000,
        replicas=10,
        rows=(
            Row("redis_us_per_entry_one", "Redis CPU per entry, one replica", "us"),
            Row("redis_us_per_entry_all", "Redis CPU per entry, all replicas", "us"),
            Row("redis_ratio", "all / one", "x", None, 2.0),
            Row("p99_ms_one", "latency p99, one replica", "ms"),
            Row("p99_ms_all", "latency p99, all replicas", "ms"),
            DELIVERED,
        ),
    ),
    Scenario(
        name="hostile",
        title="200 x 10 viewers, 1,000 entries/s: without and with 76 hostile ones",
        kind=Kind.HOSTILE,
        operations=200,
        viewers_each=10,
        per_second=1000,
        gang=4,
        rows=_hostile_rows(growth_mib=32.0),
    ),
    Scenario(
        name="requests-ahead",
        title="200 x 10 viewers: without and with 14 connections that send requests, read nothing",
        kind=Kind.HOSTILE,
        operations=200,
        viewers_each=10,
        per_second=1000,
        gang=14,
        kinds=("requests_ahead",),
        rows=_hostile_rows(growth_mib=20.0),
    ),
    Scenario(
        name="unread-pages",
        title="200 x 10 viewers: without and with 40 connections that read no large page",
        kind=Kind.HOSTILE,
        operations=200,
        viewers_each=10,
        per_second=1000,
        history=500,
        gang=40,
        kinds=("unread_pages",),
        rows=_hostile_rows(growth_mib=150.0),
    ),
    Scenario(
        name="refresh",
        title="a user's requests: without and with 10 sockets of another who refreshes at once",
        kind=Kind.ONE_USER,
        operations=1,
        viewers_each=1,
        attack="refresh",
        rows=ONE_USER_ROWS,
    ),
    Scenario(
        name="source",
        title="a user's requests: without and with 64 slow and 5 failing ids of another",
        kind=Kind.ONE_USER,
        operations=1,
        viewers_each=1,
        attack="source",
        rows=ONE_USER_ROWS,
    ),
    Scenario(
        name="reading",
        title="a user's requests: without and with 10 sockets of another that read 300,000 entries",
        kind=Kind.ONE_USER,
        operations=1,
        viewers_each=1,
        history=300_000,
        attack="reading",
        rows=READING_ROWS,
    ),
    Scenario(
        name="reading-pages",
        title="a user's requests: without and with 8 connections of another that read large pages",
        kind=Kind.ONE_USER,
        operations=1,
        viewers_each=1,
        history=300_000,
        attack="reading-pages",
        rows=READING_ROWS,
    ),
    Scenario(
        name="burst",
        title="20 bystanders, without and with 200 viewers at once of 101 entries of 4 KB each",
        kind=Kind.BURST,
        operations=20,
        viewers_each=1,
        per_second=200,
        history=101,
        arrivals=200,
        pad=4096,
        rows=(
            Row("p50_ms_calm", "latency p50, without", "ms"),
            Row("p50_ms_burst", "latency p50, with them", "ms"),
            Row("p99_ms_calm", "latency p99, without", "ms"),
            Row("p99_ms_burst", "latency p99, with them", "ms"),
            Row("p99_ratio", "p99: with / without", "x"),
            Row("slowest_s", "the last of them has its history after", "s", None, 5.0),
            Row("joined_pct", "have it, of those who came", "%", None, 100.0, Better.HIGHER),
            Row("cuts", "times that Redis ended the link", "", None, 0.0),
            Row("rss_growth_mib", "growth of RSS under them", "MiB", None, 128.0),
            DELIVERED,
        ),
    ),
)


def scenario_named(name: str) -> Scenario:
    """Raises `KeyError` with the names there are."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    known = ", ".join(scenario.name for scenario in SCENARIOS)
    raise KeyError(f"no scenario {name!r}; there are {known}")
