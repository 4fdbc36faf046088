"""SQL files: statements, values, and how a table reaches Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import settings
from agents.analytics.sql_script import (
    Script,
    kafka_options,
    quote,
    read_script,
    split_statements,
)
from agents.base.errors import SettingsError


def test_statements_are_split_where_sql_ends_them() -> None:
    text = """
    -- a comment; with 'one quote
    SET 'a;b' = 'it''s; so'; /* and; a
    longer 'one */
    SELECT `odd;name` -- here; too
      FROM t;;
    SELECT 1 - -1"""
    assert split_statements(text) == (
        "SET 'a;b' = 'it''s; so'",
        "SELECT `odd;name`  \n      FROM t",
        "SELECT 1 - -1",
    )
    assert split_statements("") == split_statements(" ; -- ;\n;") == ()


def test_values_cannot_leave_their_quotes(tmp_path: Path) -> None:
    file = tmp_path / "a.sql"
    file.write_text("SET 'topic' = '${topic}'; CREATE TABLE a (n INT) WITH (${more});\n")
    script = read_script(file, {"topic": "it's; ${more}"}, {"more": "'x' = 'y'"})
    assert script == Script(
        str(file),
        ("SET 'topic' = 'it''s; ${more}'", "CREATE TABLE a (n INT) WITH ('x' = 'y')"),
    )


def test_a_value_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.sql"
    file.write_text("SET 'topic' = '${topik}';")
    with pytest.raises(SettingsError, match=r"no value for \$\{topik\}; known are kafka, topic"):
        read_script(file, {"topic": "a"}, {"kafka": ""})
    with pytest.raises(SettingsError, match=r"none\.sql: cannot be read"):
        read_script(tmp_path / "none.sql", {}, {})


def test_a_statement_is_described_without_its_options() -> None:
    script = Script("a.sql", ("CREATE  TABLE\n a(n INT) WITH ('password' = 'x')", "SELECT 'x'"))
    assert script.describe(0) == "a.sql, statement 1 (CREATE TABLE a)"


def test_jobs_are_counted() -> None:
    insert = "INSERT INTO a SELECT 1"
    for statements, jobs in (
        ((insert,), 1),
        (("SELECT 1", insert, insert), 2),
        (("begin statement  set", insert, insert, "end"), 1),
        (("EXECUTE STATEMENT SET BEGIN " + insert,), 1),
        ((), 0),
    ):
        assert Script("a", statements).count_jobs() == jobs, statements


def test_kafkas_settings_become_options_of_a_table(tmp_path: Path) -> None:
    assert kafka_options(settings.Kafka(bootstrap="a:1,b:2")) == (
        "'properties.bootstrap.servers' = 'a:1,b:2',\n'properties.security.protocol' = 'PLAINTEXT'"
    )
    password, ca = tmp_path / "password", tmp_path / "ca.pem"
    password.write_text("""it's "so" \\ ;\n""")
    password.chmod(0o600)
    kafka = settings.Kafka(
        security="SASL_PLAINTEXT", username="an", password_file=str(password), ca_file=str(ca)
    )
    options = kafka_options(kafka)
    assert "'properties.sasl.mechanism' = 'SCRAM-SHA-512'" in options
    assert r"""username="an" password="it''s \"so\" \\ ;";'""" in options
    assert "kafka.shaded.org.apache.kafka.common.security.scram.ScramLoginModule req" in options
    assert "truststore" not in options
    assert split_statements(f"CREATE TABLE a WITH ({options})") == (
        f"CREATE TABLE a WITH ({options})",
    )


def test_texts_are_quoted() -> None:
    assert quote("it's") == "'it''s'"
