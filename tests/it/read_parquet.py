"""Reads every Parquet object below a directory with DuckDB, by partition, and says what it found as JSON."""

import json
import sys

import duckdb

connection = duckdb.connect()
partitions = "{'building': VARCHAR, 'dt': VARCHAR, 'hour': VARCHAR}"
pattern = sys.argv[1] + "/**/*.parquet"
table = f"read_parquet('{pattern}', hive_partitioning = true, hive_types = {partitions})"
columns = [(name, kind) for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()]


def shown(name, kind):
    return f'epoch_ms("{name}")' if kind.startswith("TIMESTAMP") else f'"{name}"'


values = ", ".join(shown(name, kind) for name, kind in columns)
rows = connection.execute(f"SELECT {values} FROM {table} ORDER BY sequence").fetchall()
names = [name for name, _ in columns]
print(json.dumps({"columns": columns, "rows": [dict(zip(names, row)) for row in rows]}))
