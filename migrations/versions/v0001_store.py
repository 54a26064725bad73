"""The first schema: the store, the view `decision_rewards`, and on PostgreSQL the SQL event log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# One row an impression, position from 0; for the action kind `weights` one row a decision, without position and item.
_VIEW_SQLITE = """
CREATE VIEW decision_rewards AS
SELECT r.decision_id,
       CASE WHEN d.action_json IS NULL THEN e.key END AS position,
       CASE WHEN d.action_json IS NULL THEN json_extract(d.items_json, '$[' || e.key || '].item_id') END AS item_id,
       e.value AS reward, r.final_at, r.corrected_at
FROM rewards r JOIN decisions d ON d.decision_id = r.decision_id, json_each(r.rewards_json) e
WHERE e.value IS NOT NULL
"""
_VIEW_POSTGRESQL = """
CREATE VIEW decision_rewards AS
SELECT r.decision_id,
       CASE WHEN d.action_json IS NULL THEN e.number - 1 END AS position,
       CASE WHEN d.action_json IS NULL
            THEN d.items_json::jsonb -> (e.number - 1)::integer ->> 'item_id' END AS item_id,
       e.value::double precision AS reward, r.final_at, r.corrected_at
FROM rewards r JOIN decisions d ON d.decision_id = r.decision_id
CROSS JOIN LATERAL jsonb_array_elements_text(r.rewards_json::jsonb) WITH ORDINALITY AS e(value, number)
WHERE e.value IS NOT NULL
"""


def upgrade() -> None:
    _create_what_happened()
    _create_what_was_learned()
    _create_bookkeeping()
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.execute(_VIEW_POSTGRESQL if postgresql else _VIEW_SQLITE)
    if postgresql:  # on SQLite the log is a file of its own, which its writer makes
        _create_log()


def _create_what_happened() -> None:
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.String(256), primary_key=True),
        sa.Column("decided_at", sa.Double, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("user_id", sa.String(256)),
        sa.Column("session_id", sa.String(256)),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("policy_version", sa.String(64)),
        sa.Column("loop_hash", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("context_json", sa.Text, nullable=False),
        sa.Column("candidates_json", sa.Text),
        sa.Column("exclude_json", sa.Text),
        sa.Column("shortlist_json", sa.Text),
        sa.Column("items_json", sa.Text, nullable=False),
        sa.Column("action_json", sa.Text),
        sa.Column("log_density", sa.Double),
        sa.Column("exploration_json", sa.Text, nullable=False),
    )
    op.create_index("decisions_decided_at", "decisions", ["decided_at"])
    op.create_table(
        "feedback",
        sa.Column("event_id", sa.String(256), primary_key=True),
        sa.Column("decision_id", sa.String(256), nullable=False),
        sa.Column("item_id", sa.String(256)),
        sa.Column("kind", sa.String(256), nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("occurred_at", sa.Double, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
    )
    op.create_index("feedback_decision_id", "feedback", ["decision_id"])
    op.create_table(
        "rewards",
        sa.Column("decision_id", sa.String(256), primary_key=True),
        sa.Column("decided_at", sa.Double, nullable=False),
        sa.Column("rewards_json", sa.Text),
        sa.Column("terminated", sa.Boolean),
        sa.Column("final_at", sa.Double),
        sa.Column("corrected_at", sa.Double),
        sa.Column("revision", sa.BigInteger),
    )
    op.create_index("rewards_revision", "rewards", ["revision", "decided_at"])
    is_open = sa.text("final_at IS NULL")
    op.create_index("rewards_open", "rewards", ["decided_at"], sqlite_where=is_open, postgresql_where=is_open)


def _create_what_was_learned() -> None:
    op.create_table(
        "reward_totals",
        sa.Column("bucket_start", sa.BigInteger, primary_key=True),
        sa.Column("mode", sa.String(16), primary_key=True),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sa.Column("reward_sum", sa.Double, nullable=False),
        sa.Column("reward_square_sum", sa.Double, nullable=False),
    )
    op.create_table(
        "trainings",
        sa.Column("decision_id", sa.String(256), primary_key=True),
        sa.Column("policy_version", sa.String(64), nullable=False),
        sa.Column("estimates_json", sa.Text, nullable=False),
        sa.Column("stabilized_json", sa.Text, nullable=False),
    )
    op.create_table(
        "policies",
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("parent", sa.String(64)),
        sa.Column("loop_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("metrics_json", sa.Text, nullable=False),
    )
    op.create_index("policies_created_at", "policies", ["created_at"])
    op.create_index("policies_state", "policies", ["state", "created_at"])
    op.create_table(
        "promotions",
        sa.Column("promotion_id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("previous_id", sa.BigInteger),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("promoted_at", sa.Double, nullable=False),
    )


def _create_bookkeeping() -> None:
    op.create_table(
        "items",
        sa.Column("item_id", sa.String(256), primary_key=True),
        sa.Column("features_json", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("items_revision", "items", ["revision"])
    op.create_table(
        "revisions",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "log_offsets",
        sa.Column("topic", sa.String(256), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("read_up_to", sa.Double, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(256), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
    )
    op.create_index("dead_letters_origin", "dead_letters", ["topic", "partition", "offset", "index"], unique=True)


def _create_log() -> None:
    op.create_table(
        "log_records",
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(256), nullable=False),
        sa.Column("appended_at", sa.Double, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.execute("DROP VIEW decision_rewards")
    tables = [
        "decisions", "feedback", "rewards", "reward_totals", "trainings", "policies",
        "promotions", "items", "revisions", "log_offsets", "dead_letters",
    ]  # fmt: skip
    for table in [*tables, *(["log_records"] if op.get_bind().dialect.name == "postgresql" else [])]:
        op.drop_table(table)
