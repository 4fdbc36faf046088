"""A local Flink that cannot start says why, and which log has more; see tests/analytics for one
that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.base.errors import FlinkUnavailable, InstallError
from agents.local.servers import install
from agents.local.servers.flink_cluster import FlinkCluster, FlinkMemory
from agents.local.servers.install import install_part


async def test_missing_jars_name_the_command_that_brings_them(
    server_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlinkCluster, "jars", tmp_path)
    with pytest.raises(InstallError, match=r"run: sh \S+install\.sh flink"):
        await FlinkCluster(server_folder / "flink").start()


async def test_a_part_that_ends_at_once_is_named_with_its_log(server_folder: Path) -> None:
    cluster = FlinkCluster(server_folder / "flink", memory=FlinkMemory(gateway_heap_mb=1))
    with pytest.raises(FlinkUnavailable) as failed:
        await cluster.start(60)
    assert f"Flink's gateway ended while it started; read {cluster.folder}/log/gateway.log" in str(
        failed.value
    )
    assert "heap" in str(failed.value)
    assert [part.pid for part in cluster.parts] == [None] * 3


async def test_one_that_is_not_ready_in_time_says_what_is_missing(server_folder: Path) -> None:
    cluster = FlinkCluster(server_folder / "flink")
    with pytest.raises(FlinkUnavailable, match=r"did not start in time \(.*\); read the logs in"):
        await cluster.start(0.1)
    assert [part.pid for part in cluster.parts] == [None] * 3


async def test_the_installer_shows_its_progress_and_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "install.sh"
    monkeypatch.setattr(install, "INSTALL", script)
    said: list[str] = []
    script.write_text('echo "== jars: $1"; echo done')
    await install_part("flink", said.append)
    assert said == ["== jars: flink", "done"]
    script.write_text("echo no net >&2; exit 1")
    with pytest.raises(InstallError, match="could not be installed:\nno net"):
        await install_part("flink", said.append)
