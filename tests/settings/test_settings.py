"""Where settings come from and which one holds, and that each mistake names where it stands, its
key and what would be right."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.base.errors import SettingsError
from agents.base.supervisor import LAST_END, PARENT
from agents.settings import Loaded, Settings, gather_settings, load_settings
from agents.settings.calm import Calm
from agents.settings.processes import CalmKeys
from agents.settings.sources import RESERVED, all_keys

Gather = Callable[..., Loaded]


@pytest.fixture
def of(tmp_path: Path) -> Gather:
    def gathered(text: str = "", environ: Mapping[str, str] | None = None, *flags: str) -> Loaded:
        path = tmp_path / "mine.toml"
        path.write_text(text, "utf-8")
        return gather_settings(path, flags, environ or {})

    return gathered


def test_what_is_left_out_has_its_default(of: Gather) -> None:
    assert of().settings == Settings() == load_settings(None, environ={})
    assert set(of().origins.values()) == {"default"}


def test_flags_lie_over_the_environment_and_that_over_the_file(of: Gather) -> None:
    text = "[coordinator]\nlanes = 5\nraw_partitions = 5\njournal_mb = 5\n"
    environ = {"GEOLANE_COORDINATOR__RAW_PARTITIONS": "6", "GEOLANE_COORDINATOR__JOURNAL_MB": "6"}
    found = of(text, environ, "coordinator.journal_mb=7", "coordinator.journal_mb=8")
    c = found.settings.coordinator
    assert (c.lanes, c.raw_partitions, c.journal_mb) == (5, 6, 8)
    named = [
        found.origins[f"coordinator.{k}"]
        for k in ("lanes", "raw_partitions", "journal_mb", "kernel")
    ]
    assert [named[0].rpartition("/")[2], *named[1:]] == [
        "mine.toml",
        "GEOLANE_COORDINATOR__RAW_PARTITIONS",
        "--set coordinator.journal_mb",
        "default",
    ]


def test_a_nested_key_can_be_set_from_everywhere(of: Gather) -> None:
    assert of("[coordinator.calm]\nwindow_s = 3\n").settings.coordinator.calm == Calm(window_s=3.0)
    assert of("", {"GEOLANE_COORDINATOR__CALM__WINDOW_S": "2.5"}).settings.coordinator.calm == Calm(
        window_s=2.5
    )
    assert of("", {}, "coordinator.calm.window_s=1e1").settings.coordinator.calm == Calm(
        window_s=10.0
    )


def test_a_text_may_hold_anything_and_be_empty(of: Gather) -> None:
    assert of("", {}, "kafka.ca_file=a=b c").settings.kafka.ca_file == "a=b c"
    assert (
        of('[kafka]\nca_file = "x"\n', {"GEOLANE_KAFKA__CA_FILE": ""}).settings.kafka.ca_file == ""
    )


def test_every_calm_rule_is_a_setting() -> None:
    assert {f.name: f.type for f in msgspec.structs.fields(Calm)} == {
        name: all_keys()[f"coordinator.calm.{name}"].default.__class__
        for name in CalmKeys.__annotations__
    }


def test_every_key_has_a_text_and_every_number_its_unit_in_its_name() -> None:
    endings = {
        "ms": "_ms",
        "s": "_s",
        "events/s": "_eps",
        "bytes": "_bytes",
        "records": "_records",
        "MB": "_mb",
        "lanes": "lanes",
        "partitions": "_partitions",
        "windows": "windows",
    }
    for key in all_keys().values():
        assert key.text.endswith("."), key.path
        if key.unit in endings:
            assert key.name.endswith(endings[key.unit]), key.path
        else:
            assert not re.search(r"_(ms|s|eps|bytes|mb)\Z", key.name), key.path


def test_every_default_is_within_its_own_limits() -> None:
    environ = {key.variable: str(key.default) for key in all_keys().values()}
    assert load_settings(None, environ=environ) == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[coordinator]\nlanse = 3\n",
            "mine.toml: coordinator.lanse: there is no such key. Did you mean coordinator.lanes?",
        ),
        ("[coordinator.calm]\nwindo_s = 3\n", "Did you mean coordinator.calm.window_s?"),
        (
            "[coordinator]\nwindow_s = 3\n",
            "coordinator.window_s: .*Did you mean coordinator.calm.window_s?",
        ),
        ("lanes = 3\n", "mine.toml: lanes: .*Did you mean coordinator.lanes?"),
        ("[kafak]\n", "mine.toml: kafak: .*Did you mean kafka?"),
        ("[metrics]\nzzz = 1\n", "metrics.zzz: .*There are: host, port."),
        (
            "[coordinator]\nlanes = 0\n",
            "coordinator.lanes: must be a whole number from 1 to 100000, not 0",
        ),
        ("[coordinator]\nlanes = 2.5\n", "coordinator.lanes: must be a whole number .*, not 2.5"),
        ("[coordinator]\nlanes = true\n", "coordinator.lanes: must be a whole number .*, not true"),
        ('[coordinator]\nlanes = "4"\n', "coordinator.lanes: must be a whole number .*, not '4'"),
        (
            "[coordinator]\nlanes = [1]\n",
            "coordinator.lanes: must be a whole number .*, not a list",
        ),
        (
            "[coordinator.calm]\nwindow_s = nan\n",
            "calm.window_s: must be a number above 0, not nan",
        ),
        (
            "[coordinator.calm]\nwindow_s = inf\n",
            "calm.window_s: must be a number above 0, not inf",
        ),
        ("[coordinator.calm]\nbudget_share = 9\n", "must be a number above 0, of at most 1, not 9"),
        (
            '[coordinator]\nkernel = "cuda"\n',
            "coordinator.kernel: must be one of auto, gpu, cpu and numpy, not 'cuda'",
        ),
        ('[kafka]\nsecurity = "SSL\\n"\n', "kafka.security: must be one of PLAINTEXT, SSL, .*"),
        (
            '[kafka]\nbootstrap = "broker"\n',
            "kafka.bootstrap: must be HOST:PORT, several with commas between, not 'broker'",
        ),
        ('[kafka]\nbootstrap = ["a:1"]\n', "kafka.bootstrap: must be HOST:PORT"),
        ('kafka = "x"\n', r"mine.toml: kafka: is a table, written \[kafka\]"),
        (
            "[coordinator]\ncalm = 3\n",
            r"coordinator.calm: is a table, written \[coordinator.calm\]",
        ),
        ("[xmpp]\nport = 70000\n", "xmpp.port: must be a whole number from 1 to 65535, not 70000"),
        (
            "[coordinator.calm]\nsettle_to = 1.5\n",
            "settle_to is 1.5, above coordinator.calm.act_above, which is 1.25",
        ),
        ("[worker\n", "mine.toml: is not valid TOML: "),
    ],
)
def test_a_mistake_in_the_file_names_file_key_and_what_would_be_right(
    of: Gather, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=r"^\S*/mine\.toml: ") as error:
        of(text)
    assert re.search(says, str(error.value))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "GEOLANE_COORDINATOR__LANES",
            "many",
            "coordinator.lanes: must be a whole number from 1 to 100000, not 'many'",
        ),
        ("GEOLANE_COORDINATOR__LANES", "", "not ''"),
        ("GEOLANE_COORDINATOR_LANES", "3", "Did you mean GEOLANE_COORDINATOR__LANES?"),
        (
            "GEOLANE_COORDINATOR__CALM_WINDOW_S",
            "3",
            "Did you mean GEOLANE_COORDINATOR__CALM__WINDOW_S?",
        ),
        ("GEOLANE_X", "3", "there is no such setting"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    of: Gather, name: str, value: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: ") as error:
        of("", {name: value})
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("coordinator.lanes=x", "--set coordinator.lanes: must be a whole number"),
        ("coordinator.lanes", "--set coordinator.lanes: write KEY=VALUE"),
        (
            "coordinator.lanse=3",
            "--set coordinator.lanse: there is no such key. Did you mean coordinator.lanes?",
        ),
        ("lanes=3", "Did you mean coordinator.lanes?"),
        ("kafak.bootstrap=a:1", "Did you mean kafka.bootstrap?"),
        ("coordinator.calm=3", "--set coordinator.calm: there is no such key"),
        (
            "coordinator.calm.act_above=1",
            "act_above, which is 1 (default, --set coordinator.calm.act_above)",
        ),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(of: Gather, flag: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        of("", {}, flag)
    assert says in str(error.value)


def test_everything_that_is_wrong_is_said_at_once(of: Gather) -> None:
    with pytest.raises(SettingsError) as error:
        of("[kafka]\nx = 1\n[xmpp]\nport = 0\n", {"GEOLANE_Y": "1"}, "z=1")
    assert [line.rpartition("/")[2].split(": ")[0] for line in str(error.value).splitlines()] == [
        "mine.toml",
        "mine.toml",
        "GEOLANE_Y",
        "--set z",
    ]


def test_others_variables_are_none_of_ours(of: Gather) -> None:
    assert (
        of(
            "", {"GEOLANE_PARENT": "1", "GEOLANE_LAST_END": "x", "geolane_x": "1", "GEOLANES": "1"}
        ).settings
        == Settings()
    )
    assert {PARENT, LAST_END} == RESERVED


@given(st.text(string.printable, max_size=30), st.text(string.printable, max_size=30))
def test_no_text_breaks_the_readers(name: str, value: str) -> None:
    for environ, flags in (
        ({f"GEOLANE_{name}": value}, []),
        ({}, [f"{name}={value}"]),
        ({}, [f"kafka.{name}={value}"]),
    ):
        with pytest.raises(SettingsError) as error:
            load_settings(None, flags, environ)
        assert name.partition("=")[0].strip() in str(error.value)


@pytest.mark.parametrize("key", list(all_keys()))
def test_each_key_refuses_what_is_of_another_kind(of: Gather, key: str) -> None:
    table, _, name = key.rpartition(".")
    wrong = 5 if isinstance(all_keys()[key].default, str) else '"x"'
    with pytest.raises(
        SettingsError,
        match=rf"mine\.toml: {re.escape(key)}: must be {re.escape(all_keys()[key].wants)}, not",
    ):
        of(f"[{table}]\n{name} = {wrong}\n")
