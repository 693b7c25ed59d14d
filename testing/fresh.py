# SPDX-License-Identifier: GPL-2.0-only
"""`python -m rmapreplay.testing.fresh MODEL KERNEL`: digests of the results of every scenario, as a
process of its own gets them. Nothing that differs between processes may show in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.examine import How, digest_of
from rmapreplay.testing.rows import RowsTrace
from rmapreplay.testing.scenarios import conformance_cases
from rmapreplay.traces.errors import RmapReplayError


def digests(spec: ModelSpec, kernel: str) -> dict[str, str]:
    """By name of the scenario."""
    how = How(kinds=("all",), verify=False)
    return {
        case.name: digest_of(spec, RowsTrace(*case.rows(kernel)), how)
        for case in conformance_cases()
        if kernel in case.kernels
    }


def ask(label: str, kernel: str, hash_seed: int) -> dict[str, str] | None:
    """The digests from a new process, where strings hash otherwise. None if the model cannot be
    had there, or brings the process down."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, label, kernel],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        return None
    found: dict[str, str] = json.loads(done.stdout)
    return found


def main(label: str, kernel: str) -> int:
    try:
        spec = ModelSpec.parse(label)
    except RmapReplayError:
        return 2
    print(json.dumps(digests(spec, kernel)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
