# SPDX-License-Identifier: GPL-2.0-only
"""Captures made on the spot, where the machine allows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rmapreplay.traces.capture.session import CaptureOptions, requirements
from rmapreplay.traces.reader import read_trace

Run = Callable[..., subprocess.CompletedProcess[str]]


def missing(backend: str) -> str | None:
    """What this machine lacks for captures by a backend."""
    unmet = [str(one) for one in requirements(CaptureOptions(backend=backend)) if not one.met]
    return "; ".join(unmet) or None


@pytest.fixture(scope="session")
def perf() -> None:
    """Skips where perf cannot capture, and says why."""
    if reason := missing("perf"):
        pytest.skip(f"no capture here: {reason}")


@pytest.fixture
def capture(perf: None, cli_program: Path, tmp_path: Path) -> Run:
    """capture(*command, options=(), **of subprocess.run) captures into tmp_path/x.parquet."""

    def run(*command: str | Path, options: Any = (), **more: Any) -> Any:
        arguments = [cli_program, "capture", "-o", tmp_path / "x.parquet", *options, "--", *command]
        return subprocess.run(
            [str(argument) for argument in arguments],
            **{"capture_output": True, "text": True, "timeout": 120, "check": False, **more},
        )

    return run


@pytest.fixture
def capturing(perf: None, cli_program: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """capturing(*command, options=()) begins a capture into tmp_path/x.parquet and returns the
    Popen; what is left of it in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str | Path, options: Any = ()) -> subprocess.Popen[str]:
        arguments = [cli_program, "capture", "-o", tmp_path / "x.parquet", *options, "--", *command]
        # A group of its own, as on a terminal.
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def trace(tmp_path: Path) -> Callable[[], Any]:
    """trace() reads tmp_path/x.parquet."""
    return lambda: read_trace(tmp_path / "x.parquet")


@pytest.fixture
def replayed(cli: Any, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """replayed() is the summary of running tmp_path/x.parquet under anon_vma and cow, which must
    miss nothing."""

    def run() -> dict[str, Any]:
        models = ("--model", "anon_vma", "--model", "cow")
        done = cli("run", tmp_path / "x.parquet", *models, "--format", "json")
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    return run


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """compiled(source, *options) is a C program."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")

    def compile_(source: str, *options: str) -> Path:
        program = tmp_path / "program"
        command = ["gcc", "-O1", "-x", "c", "-", "-o", str(program), *options]
        subprocess.run(command, input=source, text=True, check=True)
        return program

    return compile_
