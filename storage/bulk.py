"""Many rows by one statement, the fast way of each database: `executemany` on SQLite, `unnest` on PostgreSQL.

Rows are tuples of all the table's columns, in the table's order. `bench/ingest.py` times it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
)

from storage.decision_row import json_text

Row = tuple[Any, ...]

_ARRAYS: tuple[tuple[type, str], ...] = (  # the first that the column is
    (BigInteger, "int8[]"),
    (Integer, "int4[]"),
    (Double, "float8[]"),
    (Boolean, "bool[]"),
    (LargeBinary, "bytea[]"),
    (Text, "text[]"),
)


def is_one_of(connection: Connection, column: Column[Any], ids: Collection[str]) -> ColumnElement[bool]:
    """`column` IN `ids`, however many, as one parameter: a parameter an id would be compiled anew at each number."""
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(ids), ARRAY(Text)))
    given = func.json_each(json_text(list(ids))).table_valued("value")
    return column.in_(select(given.c.value))


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert the rows whose keys are new; of rows with one key the first."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        statement = f"{_insert_into(table)} SELECT * FROM {_given(table.columns)} ON CONFLICT DO NOTHING"
        connection.exec_driver_sql(statement, _columns(rows))
    else:
        marks = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(f"{_insert_into(table)} VALUES ({marks}) ON CONFLICT DO NOTHING", list(rows))


def insert_guarded(
    connection: Connection, table: Table, guard: Table, keys: Sequence[str], rows: Sequence[Row]
) -> None:
    """PostgreSQL: insert into a partitioned table the rows whose first column, their id, is new in the table `guard`.

    That gets the columns `keys` of them, the id first. Of rows with one id the first counts.
    """
    if not rows:
        return
    first = {row[0]: row for row in reversed(rows)}  # both would find their id new
    id_ = keys[0]
    connection.exec_driver_sql(
        f"WITH given AS (SELECT * FROM {_given(table.columns)}), "
        f"new AS (INSERT INTO {guard.name} ({', '.join(keys)}) SELECT {', '.join(keys)} FROM given "
        f"ON CONFLICT DO NOTHING RETURNING {id_}) "
        f"{_insert_into(table)} SELECT given.* FROM given JOIN new USING ({id_}) ON CONFLICT DO NOTHING",
        _columns(list(first.values())),
    )


def update_rows(connection: Connection, table: Table, key: str, values: Sequence[str], rows: Sequence[Row]) -> None:
    """Set the columns `values` of the rows with these keys; each of `rows` has `values`, then the key."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        source = _given([table.columns[name] for name in (*values, key)])
        sets = ", ".join(f"{name} = given.{name}" for name in values)
        statement = f"UPDATE {table.name} SET {sets} FROM {source} WHERE {table.name}.{key} = given.{key}"
        connection.exec_driver_sql(statement, _columns(rows))
    else:
        sets = ", ".join(f"{name} = ?" for name in values)
        connection.exec_driver_sql(f"UPDATE {table.name} SET {sets} WHERE {key} = ?", list(rows))


def _insert_into(table: Table) -> str:
    return f"INSERT INTO {table.name} ({_names(table.columns)})"


def _given(columns: Iterable[Column[Any]]) -> str:
    columns = list(columns)
    # %b: binary, as a text would have to be searched for what an array's text must escape.
    return f"unnest({', '.join(f'%b::{_array(column)}' for column in columns)}) AS given ({_names(columns)})"


def _names(columns: Iterable[Column[Any]]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)  # `partition` is a word of SQL


def _array(column: Column[Any]) -> str:
    return next((name for kind, name in _ARRAYS if isinstance(column.type, kind)), "varchar[]")


def _columns(rows: Sequence[Row]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))
