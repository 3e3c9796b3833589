"""Damaged files and databases that look right until they are read are refused, and the process goes on."""

from __future__ import annotations

import sqlite3
import struct

import pytest

from parties.datasets import load
from tests.test_datasets_sources import as_feather, as_parquet, as_sqlite, as_stream, configured, refusal

ADULT, CHILD = "adult", "child"
DECLARED = f'[datasets.p.columns]\nage = {{ categories = ["{ADULT}", "{CHILD}"] }}\n'


@pytest.mark.parametrize("places", [(0, 5, 3), (0, 5, 1 << 30)])
def test_places_beyond_the_contents(tmp_path, places):
    config, path = configured(tmp_path, as_stream(tmp_path, {"age": [ADULT, CHILD]}), DECLARED), tmp_path / "p.bin"
    assert load(config, "p", ["age=child"]).rows.tolist() == [[0.0], [1.0]]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<3i", 0, 5, 10), struct.pack("<3i", *places)))
    assert path.read_bytes() != whole
    assert "its contents are damaged); write it anew" in refusal(load, config, "p", ["age=child"])


@pytest.mark.parametrize("write", [as_parquet, as_feather, as_stream])
@pytest.mark.parametrize("damaged", [CHILD, "age"])
def test_text_that_is_none(tmp_path, write, damaged):
    source = write(tmp_path, {"age": [ADULT, CHILD] * 20})
    (path,) = (path for path in tmp_path.iterdir() if path.suffix != ".toml")
    path.write_bytes(path.read_bytes().replace(damaged.encode(), b"\xff" * len(damaged)))
    config = configured(tmp_path, source, DECLARED)
    assert "dataset 'p'" in refusal(load, config, "p", ["age=child"])


def test_what_sqlite_quotes_of_a_damaged_database(tmp_path):
    source = as_sqlite(tmp_path, {"age": [1.0]})
    path = tmp_path / "p.db"
    path.write_bytes(path.read_bytes().replace(b"TABLE t", b"TABLE\xfft"))
    with sqlite3.connect(path) as connection, pytest.raises(UnicodeDecodeError):
        connection.execute("SELECT * FROM t")
    connection.close()
    config = configured(tmp_path, source)
    assert refusal(load, config, "p", ["age"]).endswith("the query failed (UnicodeDecodeError); the database's own shell says why")
