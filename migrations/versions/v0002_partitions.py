"""Production: decisions and feedback partitioned by day on PostgreSQL, offsets by log, pauses of ingest."""

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DAY_SECONDS = 86_400
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_JOIN_BEFORE = "JOIN decisions d ON d.decision_id = r.decision_id"
_JOIN = "JOIN decisions d ON d.decision_id = r.decision_id AND d.received_at = r.received_at"

# One row an impression, position from 0; for the action kind `weights` one row a decision, without position and item.
_VIEW_SQLITE = """
CREATE VIEW decision_rewards AS
SELECT r.decision_id,
       CASE WHEN d.action_json IS NULL THEN e.key END AS position,
       CASE WHEN d.action_json IS NULL THEN json_extract(d.items_json, '$[' || e.key || '].item_id') END AS item_id,
       e.value AS reward, r.final_at, r.corrected_at
FROM rewards r {join}, json_each(r.rewards_json) e
WHERE e.value IS NOT NULL
"""
_VIEW_POSTGRESQL = """
CREATE VIEW decision_rewards AS
SELECT r.decision_id,
       CASE WHEN d.action_json IS NULL THEN e.number - 1 END AS position,
       CASE WHEN d.action_json IS NULL
            THEN d.items_json::jsonb -> (e.number - 1)::integer ->> 'item_id' END AS item_id,
       e.value::double precision AS reward, r.final_at, r.corrected_at
FROM rewards r {join}
CROSS JOIN LATERAL jsonb_array_elements_text(r.rewards_json::jsonb) WITH ORDINALITY AS e(value, number)
WHERE e.value IS NOT NULL
"""


def upgrade() -> None:
    op.execute("DROP VIEW decision_rewards")
    op.add_column("rewards", sa.Column("received_at", sa.Double, nullable=False, server_default="0"))
    op.execute(
        "UPDATE rewards SET received_at = "
        "(SELECT d.received_at FROM decisions d WHERE d.decision_id = rewards.decision_id)"
    )
    op.create_index("rewards_decided_at", "rewards", ["decided_at", "decision_id"])
    op.drop_index("decisions_decided_at", "decisions")
    _replace_offsets([sa.Column("log", sa.String(16), primary_key=True)], "log, ", "'sql', ")
    op.create_table(
        "ingest_pauses",
        sa.Column("pause_id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("paused_at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("resumed_at", sa.Double),
    )
    if _is_postgresql():
        _partition("decisions", "PRIMARY KEY (decision_id, received_at)")
        _partition("feedback", None)
        op.create_index("feedback_decision_id", "feedback", ["decision_id"])
        op.execute("CREATE TABLE feedback_ids (event_id varchar(256) PRIMARY KEY, received_at float8 NOT NULL)")
        op.execute("INSERT INTO feedback_ids SELECT event_id, received_at FROM feedback")
    _create_view(_JOIN)


def downgrade() -> None:
    op.execute("DROP VIEW decision_rewards")
    if _is_postgresql():
        op.execute("DROP TABLE feedback_ids")
        _unpartition("decisions", "decision_id")
        _unpartition("feedback", "event_id")
        op.create_index("feedback_decision_id", "feedback", ["decision_id"])
    op.drop_table("ingest_pauses")
    _replace_offsets([], "", "", "WHERE log = 'sql'")
    op.create_index("decisions_decided_at", "decisions", ["decided_at"])
    op.drop_index("rewards_decided_at", "rewards")
    op.drop_column("rewards", "received_at")
    _create_view(_JOIN_BEFORE)


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _create_view(join: str) -> None:
    op.execute((_VIEW_POSTGRESQL if _is_postgresql() else _VIEW_SQLITE).format(join=join))


def _replace_offsets(keys: Sequence[sa.Column[str]], into: str, given: str, where: str = "") -> None:
    """SQLite cannot change a primary key: the table is made anew."""
    rest = 'topic, "partition", next_offset, read_up_to'
    op.rename_table("log_offsets", "log_offsets_before")
    if _is_postgresql():
        op.execute("ALTER INDEX log_offsets_pkey RENAME TO log_offsets_before_pkey")
    op.create_table(
        "log_offsets",
        *keys,
        sa.Column("topic", sa.String(256), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("read_up_to", sa.Double, nullable=False),
    )
    op.execute(f"INSERT INTO log_offsets ({into}{rest}) SELECT {given}{rest} FROM log_offsets_before {where}")
    op.drop_table("log_offsets_before")


def _partition(table: str, key: str | None) -> None:
    """The same table, by day of `received_at`; the rows move along."""
    _rename(table)
    constraint = "" if key is None else f", {key}"
    op.execute(
        f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS{constraint}) PARTITION BY RANGE (received_at)"
    )
    days = f"SELECT DISTINCT floor(received_at / {_DAY_SECONDS})::bigint FROM {table}_before ORDER BY 1"
    for day in op.get_bind().execute(sa.text(days)).scalars().all():
        name = datetime.fromtimestamp(day * _DAY_SECONDS, UTC).strftime("%Y%m%d")
        bounds = f"FROM ({day * _DAY_SECONDS}) TO ({(day + 1) * _DAY_SECONDS})"
        op.execute(f"CREATE TABLE {table}_{name} PARTITION OF {table} FOR VALUES {bounds}")
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")
    op.drop_table(f"{table}_before")


def _unpartition(table: str, key: str) -> None:
    _rename(table)
    op.execute(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS, PRIMARY KEY ({key}))")
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")
    op.drop_table(f"{table}_before")


def _rename(table: str) -> None:
    """Out of the way, with the names that its indices would take from the new one."""
    op.rename_table(table, f"{table}_before")
    op.execute(f"ALTER INDEX IF EXISTS {table}_pkey RENAME TO {table}_before_pkey")
    op.execute(f"DROP INDEX IF EXISTS {table}_decision_id")
