"""Every metric of the ranker, by name. A registry is passed in; nothing is registered at import."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas.messages import Mode


class ServiceMetrics:
    """What `steadyrank serve` counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Decisions answered, by mode (learned, explore, fallback, control); repeats of one are not counted. Where they
        # must be durable, those that were refused as they could not be logged count too.
        decisions = Counter("steadyrank_decisions", "Decisions answered", ["mode"], registry=registry)
        # A child a mode, looked up here once: the lookup costs as much as the count.
        self.decisions = {mode: decisions.labels(mode) for mode in get_args(Mode)}
        # Requests whose decision had been made before and was repeated.
        self.repeats = Counter("steadyrank_repeated_decisions", "Decisions repeated", registry=registry)
        # From the request's arrival to its answer being handed to the socket.
        self.recommend_seconds = Histogram(
            "steadyrank_recommend_seconds",
            "Handling time of /recommend",
            buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
            registry=registry,
        )
        # Requests answered with a problem document, by status: 4xx are the client's, 503 is the log or the store.
        self.refused = Counter("steadyrank_refused_requests", "Requests refused", ["status"], registry=registry)
        # Of those, requests refused with 503 as too many were being answered, by path: more than one ranker can do.
        self.overloaded = Counter("steadyrank_overloaded_requests", "Refused: no room", ["path"], registry=registry)
        # Errors that nobody foresaw: each is a bug, and has a traceback in the log.
        self.errors = Counter("steadyrank_unexpected_errors", "Unexpected errors", ["where"], registry=registry)
        # Numbers of requests and items that lay outside their range and were clipped.
        self.clipped = Counter("steadyrank_clipped_numbers", "Numbers clipped", registry=registry)
        # Category values of requests and items that the loop file does not know.
        self.unknown = Counter("steadyrank_unknown_values", "Unknown category values", registry=registry)
        # Feedback events answered with 202, repeats too.
        self.feedback = Counter("steadyrank_feedback_accepted", "Feedback events accepted", registry=registry)
        # Of those, events that were in the spool and not in the event log when they were answered.
        self.feedback_spooled = Counter("steadyrank_feedback_spooled", "Feedback events spooled", registry=registry)
        # Decisions in memory, neither in the event log nor in the spool; it grows while neither takes them.
        self.log_waiting = Gauge("steadyrank_decision_log_waiting", "Decisions not logged yet", registry=registry)
        # Decisions that were never logged, since log and spool were away for too long: nothing is learned from them.
        self.log_dropped = Counter("steadyrank_decision_log_dropped", "Decisions dropped", registry=registry)
        # Appends to the event log that failed or were not acknowledged in time, by topic: the spool has the record, or
        # it was refused. While the log is away, the tries to reach it count too.
        self.log_failures = Counter("steadyrank_log_failures", "Failed appends", ["topic"], registry=registry)
        # 1 while the event log counts as away, and records go to the spool.
        self.log_away = Gauge("steadyrank_log_away", "Whether the event log is away", registry=registry)
        # Bytes of this worker's spool files; a file is counted until all of it was relayed. Its bound is a setting.
        self.spool_bytes = Gauge("steadyrank_spool_bytes", "Bytes in the spool", registry=registry)
        # Packed records that went to the spool, by topic.
        self.spooled = Counter("steadyrank_spooled_records", "Records spooled", ["topic"], registry=registry)
        # Those that went from the spool to the event log, also of spools that other workers left.
        self.relayed = Counter("steadyrank_relayed_records", "Records relayed", ["topic"], registry=registry)
        # Policies swapped in by this process.
        self.swaps = Counter("steadyrank_policy_swaps", "Policies swapped in", registry=registry)
        # Policies that could not be loaded, a retry counted again; the old one went on serving.
        self.failed_loads = Counter("steadyrank_policy_failed_loads", "Policies not loaded", registry=registry)
        # When the policy that serves was made, seconds since the epoch; 0 while there is none.
        self.policy_created = Gauge("steadyrank_policy_created_at", "When the policy was made", registry=registry)
        # From a reward being final to the first answer of a policy trained on it.
        self.freshness = Histogram(
            "steadyrank_feedback_to_served_seconds",
            "From a final reward to a policy that serves",
            buckets=(0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 60, 600),
            registry=registry,
        )
        # Mean reward of a learned decision less that of a control one, over the last hour: what the product is worth.
        # `bound` is mean, low or high (95 %). Read from the store at each scrape, where the loop has control users.
        self.lift = Gauge("steadyrank_lift", "Learned minus control, last hour", ["bound"], registry=registry)
        # Items that can be recommended.
        self.items = Gauge("steadyrank_items", "Items in the catalogue", registry=registry)
        # Reads of the store that failed: it is locked or away, and the ranker goes on with what it has.
        self.store_failures = Counter("steadyrank_store_failures", "Failed reads of the store", registry=registry)
