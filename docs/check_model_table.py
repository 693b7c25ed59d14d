# SPDX-License-Identifier: GPL-2.0-only
"""Writes the table of results in docs/check-model.md, from a run: checks failed of those made."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

import rmapreplay as rr
from rmapreplay.testing import Report, check_model

PAGE = Path(__file__).with_name("check-model.md")


def group(name: str) -> str:
    return name.partition("_")[0]


def cells(report: Report) -> dict[str, str]:
    made = Counter(group(check.name) for check in report.checks)
    failed = Counter(group(check.name) for check in report.failed)
    return {name: f"{failed[name]} of {made[name]}" for name in made}


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        reports = [check_model(model["name"], out=out) for model in rr.models()]
    rows = {report.model: cells(report) for report in reports}
    groups = list(dict.fromkeys(chain.from_iterable(rows.values())))
    lines = [f"| model | {' | '.join(groups)} | |", "|---" * (len(groups) + 2) + "|"]
    for report in reports:
        counts = " | ".join(rows[report.model][name] for name in groups)
        lines.append(f"| `{report.model}` | {counts} | {'passes' if report.passed else 'fails'} |")
    table = "\n".join(lines)
    text = re.sub(
        r"(<!-- table -->\n).*?(<!-- end of table -->)",
        lambda match: f"{match[1]}{table}\n{match[2]}",
        PAGE.read_text(),
        flags=re.DOTALL,
    )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
