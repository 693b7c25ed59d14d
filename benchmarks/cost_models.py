# SPDX-License-Identifier: GPL-2.0-only
"""Measures the weights of the cost models warm and cold on this machine, and writes their files.

usage: cost_models.py WEIGHTS_BINARY DIRECTORY
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

SIZES = {
    "warm": (256 << 10, "All that is touched is in the core's own second-level cache."),
    "cold": (512 << 20, "All that is touched comes from memory."),
}

LOOKUP_READS = 3
"""A maple node holds 16 VMAs, or 10 nodes below it: 160 VMAs are two levels deep, 1,600 three."""

HEAD = """\
# Weights in nanoseconds for `--cost-model {name}`; docs/cost-models.md tells what they are for.
# Measured by `make cost-models` on one core of: {cpu}
# {about}
"""

WEIGHT = """
[weights.{name}]
ns = {ns:.1f}
origin = "{origin}"
"""


def weights(found: dict[str, float]) -> dict[str, tuple[float, str]]:
    """Weight by name: nanoseconds, and where they come from."""
    read = found["read"]
    lock = max(found["read_and_lock"], read)
    count = max(found["read_and_count"], read)
    chased = "lines of 64 bytes, each read to know the next"
    return {
        "step": (read, f"measured: {chased}"),
        "level": (read, "as a step: one entry of one page table"),
        "lookup": (LOOKUP_READS * read, f"derived: {LOOKUP_READS} steps down a maple tree"),
        "visit": (read + lock, "derived: the VMA is read, its page table locked"),
        "lock": (
            lock,
            f"measured: {chased}, taken by cmpxchg, given back; nobody waits",
        ),
        "refcount": (count, f"measured: {chased}, a word of it added to atomically"),
        "link": (
            found["insert_or_erase"],
            "measured: insertion into or removal from red-black interval trees of eight",
        ),
        "allocate": (
            found["allocate_or_free"],
            "measured: malloc() or free() of 64 to 192 bytes, standing in for kmem_cache_alloc()",
        ),
        "free": (found["allocate_or_free"], "as allocate"),
    }


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for name, (size, about) in SIZES.items():
        output = subprocess.run(
            [sys.argv[1], str(size)], check=True, capture_output=True, text=True
        ).stdout
        found = {key: float(ns) for key, ns in (line.split("\t") for line in output.splitlines())}
        text = HEAD.format(name=name, cpu=cpu(), about=about) + "".join(
            WEIGHT.format(name=weight, ns=ns, origin=origin)
            for weight, (ns, origin) in weights(found).items()
        )
        path = Path(sys.argv[2]) / f"{name}.toml"
        path.write_text(text)
        print(f"{path}\n{text}")


if __name__ == "__main__":
    main()
