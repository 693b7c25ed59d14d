# SPDX-License-Identifier: GPL-2.0-only
"""A batch on a dask cluster: a scheduler and its workers, each a process, on loopback."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rmapreplay as rr

from .conftest import MODELS, WALKS, children_of, contents, finished, timings, wait_until

pytest.importorskip("distributed")


class Cluster:
    """A scheduler, and workers without nannies, which nobody starts again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--port=0", f"--scheduler-file={self._file}")
        wait_until(lambda: self._file.exists() and bool(self._file.read_text()))
        self.address = json.loads(self._file.read_text())["address"]
        for number in range(2):
            self._start(
                "worker",
                f"--scheduler-file={self._file}",
                "--no-nanny",
                "--nthreads=1",
                f"--name=worker-{number}",
                f"--local-directory={folder}/{number}",
            )
        wait_until(lambda: all("Registered to" in log for log in self.worker_logs().values()))

    def worker_logs(self) -> dict[int, str]:
        """What each worker has said, by the number of its process."""
        return {
            number: (self._folder / f"{number}.log").read_text()
            for number in range(1, len(self.processes))
        }

    def worker_at(self, address: str) -> subprocess.Popen[bytes]:
        (number,) = (n for n, log in self.worker_logs().items() if f"{address}\n" in log)
        return self.processes[number]

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", f"distributed.cli.dask_{what}"),
                    *("--host=127.0.0.1", "--no-dashboard", *arguments),
                ],
                cwd=self._folder,  # where nothing of the corpus is
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    running = Cluster(folder)
    yield running
    running.close()


@pytest.fixture
def start(cluster, small, slow, cli_program) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts a batch on the cluster in the background."""
    running: list[subprocess.Popen[str]] = []

    def begin(out: Path) -> subprocess.Popen[str]:
        command = [cli_program, "batch", small, "-o", out, "-m", slow, "--walks", WALKS]
        process = subprocess.Popen(
            [*map(str, command), "--cluster", cluster.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_first_a_worker_dies_and_then_the_scheduler(cluster, start, small, slow, slowly, tmp_path):
    """Of the worker's tasks nothing is lost and nothing is there twice; without a scheduler the
    batch ends, and what is finished is kept."""
    out = tmp_path / "out"
    batch = start(out)
    wait_until(lambda: finished(out) >= 2)
    worker = cluster.worker_at(timings(out)[0]["worker"])
    wait_until(lambda: bool(children_of(worker.pid)))
    worker.kill()
    _, stderr = batch.communicate(timeout=60)
    assert (batch.returncode, stderr) == (0, "")
    assert contents(out) == contents(slowly.directory)
    lines = timings(out)
    assert sorted(line["trace"] for line in lines) == list("abcdef")
    # Both had a part, until one was gone.
    workers = [line["worker"] for line in lines]
    assert len(set(workers)) == 2
    assert len(set(workers[-2:])) == 1

    out = tmp_path / "again"
    batch = start(out)
    wait_until(lambda: finished(out) >= 1)
    cluster.processes[0].kill()
    stdout, stderr = batch.communicate(timeout=60)
    assert (batch.returncode, stdout) == (2, "")
    assert stderr == (
        "rmapreplay: error: the scheduler of the cluster was lost; what is finished is kept, and "
        "the same command goes on\n"
    )
    kept = finished(out)
    assert 1 <= kept < 6
    assert rr.batch(small, slow, out=out, walks=WALKS).reused == kept
    assert contents(out) == contents(slowly.directory)


def test_workers_of_its_own_read_by_url(reference, server, tmp_path):
    out = tmp_path / "out"
    found = rr.batch(server, MODELS, out=out, walks=WALKS, cluster="local:2")
    assert found.done == 6
    assert contents(out) == contents(reference.directory)


def test_no_scheduler(corpus, tmp_path, monkeypatch):
    module = importlib.import_module("rmapreplay.batch.cluster")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(rr.RmapReplayError, match=f"cluster {address}: cannot be reached"):
            rr.batch(corpus, "cow", out=tmp_path / "out", cluster=address)
    assert not (tmp_path / "out").exists()
