# SPDX-License-Identifier: GPL-2.0-only
"""What came of checking a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What a check found to be wrong.

    Attributes:
        rule: which rule the model broke, one of examine.RULES.
        text: what happened, in one line.
        kernel: whose rules were followed.
        row: of the minimal trace, the one after which it showed, or at which the model failed.
        event: that row, as one line.
        state: what lives there, in lines.
        rows: how many the minimal trace has.
        trace: the minimal trace; beside it, with the suffix .txt, its listing.
        command: shows the same again.
    """

    rule: str
    text: str
    kernel: str
    row: int
    event: str
    state: tuple[str, ...]
    rows: int
    trace: Path | None
    command: str


@dataclass(frozen=True)
class Checked:
    """One check.

    Attributes:
        name: what it is called.
        about: what it does, in a sentence.
        note: how much of it was done, where that is not the same each time.
        finding: what was wrong; None if nothing was.
        skipped: why it was not done; "" if it was.
    """

    name: str
    about: str
    note: str = ""
    finding: Finding | None = None
    skipped: str = ""

    @property
    def result(self) -> str:
        """pass, fail or skip."""
        return "fail" if self.finding else "skip" if self.skipped else "pass"


@dataclass(frozen=True)
class Report:
    """What came of checking a model.

    Attributes:
        model: its label.
        kernels: whose rules were followed.
        checks: in the order in which they were done.
        seconds: taken by all of them.
    """

    model: str
    kernels: tuple[str, ...]
    checks: tuple[Checked, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def failed(self) -> tuple[Checked, ...]:
        return tuple(check for check in self.checks if check.finding)

    @property
    def passed(self) -> bool:
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: docs/check-model.md has the keys."""
        checks = []
        for check in self.checks:
            plain = asdict(check)
            if check.finding and check.finding.trace:
                plain["finding"]["trace"] = str(check.finding.trace)
            checks.append({"result": check.result, **plain})
        return {
            "model": self.model,
            "kernels": list(self.kernels),
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "checks": checks,
        }

    def __str__(self) -> str:
        """All that people need to know, in lines."""
        count = f"{len(self.failed)} of {len(self.checks)} checks failed"
        if self.passed:
            count = f"all {len(self.checks)} checks passed"
        lines = [f"{self.model}: {count} (rules of Linux {', '.join(self.kernels)})"]
        for check in self.failed:
            lines += ["", *explain(check)]
        return "\n".join(lines)


def explain(check: Checked) -> list[str]:
    """A check that failed, in lines."""
    finding = check.finding
    assert finding
    lines = [
        f"FAILED {check.name}: {check.about}",
        f"  {finding.rule}: {finding.text} (rules of Linux {finding.kernel})",
        f"  first at row {finding.row} of {finding.rows}: {finding.event}",
        *(f"    {line}" for line in finding.state),
    ]
    if finding.trace:
        lines.append(f"  trace: {finding.trace} (listing: {finding.trace.with_suffix('.txt')})")
    return [*lines, f"  again: {finding.command}"]
