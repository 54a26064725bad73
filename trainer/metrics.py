"""Every metric of ingest and of the learner, by name. A registry is passed in; nothing is registered at import."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class IngestMetrics:
    """What `steadyrank ingest` counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        # Records of the event log that were read and committed; a record may hold many elements.
        self.records = Counter("steadyrank_ingest_records", "Records read and committed", registry=registry)
        # Good elements, by topic. Repeats count here; the store keeps the first.
        self.elements = Counter("steadyrank_ingest_elements", "Good elements committed", ["topic"], registry=registry)
        # Elements that went to the dead letters: a rise means that a producer or the loop file is wrong.
        self.dead_letters = Counter("steadyrank_ingest_dead_letters", "Dead letters", ["reason"], registry=registry)
        # Whether ingest stands still, since most of what it read was bad; `steadyrank dead-letters resume` ends it.
        self.paused = Gauge("steadyrank_ingest_paused", "Paused by the dead-letter limit", registry=registry)
        # Events about an item that was not in the slate of their decision: kept, and worth no reward. Counted when the
        # decision becomes final, and after that as they come.
        self.strangers = Counter(
            "steadyrank_ingest_unshown_item_events", "Events about items that were not shown", registry=registry
        )
        # Decisions whose reward became final.
        self.finals = Counter("steadyrank_ingest_final_rewards", "Rewards made final", registry=registry)
        # Final rewards that a late event changed: many of them mean that `wait` is too short.
        self.corrections = Counter("steadyrank_ingest_corrections", "Final rewards corrected", registry=registry)
        # Steps that failed and were done again, by the error's class.
        self.failures = Counter("steadyrank_ingest_failed_steps", "Steps that failed", ["error"], registry=registry)
        # How far the feedback watermark lies behind the clock: rewards are delayed by this.
        self.lag = Gauge("steadyrank_ingest_lag_seconds", "Age of the feedback watermark", registry=registry)
        # From the record's append to its commit in the store, for the oldest record of a step.
        self.delay = Histogram(
            "steadyrank_ingest_delay_seconds",
            "From append to commit, oldest record of a step",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 600),
            registry=registry,
        )


class LearnerMetrics:
    """What `steadyrank train` counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        # Decisions admitted to the replay buffer since the start.
        self.admitted = Counter("steadyrank_learner_admitted_decisions", "Decisions admitted", registry=registry)
        # Decisions left out, since their context or items do not encode under this loop file.
        self.skipped = Counter("steadyrank_learner_skipped_decisions", "Decisions left out", registry=registry)
        # Gradient updates of the agent.
        self.updates = Counter("steadyrank_learner_updates", "Updates of the agent", registry=registry)
        # Updates that were owed and given up, since the learner cannot keep up with the decisions that come in.
        self.dropped = Counter("steadyrank_learner_dropped_updates", "Updates given up", registry=registry)
        # Seconds an update takes, sampling and stabilizing included.
        self.update_seconds = Histogram(
            "steadyrank_learner_update_seconds",
            "Seconds an update",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
            registry=registry,
        )
        # Seconds that writing and publishing a policy takes, and so a bound on how often it is done.
        self.publish_seconds = Histogram(
            "steadyrank_learner_publish_seconds",
            "Seconds to publish a policy",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=registry,
        )
        # Policies written, by what the gate said: published or rejected.
        self.policies = Counter("steadyrank_learner_policies", "Policies written", ["state"], registry=registry)
        # Rounds of the learner's loop that failed and were done again, by the error's class.
        self.failures = Counter("steadyrank_learner_failed_rounds", "Rounds that failed", ["error"], registry=registry)
        # Impressions in the buffer that the agent may learn from now.
        self.ready = Gauge("steadyrank_learner_ready_impressions", "Impressions ready to learn from", registry=registry)
        # The learner's latest figures by name: losses, noise share, reward and estimate variance, gate statistics.
        self.figures = Gauge("steadyrank_learner_figure", "Latest figures", ["name"], registry=registry)
