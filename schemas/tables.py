"""The SQL tables that the processes meet in (DESIGN §6).

Times are double precision seconds since the epoch, UTC, in every database. Columns named `*_json` hold JSON text.
`STORE` is the store (SQLite's `steadyrank.db`, or PostgreSQL); `LOG` is the SQL event log, a file of its own on SQLite.

On PostgreSQL `decisions` and `feedback` are partitioned by the UTC day of `received_at`, so that old days go at once. A
partitioned table can enforce no key without that column: there `rewards` and `feedback_ids` keep the ids unique.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

STORE = MetaData()
POSTGRESQL = MetaData()
"""What the store has on PostgreSQL only."""
LOG = MetaData()

# SQLite autoincrements only a column declared INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")

decisions = Table(
    "decisions",
    STORE,
    Column("decision_id", String(256), primary_key=True),
    Column("decided_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),  # the event log's own time
    Column("user_id", String(256)),
    Column("session_id", String(256)),
    Column("mode", String(16), nullable=False),
    Column("policy_version", String(64)),
    Column("loop_hash", String(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("context_json", Text, nullable=False),
    Column("candidates_json", Text),  # null: the whole catalogue
    Column("exclude_json", Text),
    Column("shortlist_json", Text),
    Column("items_json", Text, nullable=False),
    Column("action_json", Text),
    Column("log_density", Double),
    Column("exploration_json", Text, nullable=False),
)

feedback = Table(
    "feedback",
    STORE,
    Column("event_id", String(256), primary_key=True),
    Column("decision_id", String(256), nullable=False),
    Column("item_id", String(256)),
    Column("kind", String(256), nullable=False),
    Column("value", Double, nullable=False),
    Column("occurred_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("feedback_decision_id", "decision_id"),
)

feedback_ids = Table(
    "feedback_ids",
    POSTGRESQL,
    Column("event_id", String(256), primary_key=True),
    Column("received_at", Double, nullable=False),
)

rewards = Table(
    # One row a decision, made with it. While `final_at` is null its window is open and `rewards_json` is null.
    "rewards",
    STORE,
    Column("decision_id", String(256), primary_key=True),
    Column("decided_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),  # the decision's, by which its row is found
    Column("rewards_json", Text),  # [K] by position; null at a position: no impression. weights: [1]
    Column("terminated", Boolean),
    Column("final_at", Double),
    Column("corrected_at", Double),
    Column("revision", BigInteger),  # of the transaction that last wrote it: what the learner tails
    Index("rewards_revision", "revision", "decided_at"),
    Index("rewards_decided_at", "decided_at", "decision_id"),
)
# Of the rows whose final_at is null, as the migration says. (Said here, it would load PostgreSQL's dialect for SQLite.)
Index("rewards_open", rewards.c.decided_at)

reward_totals = Table(
    # Sums over final decisions by when they were decided, kept in the transaction that finalizes or corrects them.
    "reward_totals",
    STORE,
    Column("bucket_start", BigInteger, primary_key=True),  # seconds, a multiple of REWARD_BUCKET_SECONDS
    Column("mode", String(16), primary_key=True),
    Column("decisions", BigInteger, nullable=False),
    Column("reward_sum", Double, nullable=False),
    Column("reward_square_sum", Double, nullable=False),
)
REWARD_BUCKET_SECONDS = 2

trainings = Table(
    # What the learner made of a decision: written when the first policy trained on it is published.
    "trainings",
    STORE,
    Column("decision_id", String(256), primary_key=True),
    Column("policy_version", String(64), nullable=False),
    Column("estimates_json", Text, nullable=False),  # r̂ by position, null where no impression
    Column("stabilized_json", Text, nullable=False),  # the reward that trained the agent, by position
)

items = Table(
    "items",
    STORE,
    Column("item_id", String(256), primary_key=True),
    Column("features_json", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("deleted", Boolean, nullable=False),  # kept as a row, so that pollers see the deletion
    Column("revision", BigInteger, nullable=False),
    Index("items_revision", "revision"),
)

policies = Table(
    "policies",
    STORE,
    Column("version", String(64), primary_key=True),
    Column("parent", String(64)),
    Column("loop_hash", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", String(16), nullable=False),  # published, rejected (by the gate), pruned (its files are gone)
    Column("metrics_json", Text, nullable=False),
    Index("policies_created_at", "created_at"),
    Index("policies_state", "state", "created_at"),  # a policy every 2 s makes a million rows a month
)

promotions = Table(
    # The champion is the last row's version; rolling back goes to the row that `previous_id` names.
    "promotions",
    STORE,
    Column("promotion_id", _Serial, primary_key=True, autoincrement=True),
    Column("version", String(64), nullable=False),
    Column("previous_id", BigInteger),
    Column("pinned", Boolean, nullable=False),
    Column("promoted_at", Double, nullable=False),
)

revisions = Table(
    # Counters taken inside a transaction, whose row lock makes their order the order of commits.
    "revisions",
    STORE,
    Column("name", String(64), primary_key=True),  # rewards, items, policies, promotions
    Column("value", BigInteger, nullable=False),
)

log_offsets = Table(
    # A partition that a log has and nobody has read yet has a row too, with `read_up_to` -inf: rewards wait for it.
    "log_offsets",
    STORE,
    Column("log", String(16), primary_key=True),  # sql, kafka: the offsets of one mean nothing to the other
    Column("topic", String(256), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("read_up_to", Double, nullable=False),  # the watermark: all records before this time have been read
)

ingest_pauses = Table(
    # Ingest paused by the dead-letter limit; it goes on when no row is without `resumed_at`.
    "ingest_pauses",
    STORE,
    Column("pause_id", _Serial, primary_key=True, autoincrement=True),
    Column("paused_at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resumed_at", Double),
)

dead_letters = Table(
    # Of the SQL event log; Kafka has a topic for them.
    "dead_letters",
    STORE,
    Column("dead_letter_id", _Serial, primary_key=True, autoincrement=True),
    Column("topic", String(256), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("index", Integer, nullable=False),  # within an array; 0 where the record was one object
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("dead_letters_origin", "topic", "partition", "offset", "index", unique=True),
)

log_records = Table(
    "log_records",
    LOG,
    Column("offset", _Serial, primary_key=True, autoincrement=True),
    Column("topic", String(256), nullable=False),
    Column("appended_at", Double, nullable=False),
    Column("value", LargeBinary, nullable=False),
)
