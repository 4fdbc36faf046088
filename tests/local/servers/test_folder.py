"""One run has the folder; what a killed one left is ended, and nobody else's process is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agents.base.errors import SettingsError
from agents.local.servers.folder import RunFolder, is_in_use, process_start_time

_AS_ANOTHER = """if True:
    import os, sys
    from pathlib import Path
    from agents.local.servers.folder import RunFolder
    from agents.base.errors import SettingsError
    os.setgroups([]), os.setgid(65533), os.setuid(65533), os.chdir("/")
    try:
        RunFolder(Path(sys.argv[1])).__enter__()
    except SettingsError as e:
        print(e)
"""
_SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_second_run_in_the_same_folder_is_refused_with_the_firsts_process_id(
    tmp_path: Path,
) -> None:
    with RunFolder(tmp_path / "run"), pytest.raises(SettingsError, match=f"process {os.getpid()}"):
        RunFolder(tmp_path / "run").__enter__()
    with RunFolder(tmp_path / "run"):
        pass


def test_a_process_that_a_killed_run_left_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen(_SLEEPER) as left:
        with RunFolder(tmp_path / "run") as folder:
            folder.note_process("node-x", left.pid)
        with RunFolder(tmp_path / "run") as folder:
            assert left.wait(5) == -9
            assert not list(folder.pids.iterdir())


def test_a_process_that_only_has_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(_SLEEPER) as stranger:
        with RunFolder(tmp_path / "run") as folder:
            (folder.pids / "node-x").write_text(f"{stranger.pid} 12345", "ascii")
        with RunFolder(tmp_path / "run") as folder:
            assert stranger.poll() is None
            assert not list(folder.pids.iterdir())
        stranger.kill()


def test_a_file_or_link_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="not a geolane run folder"):
        RunFolder(tmp_path / "link").__enter__()


def test_a_folder_where_nothing_can_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"{tmp_path}/file/run: Not a directory; .* --folder"):
        RunFolder(tmp_path / "file" / "run").__enter__()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log").write_text("")
    with pytest.raises(SettingsError, match=f"{tmp_path}/run/log: File exists"):
        RunFolder(tmp_path / "run").__enter__()
    (tmp_path / "run" / "log").unlink()
    with RunFolder(tmp_path / "run"):  # the lock was not kept
        pass
    with pytest.raises(SettingsError, match=r"set LC_ALL=C\.UTF-8"):
        RunFolder(tmp_path / "\udcff").__enter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_read_only_or_foreign_folder_is_an_error_that_names_it(owner: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        os.chown(name, owner, owner)
        done = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER, f"{name}/run"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.startswith(f"{name}/run: Permission denied; "), done.stderr


def test_secrets_are_ours_alone(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        assert {
            p.stat().st_mode & 0o777 for p in (folder.secrets, folder.settings, folder.log)
        } == {0o700}


def test_a_process_that_has_ended_has_no_start_time() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        assert process_start_time(child.pid) == ""
    assert process_start_time(os.getpid()) != ""


def test_a_folder_is_in_use_while_a_run_holds_it_and_not_after_one_was_killed(
    tmp_path: Path,
) -> None:
    assert not is_in_use(tmp_path / "run")
    with RunFolder(tmp_path / "run") as held:
        assert is_in_use(held.path)
        killed = (held.path / "lock").read_text()
    assert not is_in_use(held.path)
    pid, _, started = killed.partition(" ")
    (held.path / "lock").write_text(f"{pid} {int(started) - 1}")  # the pid is another's now
    assert not is_in_use(held.path)
