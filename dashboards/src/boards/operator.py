"""What the operator does: who leads, its loops, scaling, and the clean-up of streams.

Gauges about gateways are told by the leader only, so the maximum over replicas is the leader's.
"""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.panels import Panel, Query, above, below, graph, number
from dashboards.src.queries import REPLICA, REPLICA_LEGEND, SELECTED_OPERATOR, WINDOW, select

_P = "tidegate_operator_"
_GATEWAY = "{{gateway}}"


def _gauge(name: str, *matchers: str, by: str = "gateway") -> str:
    """What the leader says."""
    return f"max by ({by}) ({select(_P + name, *matchers, where=SELECTED_OPERATOR)})"


def _rate(name: str, *matchers: str, by: str) -> str:
    """A counter's increase per second, over all replicas of the operator."""
    selected = select(_P + name, *matchers, where=SELECTED_OPERATOR)
    return f"sum by ({by}) (rate({selected}[{WINDOW}]))"


def _of_operators(expr: str) -> str:
    """A metric that every program has, of the operator's replicas only."""
    ours = select(f"{_P}leader", where=SELECTED_OPERATOR)
    return f"sum by ({', '.join(REPLICA)}) ({expr} and on (job, instance) {ours})"


def _pods() -> Panel:
    return graph(
        "Pods: wanted, there, ready",
        "What there should be, what the Deployment has, and what serves. Wanted above ready for "
        "minutes: pods do not start; see their events. Wanted at the maximum: raise scaling.max.",
        Query(_gauge("replicas_desired"), f"wanted {_GATEWAY}"),
        Query(_gauge("replicas"), f"there {_GATEWAY}"),
        Query(_gauge("replicas_ready"), f"ready {_GATEWAY}"),
    )


OPERATOR = Board(
    name="operator",
    title="Tidegate / Operator",
    description="The operator: leader, loops, scaling, clean-up of streams, memory of Redis.",
    variables_of="tidegate_operator_leader",
    has_pods=False,
    rows=(
        Row(
            "Now",
            (
                number(
                    "Leaders",
                    "Replicas of the operator that lead; it should be 1. 0: nothing is scaled or "
                    "cleaned up; runbook TidegateOperatorSilent. 2 for more than seconds: "
                    "somebody deleted the Lease.",
                    Query(f"sum({select(f'{_P}leader', where=SELECTED_OPERATOR)})"),
                    limits=below(1, 1),
                ),
                number(
                    "Gateways",
                    "Gateway resources that are looked after. 0 with resources there: the operator "
                    "watches another namespace, or may not list them (API calls below).",
                    Query(f"max({select(f'{_P}gateways', where=SELECTED_OPERATOR)})"),
                ),
                number(
                    "Conditions that are false",
                    "Of the conditions that should be true. Any: `kubectl describe gateway` says "
                    "why in words, and the panel of conditions says which.",
                    Query(
                        "sum("
                        + _gauge(
                            "condition",
                            'condition=~"Ready|RedisReachable|SweepHealthy|LeasesAgree'
                            '|DefinitionCurrent"',
                            by="gateway, condition",
                        )
                        + " == bool 0)"
                    ),
                    limits=above(1),
                ),
                number(
                    "Last sweep",
                    "Since the last sweep over the streams ended. Far above "
                    "streams.pace.intervalS: it is interrupted again and again, or too slow for "
                    "the number of streams.",
                    Query(f"max({_gauge('sweep_age_seconds')})"),
                    unit="s",
                    limits=above(3_600, 14_400),
                ),
                number(
                    "Memory of Redis",
                    "Used part of the fullest primary. From warnPercent on the condition "
                    "MemoryPressure is true, from actPercent on streams are kept for less long. "
                    "Runbook: TidegateRedisMemoryHigh.",
                    Query(f"max({_gauge('redis_memory_ratio')})"),
                    unit="percentunit",
                    limits=above(0.75, 0.9),
                ),
                number(
                    "Rounds with errors",
                    "Rounds of all loops that ended with an error, per second. More than now and "
                    "then: the operator's log has the reason.",
                    Query(
                        f"sum(rate({select(f'{_P}loop_errors_total', where=SELECTED_OPERATOR)}"
                        f"[{WINDOW}]))"
                    ),
                    unit="ops",
                    limits=above(0.01, 0.1),
                ),
            ),
        ),
        Row(
            "Scaling",
            (
                _pods(),
                graph(
                    "Demand by signal",
                    "Pods' worth of load that is certain, by signal; the largest decides. A signal "
                    "that is missing is not known, and nothing is scaled down then.",
                    Query(
                        _gauge("demand_pods", by="gateway, signal"), f"{{{{signal}}}} {_GATEWAY}"
                    ),
                ),
                graph(
                    "Decisions by reason",
                    "Why the number of pods is what it is. `Steady` is the usual one. Reasons that "
                    "hold for long (a rollout, unknown figures) keep it from following the load.",
                    Query(f"{_rate('decisions_total', by='reason')} > 0", "{{reason}}"),
                    unit="ops",
                    stacked=True,
                ),
                graph(
                    "Changes and failures",
                    "Changes of the number of pods, and what could not be done. Up and down in "
                    "turns: lengthen scaling.down.windowS. Failures: the log and the conditions "
                    "name them; most often a right that is missing.",
                    Query(_rate("scales_total", by="direction"), "{{direction}}"),
                    Query(_rate("action_failures_total", by="failure"), "{{failure}}"),
                    unit="ops",
                ),
                graph(
                    "Load as the operator sees it",
                    "Connections over all pods, from their leases. It should be what the board "
                    "Overview says; less: replicas without a lease.",
                    Query(_gauge("connections"), f"connections {_GATEWAY}"),
                    Query(_gauge("deliveries_per_second"), f"frames/s {_GATEWAY}"),
                ),
                graph(
                    "Viewers asked to move",
                    "Viewers that full pods were asked to send to emptier ones. It ends when the "
                    "pods are even; if it does not, the load balancer sends them back.",
                    Query(_rate("shed_connections_total", by="gateway"), _GATEWAY),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Streams",
            (
                graph(
                    "Streams by state",
                    "What the last sweep saw. Growing `finished` or `orphan`: their time to live "
                    "is too long, or the sweep only looks (dryRun). Growing `running`: backends "
                    "that never finish an operation. `foreign`: streams of others behind the "
                    "prefix of this gateway, which are left alone.",
                    Query(_gauge("streams", by="gateway, state"), f"{{{{state}}}} {_GATEWAY}"),
                    stacked=True,
                ),
                graph(
                    "Given a time to live, and other changes",
                    "Streams that got a TTL, by state, and what else was done to them. `revived`: "
                    "operations that went on after their end. `consumers`, `slots`: left over "
                    "by replicas that died.",
                    Query(_rate("streams_expired_total", by="state"), "expires {{state}}"),
                    Query(_rate("sweep_changes_total", by="change"), "{{change}}"),
                    unit="ops",
                ),
                graph(
                    "Left alone, by reason",
                    "What the sweep did not do, and why. Most are right: a stream that is watched "
                    "or has a TTL already. `refused`: Redis does not allow a command.",
                    Query(_rate("sweep_skipped_total", by="reason"), "{{reason}}"),
                    unit="ops",
                ),
                graph(
                    "Duration and age of sweeps",
                    "How long the last sweep took, and since when it is over. The duration grows "
                    "with the streams; near the interval, raise streams.pace.commandsPerS.",
                    Query(_gauge("sweep_duration_seconds"), f"duration {_GATEWAY}"),
                    Query(_gauge("sweep_age_seconds"), f"age {_GATEWAY}"),
                    unit="s",
                ),
                graph(
                    "Commands and interruptions",
                    "Commands that sweeps sent to Redis, and times that they lost it. The pace is "
                    "bounded by streams.pace.commandsPerS; lower it if Redis feels it.",
                    Query(_rate("sweep_commands_total", by="gateway"), f"commands {_GATEWAY}"),
                    Query(
                        _rate("sweep_interruptions_total", by="gateway"),
                        f"interruptions {_GATEWAY}",
                    ),
                    unit="ops",
                ),
                graph(
                    "Entries that wait for dispatch",
                    "Entries of watched streams that waited at the last sweep. More than a "
                    "moment's worth: replicas do not dispatch; see the board Delivery.",
                    Query(_gauge("undispatched_entries"), _GATEWAY),
                    limits=above(1_000, 10_000),
                ),
            ),
        ),
        Row(
            "Redis and leases",
            (
                graph(
                    "Memory by primary",
                    "Used memory, and its limit (maxmemory, or streams.memory.limitBytes). No "
                    "limit: nothing is guarded; set one.",
                    Query(
                        _gauge("redis_memory_bytes", by="gateway, node, kind"),
                        "{{kind}} {{node}}",
                    ),
                    unit="bytes",
                ),
                graph(
                    "Redis is reachable",
                    "1 while the leases can be read. 0: nothing is scaled down, nothing is swept; "
                    "look whether the gateway has lost it too (board Redis).",
                    Query(_gauge("redis_reachable"), _GATEWAY),
                ),
                graph(
                    "Leases that disagree",
                    "Pods without a lease and leases without a pod. For seconds at a start or an "
                    "end it is right. Longer: pods on another Redis, or pods that hang.",
                    Query(
                        _gauge("leases_disagree", by="gateway, kind"), f"{{{{kind}}}} {_GATEWAY}"
                    ),
                    limits=above(1),
                ),
            ),
        ),
        Row(
            "The process",
            (
                graph(
                    "Loops: age",
                    "Since each loop last ended a round, on the replica that leads. A sweep waits "
                    "for its interval; a `scale` loop above a minute hangs: liveness restarts it "
                    "after stuck_s.",
                    Query(
                        f"max by (loop) ({select(f'{_P}loop_age_seconds', where=SELECTED_OPERATOR)}"
                        " and on (namespace, release, pod, instance)"
                        f" {select(f'{_P}leader', where=SELECTED_OPERATOR)} == 1)",
                        "{{loop}}",
                    ),
                    unit="s",
                ),
                graph(
                    "Loops: duration",
                    "How long the last round took. `scale` loops of seconds: the API server or "
                    "Redis is slow; see the calls.",
                    Query(_gauge("loop_duration_seconds", by="loop"), "{{loop}}"),
                    unit="s",
                ),
                graph(
                    "Loops: rounds and errors",
                    "Rounds that ended, and those of them with an error. No rounds while there is "
                    "a leader: it is stuck. Errors: the log has them, by loop.",
                    Query(_rate("loop_rounds_total", by="loop"), "{{loop}}"),
                    Query(_rate("loop_errors_total", by="loop"), "errors {{loop}}"),
                    unit="ops",
                ),
                graph(
                    "Calls of the Kubernetes API",
                    "By answer. 403: a right is missing in the Role. 409: another wrote first, "
                    "harmless now and then. 429 and 5xx: the API server is overloaded.",
                    Query(
                        _rate("api_calls_total", by="answer, verb, resource"),
                        "{{answer}} {{verb}} {{resource}}",
                    ),
                    unit="ops",
                ),
                graph(
                    "Conditions",
                    "Of each Gateway: 1 true, 0 false, -1 unknown. Ready, RedisReachable, "
                    "SweepHealthy, LeasesAgree and DefinitionCurrent should be 1, MemoryPressure "
                    "0.",
                    Query(
                        _gauge("condition", by="gateway, condition"),
                        f"{{{{condition}}}} {_GATEWAY}",
                    ),
                    signed=True,
                ),
                graph(
                    "Elections and events lost",
                    "What happened in the election, and Kubernetes events that were not taken. "
                    "Leaders that change all the time: renewals are slow; see the calls.",
                    Query(_rate("election_events_total", by="event"), "{{event}}"),
                    Query(
                        f"sum(rate({select(f'{_P}events_lost_total', where=SELECTED_OPERATOR)}"
                        f"[{WINDOW}]))",
                        "events lost",
                    ),
                    unit="ops",
                ),
                graph(
                    "CPU of the operator",
                    "CPU seconds per second of each replica. The sweep takes most of it; a lower "
                    "streams.pace.commandsPerS takes less.",
                    Query(
                        _of_operators(
                            f"rate({select('process_cpu_seconds_total', where=SELECTED_OPERATOR)}"
                            f"[{WINDOW}])"
                        ),
                        REPLICA_LEGEND,
                    ),
                    width=12,
                ),
                graph(
                    "Memory of the operator",
                    "Resident memory of each replica. It does not depend on the number of "
                    "streams; growth over days is a leak: report it.",
                    Query(
                        _of_operators(
                            select("process_resident_memory_bytes", where=SELECTED_OPERATOR)
                        ),
                        REPLICA_LEGEND,
                    ),
                    unit="bytes",
                    width=12,
                ),
            ),
        ),
    ),
)
