# SPDX-License-Identifier: GPL-2.0-only
"""Checks a model: scenarios, random sequences, determinism, and traces that were given."""

from __future__ import annotations

import pickle
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rmapreplay.replay.specs import ModelSpec, info_of
from rmapreplay.rmap_models import ModelInfo
from rmapreplay.testing import fresh
from rmapreplay.testing.comparison import Comparison
from rmapreplay.testing.examine import Events, Examined, Flaw, How, examine, results_differ
from rmapreplay.testing.isolate import CrashError, isolated
from rmapreplay.testing.naive import Naive
from rmapreplay.testing.report import Checked, Finding, Report
from rmapreplay.testing.rows import Row, RowsTrace, line, write_rows
from rmapreplay.testing.scenarios import KERNELS, Case, conformance_cases
from rmapreplay.testing.shrink import shrink
from rmapreplay.testing.state import describe
from rmapreplay.traces.errors import ModelError, RmapReplayError
from rmapreplay.traces.reader import Trace, read_trace

T = TypeVar("T")
Progress = Callable[[Checked], None]
"""Called with each check when it is done."""

FAILURES = "check-model-failures"
SEQUENCES = 100
SECONDS = 60.0
SHRINKING = 20.0
SHORT = 2000
LONGEST = 50_000
"""Rows: up to SHORT a trace is walked and recounted after each; more than LONGEST are not cut."""
DIFFERENT = "two replays gave different results"
NEVER = 1 << 60
"""Events between two verifications, where only the one at the end is wanted."""


def check_model(
    model: object,
    *,
    kernel: str = "all",
    seeds: int = SEQUENCES,
    seconds: float = SECONDS,
    traces: Sequence[str | Path] = (),
    only: Sequence[str] = (),
    out: str | Path = FAILURES,
    randomise: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check that a model is right: docs/check-model.md says what that is.

    Args:
        model: what `rmapreplay.replay` takes: a spec, a subclass of RmapModel, a C model.
        kernel: whose rules to follow: "7.3", "6.18", "6.12" or "all".
        seeds: random sequences to try.
        seconds: to spend on them at most.
        traces: files to replay beside.
        only: names of checks, or beginnings of names; all others are left out.
        out: directory for what fails, made when it is needed.
        randomise: other random sequences each time.
        progress: called with each check when it is done.

    Raises ModelError (there is no such model), RmapReplayError (no such kernel, or no check of that
    name) or TraceFormatError.
    """
    if kernel != "all" and kernel not in KERNELS:
        raise RmapReplayError(f"kernel '{kernel}': one of {', '.join(KERNELS)}, all")
    checker = Checker(
        ModelSpec.of(model),
        kernels=KERNELS if kernel == "all" else (kernel,),
        out=Path(out),
    )
    begun = time.monotonic()
    done = []
    for _, check in checker.chosen(only, traces, seeds, seconds, randomise):
        done.append(check())
        if progress:
            progress(done[-1])
    return Report(checker.spec.label, checker.kernels, tuple(done), time.monotonic() - begun)


def check_case(
    model: object, case: Case, kernel: str = "all", *, out: str | Path = FAILURES
) -> None:
    """Check one scenario, for pytest. Raises AssertionError that says what is wrong."""
    report = check_model(model, kernel=kernel, only=[case.name], out=out)
    if not report.passed:
        raise AssertionError(str(report))


class Checker:
    """Checks of one model."""

    def __init__(self, spec: ModelSpec, kernels: tuple[str, ...], out: Path) -> None:
        self.spec = spec
        self.kernels = kernels
        self._out = out
        # C code that goes wrong takes the process with it.
        self._isolate = not isinstance(spec.source, str | type)
        needs = self._info()["needs"]
        self._index_is_address = needs["index_is_address"]
        # A model that asks for pages has them in any case.
        self._pages = (False,) if needs["pages"] else (False, True)

    def _info(self) -> ModelInfo:
        def ask() -> ModelInfo:
            return info_of(self.spec.name, self.spec.source)

        try:
            return isolated(ask, SECONDS) if self._isolate else ask()
        except CrashError as crash:
            raise ModelError(self.spec.label, f"{crash} while it was loaded") from crash

    def chosen(
        self,
        only: Sequence[str],
        traces: Sequence[str | Path],
        seeds: int,
        seconds: float,
        randomise: bool,
    ) -> list[tuple[str, Callable[[], Checked]]]:
        """The checks to be done, by name. Raises RmapReplayError if `only` names none of them."""
        every = list(self._every(traces, seeds, seconds, randomise))
        for name in only:
            if not any(each.startswith(name) for each, _ in every):
                raise RmapReplayError(f"no check is called {name}")
        return [each for each in every if not only or each[0].startswith(tuple(only))]

    def _every(
        self, traces: Sequence[str | Path], seeds: int, seconds: float, randomise: bool
    ) -> Iterator[tuple[str, Callable[[], Checked]]]:
        for case in conformance_cases():
            yield case.name, partial(self.scenario, case)
        yield "random", lambda: self.random(seeds, seconds, randomise)
        yield "determinism", self.determinism
        for path in traces:
            trace = read_trace(path)
            yield f"trace_{Path(path).stem}", partial(self.trace, trace)

    # ---- the checks ----

    def scenario(self, case: Case) -> Checked:
        """One scenario, by the rules of each kernel."""
        kernels = [kernel for kernel in self.kernels if kernel in case.kernels]
        if not kernels:
            return Checked(case.name, case.about, skipped=f"needs {' or '.join(case.kernels)}")
        for kernel in kernels:
            rows, metadata = case.rows(kernel)
            flaw = self._flaw(rows, metadata)
            if flaw is None and case.truth:
                flaw = self._guarded(partial(self._untrue, case, kernel), len(rows))
            if flaw:
                return Checked(
                    case.name, case.about, finding=self._finding(case.name, flaw, rows, metadata)
                )
        return Checked(case.name, case.about)

    def random(self, seeds: int, seconds: float, randomise: bool) -> Checked:
        """Random sequences, held against the naive truth."""
        from rmapreplay.testing.random_sequences import Searched, search

        name, about = "random", "Random calls, faults and reclaim, held against a naive truth."
        with tempfile.TemporaryDirectory() as directory:
            journal = Path(directory) / "rows" if self._isolate else None

            def go() -> Searched:
                return search(
                    self.spec,
                    self.kernels,
                    sequences=seeds,
                    seconds=seconds,
                    index_is_address=self._index_is_address,
                    randomise=randomise,
                    journal=journal,
                )

            try:
                found = isolated(go, 2 * seconds + 60) if self._isolate else go()
            except CrashError as crash:
                assert journal
                found = Searched(text=str(crash))
                found.rows, found.metadata = pickle.loads(journal.read_bytes())
        if found.metadata is None:
            short = f" of {seeds}, in {seconds:g} s" if found.sequences < seeds else ""
            return Checked(name, about, note=f"{found.sequences} sequences{short}")
        flaw = self._flaw(found.rows, found.metadata) or Flaw(
            "truth", found.text, len(found.rows) - 1, How()
        )
        return Checked(name, about, finding=self._finding(name, flaw, found.rows, found.metadata))

    def determinism(self) -> Checked:
        """The scenarios again, several times each."""
        name, about = "determinism", "Each scenario several times, in batches of several sizes."
        for case in conformance_cases():
            kernel = next((k for k in self.kernels if k in case.kernels), None)
            if kernel is None:
                continue
            rows, metadata = case.rows(kernel)
            if self._differs(rows, metadata):
                flaw = Flaw("determinism", DIFFERENT, len(rows) - 1, How())
                return Checked(name, about, finding=self._finding(name, flaw, rows, metadata))
        return self._in_fresh_processes(name, about)

    def _in_fresh_processes(self, name: str, about: str) -> Checked:
        """The same scenarios in two new processes."""
        kernel = self.kernels[0]
        one, other = (fresh.ask(self.spec.label, kernel, seed) for seed in (1, 2))
        if one is None or other is None:
            return Checked(name, about, note="in this process only")
        for case in conformance_cases():
            if one.get(case.name) != other.get(case.name):
                rows, metadata = case.rows(kernel)
                text = "two processes gave different results"
                flaw = Flaw("determinism", text, len(rows) - 1, How())
                finding = self._finding(name, flaw, rows, metadata)
                return Checked(name, about, finding=finding)
        return Checked(name, about)

    def trace(self, trace: Trace) -> Checked:
        """A trace from a file."""
        assert trace.path
        name, about = f"trace_{trace.path.stem}", f"{trace.path}, {trace.rows} rows."
        short = trace.rows <= SHORT
        how = How() if short else How("scan:16", verify="sampled")
        flaw = self._examine(trace, how).flaw
        rows: list[Row] = []
        if flaw is None and short:
            rows = _rows_of(trace, trace.rows)
            flaw = self._flaw(rows, trace.metadata)
            if flaw is None and self._differs(rows, trace.metadata):
                flaw = Flaw("determinism", DIFFERENT, len(rows) - 1, How())
        if flaw is None:
            return Checked(name, about)
        if flaw.row >= LONGEST:
            command = _run_command(trace.path, self.spec, How(how.when, flaw.how.kinds))
            return Checked(name, about, finding=Finding(
                flaw.rule, flaw.text, self.spec.kernel(trace.metadata), flaw.row, "", (),
                trace.rows, trace.path, command,
            ))  # fmt: skip
        rows = rows or _rows_of(trace, flaw.row + 1)
        return Checked(name, about, finding=self._finding(name, flaw, rows, trace.metadata))

    # ---- one trace ----

    def _guarded(self, action: Callable[[], T], row: int) -> T | Flaw:
        """What an action returns; if it crashes, that."""
        if not self._isolate:
            return action()
        try:
            return isolated(action, SECONDS)
        except CrashError as crash:
            return Flaw("crash", str(crash), row, How())

    def _examine(self, events: Events, how: How) -> Examined:
        found = self._guarded(lambda: examine(self.spec, events, how), max(0, events.rows - 1))
        return Examined(found) if isinstance(found, Flaw) else found

    def _flaw(self, rows: Sequence[Row], metadata: Mapping[str, Any]) -> Flaw | None:
        """The first that the machine finds, without and with a record for every page."""
        events = RowsTrace(rows, metadata)
        for every_page in self._pages:
            found = self._examine(events, How(every_page=every_page)).flaw
            if found:
                return found
        return None

    def _untrue(self, case: Case, kernel: str) -> Flaw | None:
        naive = Naive(index_is_address=self._index_is_address)
        comparison = Comparison([self.spec], kernel, case.teardown, naive)
        try:
            case.compare(comparison)
        except (AssertionError, ModelError) as error:
            return Flaw("truth", _brief(error), len(comparison.rows) - 1, How())
        return None

    def _differs(self, rows: Sequence[Row], metadata: Mapping[str, Any]) -> bool:
        events = RowsTrace(rows, metadata)
        how = How(kinds=("all",), verify=False)
        return self._guarded(lambda: results_differ(self.spec, events, how), 0) is True

    # ---- what is told of a flaw ----

    def _finding(
        self, name: str, flaw: Flaw, rows: Sequence[Row], metadata: Mapping[str, Any]
    ) -> Finding:
        """The trace cut down, written and explained."""
        kept = self._cut(flaw, list(rows), metadata)
        flaw = self._again(flaw, kept, metadata)
        if flaw.row < len(kept) - 1 and flaw.rule not in ("truth", "determinism"):
            kept = self._cut(flaw, kept, metadata)
            flaw = self._again(flaw, kept, metadata)
        path = write_rows(self._out / name, kept, metadata)
        state = self._guarded(lambda: describe(self.spec, kept, metadata, flaw), 0)
        return Finding(
            rule=flaw.rule,
            text=flaw.text,
            kernel=self.spec.kernel(metadata),
            row=flaw.row,
            event=line(kept[flaw.row]),
            state=() if isinstance(state, Flaw) else tuple(state),
            rows=len(kept),
            trace=path,
            command=self._command(name, path, flaw),
        )

    def _cut(self, flaw: Flaw, rows: list[Row], metadata: Mapping[str, Any]) -> list[Row]:
        """The rows without those that are not needed to see the same."""
        if flaw.rule == "truth":
            return rows[: flaw.row + 1]
        if flaw.rule == "determinism":
            # Twice, so that it is not by chance that it shows with few objects.
            if not self._differs(rows, metadata):
                return rows  # it takes two processes
            return shrink(rows, lambda few: all(
                self._differs(few, metadata) for _ in range(2)
            ), SHRINKING)  # fmt: skip
        if flaw.rule == "crash":
            rows = self._until_crash(rows, metadata, flaw.how)
        rows = rows[: flaw.row + 1]
        at_end = How("end", flaw.how.kinds, NEVER, flaw.how.every_page)
        whole = self._examine(RowsTrace(rows, metadata), at_end)

        def shows(few: list[Row]) -> bool:
            found = self._examine(RowsTrace(few, metadata), at_end)
            return bool(
                found.flaw and found.flaw.shape == flaw.shape and found.anomalies <= whole.anomalies
            )

        if not shows(rows):
            return rows
        # What is left at the end is left whoever exits last.
        keep_last = flaw.rule != "accounting"
        return shrink(rows, shows, SHRINKING, keep_last=keep_last)

    def _until_crash(self, rows: list[Row], metadata: Mapping[str, Any], how: How) -> list[Row]:
        """The rows up to the one at which a model crashes."""
        good, bad = 0, len(rows)
        while good + 1 < bad:
            middle = (good + bad) // 2
            found = self._examine(RowsTrace(rows[:middle], metadata), how).flaw
            if found and found.rule == "crash":
                bad = middle
            else:
                good = middle
        return rows[:bad]

    def _again(self, flaw: Flaw, rows: Sequence[Row], metadata: Mapping[str, Any]) -> Flaw:
        """The flaw as the cut trace shows it. Other walks than those at its end may show another
        one before."""
        if flaw.rule in ("truth", "determinism"):
            return Flaw(flaw.rule, flaw.text, len(rows) - 1, flaw.how)
        how = How(kinds=flaw.how.kinds, every_page=flaw.how.every_page)
        return self._examine(RowsTrace(rows, metadata), how).flaw or flaw

    def _command(self, name: str, trace: Path, flaw: Flaw) -> str:
        if flaw.rule in ("miss", "error", "invariant", "crash") and not flaw.how.every_page:
            return _run_command(trace, self.spec, flaw.how)
        model = shlex.quote(self.spec.label)
        if flaw.rule == "truth" or (flaw.rule == "determinism" and flaw.text != DIFFERENT):
            return f"rmapreplay check-model {model} --only {name}"
        return f"rmapreplay check-model {model} --only trace --trace {shlex.quote(str(trace))}"


def _brief(error: Exception) -> str:
    """The first two lines of what may be many."""
    return " ".join(" ".join(str(error).splitlines()[:2]).split())


def _run_command(trace: Path, spec: ModelSpec, how: How) -> str:
    words = ["rmapreplay", "run", str(trace), "--model", spec.label]
    words += ["--walks", f"{how.when},kind={how.kinds[0]}", "--verify", "all"]
    return shlex.join(words)


def _rows_of(trace: Trace, count: int) -> list[Row]:
    rows = trace.frame().head(count).to_dicts()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]
