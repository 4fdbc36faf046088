"""This machine: versions, disk, memory, files, clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agents.admin.doctor.judge.verdict import Verdict, fault, ok, warning

MIB = 1 << 20
SPARE_MB = 200  # beside the journal: logs, SQLite's own files
FILES_FAULT, FILES_WARNING = 256, 1024
MEMORY_FAULT_MB, MEMORY_WARNING_MB = 64, 256
STACK_KILOWORDS = (
    4096  # 170 bytes per element, 37,400 elements in a stanza of 256 KiB, with room to spare
)
STACK_USUAL = 128
SKEW_WARNING_S, SKEW_FAULT_S = 2.0, 30.0


def judge_versions(wanted: list[str], there: Mapping[str, str]) -> Verdict:
    """`wanted`: requirements as in pyproject (`slixmpp>=1.17,<2`). `there`: the installed versions
    by canonical name."""
    bad = []
    for text in wanted:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        have = there.get(canonicalize_name(need.name))
        if have is None:
            bad.append(f"{need.name} is missing")
        elif not need.specifier.contains(have, prereleases=True):
            bad.append(f"{need.name} is {have}, it must be {need.specifier}")
    if bad:
        return fault("; ".join(bad), "run: make install")
    return ok(f"{len(there)} libraries as required")


def judge_disk(path: Path, free_bytes: int, journal_bytes: int, journal_mb: int) -> Verdict:
    """The disk of the journal. `free_bytes` are left; the journal has `journal_bytes` and may grow
    to `journal_mb` MB."""
    free_mb = free_bytes // MIB
    more_mb = max(0, journal_mb - journal_bytes // MIB)
    if free_mb < SPARE_MB:
        return fault(
            f"{free_mb} MB free at {path}", f"free some: {more_mb + SPARE_MB} MB are needed"
        )
    if free_mb < more_mb + SPARE_MB:
        return warning(
            f"{free_mb} MB free at {path}, the journal may take {more_mb} MB more",
            f"free {more_mb + SPARE_MB - free_mb} MB, or lower coordinator.journal_mb",
        )
    return ok(f"{free_mb:,} MB free at {path}, the journal may take {more_mb} MB more")


def judge_memory(available_bytes: int) -> Verdict:
    mb = available_bytes // MIB
    if mb < MEMORY_WARNING_MB:
        how = fault if mb < MEMORY_FAULT_MB else warning
        return how(
            f"{mb} MB available",
            "a node takes 50 MB, the coordinator 300 MB: free some, or take another machine",
        )
    return ok(f"{mb:,} MB available")


def judge_open_files(soft: int) -> Verdict:
    """`soft`: how many files a process may open (RLIMIT_NOFILE); -1 is no limit."""
    if soft != -1 and soft < FILES_WARNING:
        how = fault if soft < FILES_FAULT else warning
        return how(
            f"a process may open {soft} files",
            "raise it: ulimit -n 4096, or LimitNOFILE= in the unit",
        )
    return ok("no limit on open files" if soft == -1 else f"a process may open {soft:,} files")


def judge_clock(ahead_s: float, of: str) -> Verdict:
    """This machine's clock is `ahead_s` seconds ahead of the clock named by `of` (negative:
    behind)."""
    how = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {of}"
    if abs(ahead_s) >= SKEW_WARNING_S:
        level = fault if abs(ahead_s) >= SKEW_FAULT_S else warning
        return level(
            f"this clock is {how}", "run a time service (chrony, systemd-timesyncd) here and there"
        )
    return ok(f"within {SKEW_WARNING_S:g} s of {of}")


def judge_stack(kilowords: int) -> Verdict:
    """The stack of each of ejabberd's scheduler threads. Its XML library recurses there once for
    each level of nested elements."""
    mb = kilowords * 8 / 1024
    if kilowords < STACK_KILOWORDS:
        return warning(
            f"ejabberd's threads have {mb:g} MB of stack: one stanza of some thousand nested "
            "elements ends the server",
            'start it with a larger one: ERL_OPTIONS="... +sss 8192" in /etc/default/ejabberd or '
            "ejabberdctl.cfg",
        )
    return ok(f"ejabberd's threads have {mb:g} MB of stack")
