# SPDX-License-Identifier: GPL-2.0-only
"""The scripts of traces/workloads: what they say of themselves, and that they clean up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

WORKLOADS = Path(__file__).parents[2] / "traces" / "workloads"
SCRIPTS = sorted(p for p in WORKLOADS.iterdir() if p.is_file() and os.access(p, os.X_OK))
SOURCED = sorted(p for p in WORKLOADS.glob("*.bash") if p not in SCRIPTS)
PROGRAMS = sorted(p for p in (WORKLOADS / "programs").iterdir() if p.is_file())
HEADERS = ("about", "packages", "version", "threads")


def name(path: Path) -> str:
    return path.name


def headers(script: Path) -> list[tuple[str, str]]:
    """The comments at the top that a driver reads, in order."""
    top = script.read_text().split("\n\n")[0]
    return re.findall(rf"^# ({'|'.join(HEADERS)}): (.*)$", top, re.MULTILINE)


def test_there_are_the_workloads_that_the_corpus_is_made_of() -> None:
    assert len(SCRIPTS) >= 16
    assert {p.suffix for p in SCRIPTS} <= {".bash", ".py"}


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_says_at_its_top_what_it_is(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0].startswith("#!/")
    assert lines[1] == "# SPDX-License-Identifier: GPL-2.0-only"
    found = headers(script)
    assert tuple(key for key, _ in found) == HEADERS
    said = dict(found)
    assert len(said["about"]) > 10
    for package in said["packages"].split():
        assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package)  # deb-src-control(5)
    assert said["packages"]
    parsed = subprocess.run(["bash", "-n", "-c", said["version"]], capture_output=True, check=False)
    assert said["version"]
    assert parsed.returncode == 0, parsed.stderr
    assert said["threads"] in ("yes", "no")


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_readme_knows_it(script: Path) -> None:
    rows = [line for line in (WORKLOADS / "README.md").read_text().splitlines() if "|" in line]
    (row,) = [line for line in rows if f"`{script.name}`" in line]
    assert row.endswith(f"| {dict(headers(script))['threads']} |")


@pytest.mark.parametrize("source", [*SCRIPTS, *SOURCED, *PROGRAMS], ids=name)
def test_is_a_program(source: Path, tmp_path: Path) -> None:
    if source.suffix == ".py":
        compile(source.read_text(), str(source), "exec")
        return
    commands = {
        ".bash": ["bash", "-n"],
        ".c": ["gcc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"],
        ".js": ["node", "--check"],
    }
    command = commands[source.suffix]
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    done = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- running them ----


def left_of(token: str) -> list[str]:
    """Processes that have WORKLOAD_TEST=token in their environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"WORKLOAD_TEST={token}".encode() in (directory / "environ").read_bytes():
                found.append((directory / "cmdline").read_bytes().decode().replace("\0", " "))
        except OSError:
            continue  # it has ended, or is not ours
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a workload: its temporary directories are below tmp_path/tmp, its processes are marked
    with tmp_path."""
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "WORKLOAD_TEST": str(tmp_path)}


def made_up(directory: Path, body: str) -> Path:
    """A workload."""
    script = directory / "made_up.bash"
    script.write_text(
        "#!/bin/bash\n# packages: left-pad\n"
        f'source "{WORKLOADS}/common.bash"\n{body}\nworkload "$@"\n'
    )
    script.chmod(0o755)
    return script


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_one_runs_alone_and_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [WORKLOADS / "gc_mremap.bash"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "tmp"]
    assert left_of(str(tmp_path)) == []


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_a_driver_takes_the_two_parts_one_by_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script, directory = WORKLOADS / "fork_server.bash", tmp_path / "here"
    directory.mkdir()
    for step in ("prepare", "run"):
        done = subprocess.run(
            [script, step, directory],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert left_of(str(tmp_path)) == []
    assert (directory / "log").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("prepare() { :; }\nrun() { echo what; false; echo more; }", ["line 5: false", "what"]),
        ("prepare() { die no reason; }\nrun() { :; }", ["made_up: no reason"]),
        (
            "need no-such-program",
            ["made_up: there is no no-such-program; apt-get install left-pad"],
        ),
        (
            "prepare() { :; }\nrun() { serve sleep 1000; until_ready test -e log; false; }",
            ["made_up: line 5: false"],
        ),
    ],
    ids=["step", "die", "package", "server"],
)
def test_a_step_that_fails_is_told(
    tmp_path: Path, environment: dict[str, str], body: str, told: list[str]
) -> None:
    done = subprocess.run(
        [made_up(tmp_path, body)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    for text in told:
        assert text in done.stderr
    assert "more" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_of(str(tmp_path)) == []


def test_a_workload_that_is_ended_leaves_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script = made_up(tmp_path, "prepare() { :; }\nrun() { serve sleep 999; touch up; sleep 998; }")
    process = subprocess.Popen([script], env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 30
    while not list(tmp_path.glob("tmp/*/up")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "made_up: stopped by a signal" in told
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_of(str(tmp_path)) == []
