"""The operator: leader election, loops, scaling, and the clean-up of streams.

Only the leader exposes gauges about gateways, so the maximum over replicas is the leader's value.
"""

from __future__ import annotations

from dashboards.src.board import Board, Row
from dashboards.src.panels import Panel, Query, above, below, graph, number
from dashboards.src.queries import REPLICA, REPLICA_LEGEND, SELECTED_OPERATOR, WINDOW, select

_P = "tidegate_operator_"
_GATEWAY = "{{gateway}}"


def _gauge(name: str, *matchers: str, by: str = "gateway") -> str:
    """A gauge of the leader."""
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
        "Pods: desired, current, ready",
        "Desired pods, pods of the Deployment, and ready pods. Desired above ready for minutes: "
        "pods do not start; see their events. Desired at the maximum: raise scaling.max.",
        Query(_gauge("replicas_desired"), f"desired {_GATEWAY}"),
        Query(_gauge("replicas"), f"current {_GATEWAY}"),
        Query(_gauge("replicas_ready"), f"ready {_GATEWAY}"),
    )


OPERATOR = Board(
    name="operator",
    title="Tidegate / Operator",
    description="The operator: leader, loops, scaling, stream clean-up, Redis memory.",
    variables_of="tidegate_operator_leader",
    has_pods=False,
    rows=(
        Row(
            "Now",
            (
                number(
                    "Leaders",
                    "Operator replicas that are leader; it should be 1. 0: nothing is scaled or "
                    "cleaned up; runbook TidegateOperatorSilent. 2 for more than seconds: the "
                    "Lease was deleted.",
                    Query(f"sum({select(f'{_P}leader', where=SELECTED_OPERATOR)})"),
                    limits=below(1, 1),
                ),
                number(
                    "Gateways",
                    "Gateway resources managed by the operator. 0 although resources exist: the "
                    "operator watches another namespace, or may not list them (see the API calls "
                    "below).",
                    Query(f"max({select(f'{_P}gateways', where=SELECTED_OPERATOR)})"),
                ),
                number(
                    "False conditions",
                    "Conditions that should be true and are false. `kubectl describe tgw` shows "
                    "the reason, and the panel Conditions shows which. Runbooks: "
                    "TidegateRolloutStuck, TidegateConditionFalse.",
                    Query(
                        "sum("
                        + _gauge(
                            "condition",
                            'condition=~"Ready|RedisReachable|RolloutHealthy|ScalingActive'
                            '|SweepHealthy|LeasesAgree|DefinitionCurrent"',
                            by="gateway, condition",
                        )
                        + " == bool 0)"
                    ),
                    limits=above(1),
                ),
                number(
                    "Last sweep",
                    "Time since the last sweep of the streams ended. Far above "
                    "streams.pace.intervalS: sweeps are interrupted repeatedly, or are too slow "
                    "for the number of streams.",
                    Query(f"max({_gauge('sweep_age_seconds')})"),
                    unit="s",
                    limits=above(3_600, 14_400),
                ),
                number(
                    "Redis memory",
                    "Memory in use on the fullest primary. From warnPercent the condition "
                    "MemoryPressure is true, from actPercent streams are kept for a shorter time. "
                    "Runbook: TidegateRedisMemoryHigh.",
                    Query(f"max({_gauge('redis_memory_ratio')})"),
                    unit="percentunit",
                    limits=above(0.75, 0.9),
                ),
                number(
                    "Rounds with errors",
                    "Rounds of all loops that ended with an error, per second. If this is more "
                    "than occasional, the operator's log has the reason.",
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
                    "Pods needed for the known load, by signal; the largest decides. A missing "
                    "signal is unknown, and nothing is scaled down meanwhile.",
                    Query(
                        _gauge("demand_pods", by="gateway, signal"), f"{{{{signal}}}} {_GATEWAY}"
                    ),
                ),
                graph(
                    "Decisions by reason",
                    "Reasons for the current number of pods. `Steady` is the normal one. Reasons "
                    "that last (a rollout, unknown figures) prevent the number from following the "
                    "load.",
                    Query(f"{_rate('decisions_total', by='reason')} > 0", "{{reason}}"),
                    unit="ops",
                    stacked=True,
                ),
                graph(
                    "Changes and failures",
                    "Changes of the number of pods, and failed actions. Alternating up and down: "
                    "increase scaling.down.windowS. Failures: see the log and the conditions; "
                    "most often a missing permission.",
                    Query(_rate("scales_total", by="direction"), "{{direction}}"),
                    Query(_rate("action_failures_total", by="failure"), "{{failure}}"),
                    unit="ops",
                ),
                graph(
                    "Load seen by the operator",
                    "Connections of all pods, from their leases. It should match board Overview; "
                    "if it is lower, some replicas have no lease.",
                    Query(_gauge("connections"), f"connections {_GATEWAY}"),
                    Query(_gauge("deliveries_per_second"), f"frames/s {_GATEWAY}"),
                ),
                graph(
                    "Viewers asked to reconnect",
                    "Viewers that full pods asked to reconnect to emptier ones. It ends when the "
                    "pods are balanced; if it does not, the load balancer sends them back.",
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
                    "Streams seen by the last sweep. Growing `finished` or `orphan`: their TTL is "
                    "too long, or the sweep runs with dryRun. Growing `running`: backends that "
                    "never finish their operations. `foreign`: streams of others with the prefix "
                    "of this gateway, which are not changed.",
                    Query(_gauge("streams", by="gateway, state"), f"{{{{state}}}} {_GATEWAY}"),
                    stacked=True,
                ),
                graph(
                    "TTLs set and other changes",
                    "Streams that were given a TTL, by state, and other changes. `revived`: "
                    "operations that continued after their end. `consumers`, `slots`: left over "
                    "from dead replicas.",
                    Query(_rate("streams_expired_total", by="state"), "expires {{state}}"),
                    Query(_rate("sweep_changes_total", by="change"), "{{change}}"),
                    unit="ops",
                ),
                graph(
                    "Skipped, by reason",
                    "Streams and changes that the sweep skipped, by reason. Most are expected: "
                    "the stream has viewers or a TTL already. `refused`: Redis does not allow a "
                    "command.",
                    Query(_rate("sweep_skipped_total", by="reason"), "{{reason}}"),
                    unit="ops",
                ),
                graph(
                    "Duration and age of sweeps",
                    "Duration of the last sweep, and time since it ended. The duration grows with "
                    "the number of streams; near the interval, raise streams.pace.commandsPerS.",
                    Query(_gauge("sweep_duration_seconds"), f"duration {_GATEWAY}"),
                    Query(_gauge("sweep_age_seconds"), f"age {_GATEWAY}"),
                    unit="s",
                ),
                graph(
                    "Commands and interruptions",
                    "Commands sent to Redis by sweeps, and interruptions by a lost connection. "
                    "The rate is limited by streams.pace.commandsPerS; lower it if it slows Redis "
                    "down.",
                    Query(_rate("sweep_commands_total", by="gateway"), f"commands {_GATEWAY}"),
                    Query(
                        _rate("sweep_interruptions_total", by="gateway"),
                        f"interruptions {_GATEWAY}",
                    ),
                    unit="ops",
                ),
                graph(
                    "Entries waiting for dispatch",
                    "Entries of streams with viewers that were waiting for dispatch at the last "
                    "sweep. Persistently high: replicas do not dispatch; see board Delivery.",
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
                    "Used memory and its limit (maxmemory, or streams.memory.limitBytes). Without "
                    "a limit there is no memory protection; set one.",
                    Query(
                        _gauge("redis_memory_bytes", by="gateway, node, kind"),
                        "{{kind}} {{node}}",
                    ),
                    unit="bytes",
                ),
                graph(
                    "Redis reachable",
                    "1 while the leases can be read. 0: nothing is scaled down or swept; check "
                    "whether the gateway has lost Redis too (board Redis).",
                    Query(_gauge("redis_reachable"), _GATEWAY),
                ),
                graph(
                    "Leases and pods that do not match",
                    "Pods without a lease, and leases without a pod. This is normal for seconds "
                    "when a pod starts or ends. Longer: pods that use another Redis, or that hang.",
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
                    "Time since each loop last ended a round, on the leader. A sweep waits for "
                    "its interval; a `scale` loop above one minute hangs: the liveness probe "
                    "restarts the pod after stuck_s.",
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
                    "Duration of the last round of each loop. If `scale` loops take seconds, the "
                    "API server or Redis is slow; see the calls.",
                    Query(_gauge("loop_duration_seconds", by="loop"), "{{loop}}"),
                    unit="s",
                ),
                graph(
                    "Loops: rounds and errors",
                    "Completed rounds, and those that failed. No rounds while there is a leader: "
                    "it is stuck. Errors: the log has them, by loop.",
                    Query(_rate("loop_rounds_total", by="loop"), "{{loop}}"),
                    Query(_rate("loop_errors_total", by="loop"), "errors {{loop}}"),
                    unit="ops",
                ),
                graph(
                    "Kubernetes API calls",
                    "Calls by status. 403: the Role lacks a permission. 409: a conflict with "
                    "another writer, harmless if rare. 429 and 5xx: the API server is overloaded.",
                    Query(
                        _rate("api_calls_total", by="answer, verb, resource"),
                        "{{answer}} {{verb}} {{resource}}",
                    ),
                    unit="ops",
                ),
                graph(
                    "Conditions",
                    "Conditions of each Gateway: 1 true, 0 false, -1 unknown. Ready, "
                    "RedisReachable, RolloutHealthy, ScalingActive, SweepHealthy, LeasesAgree, "
                    "DefinitionCurrent and LeaderElected should be 1, MemoryPressure and "
                    "ScalingLimited 0.",
                    Query(
                        _gauge("condition", by="gateway, condition"),
                        f"{{{{condition}}}} {_GATEWAY}",
                    ),
                    signed=True,
                ),
                graph(
                    "Elections and lost events",
                    "Leader election events, and Kubernetes events that could not be created. "
                    "Frequent changes of the leader: renewals are slow; see the API calls.",
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
                    "CPU seconds per second of each replica. The sweep uses most of it; a lower "
                    "streams.pace.commandsPerS reduces it.",
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
