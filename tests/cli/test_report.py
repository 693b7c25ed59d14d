# SPDX-License-Identifier: GPL-2.0-only
"""`rmapreplay report`: one page that says what the results say, and needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr

MODELS = ["anon_vma", "cow", "cow-poc"]
TRACES = ["bash", "forky", "merge"]
LIMIT = 5_000_000  # bytes, of the whole corpus under seven models


class Page(HTMLParser):
    """What a parser sees: elements by tag, ids, and the cells of the matrices."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.void = {"meta", "link", "br", "input", "img"}
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "action", "data"):
                self.addresses.append(value or "")
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundled traces under three models, one of which misses mappings."""
    corpus = Path(__file__).parents[2] / "traces" / "corpus"
    out = tmp_path_factory.mktemp("report") / "batch"
    rr.batch([corpus / f"{name}.parquet" for name in TRACES], MODELS, out=out, walks="scan:2")
    return out


@pytest.fixture(scope="session")
def page(results: Path, cli: Any) -> Path:
    pytest.importorskip("altair")
    path = results.parent / "report.html"
    made = cli("report", results, "-o", path, "--cost-model", "warm", "--explain", "2")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    return path


def totals(results: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((results / "manifest.json").read_text())[
        "totals"
    ]
    return found


def test_the_page_stands_alone(page: Path) -> None:
    text = page.read_text()
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(address.startswith(("#", "data:")) for address in parsed.addresses)
    assert not re.findall(r"https?://(?!www\.w3\.org/)[^\s<]*|@import|\burl\((?!#)", text)
    # Overview, a distribution and two of memory for each trace, four of operations.
    charts = re.findall(r'<svg [^>]*role="img"[^>]*><title [^>]*>([^<]+)</title>', text)
    assert len(charts) == 3 + 3 * len(TRACES) + 4
    assert len(text) < LIMIT / 5


def test_numbers_are_those_of_the_summary(page: Path, results: Path) -> None:
    matrices = dict(re.findall(r'id="matrix-([\w-]+)">(.*?)</table>', page.read_text(), re.S))
    summary = rr.read_batch(results).summary.collect()

    def cells(key: str, row: str) -> list[float]:
        found = re.search(rf"<th scope=\"row\"[^>]*>{row}</th>(.*?)</tr>", matrices[key], re.S)
        assert found
        return [float(value) for value in re.findall(r'data-value="([^"]*)"', found[1])]

    def stat(trace: str, model: str, name: str) -> float:
        row = summary.filter(
            pl.col("trace").cast(pl.String) == trace,
            pl.col("model").cast(pl.String) == model,
            pl.col("group").cast(pl.String) == "walks",
            pl.col("name").cast(pl.String) == name,
        )
        return float(row["value"].item())

    for trace in TRACES:
        for key, of, over in (("visits", "visits", "walks"), ("useless", "useless", "visits")):
            wanted = [stat(trace, m, of) / stat(trace, m, over) for m in MODELS]
            assert cells(key, trace) == pytest.approx(wanted, rel=1e-12)
    total = totals(results)
    assert cells("visits", "all 3 traces") == pytest.approx(
        [total[m]["visits"] / total[m]["walks"] for m in MODELS], rel=1e-12
    )
    assert cells("bytes", "all 3 traces") == [total[m]["bytes_at_peak"] for m in MODELS]
    assert cells("misses", "all 3 traces") == [total[m]["misses"] for m in MODELS]


def test_misses_are_told_first_and_in_full(page: Path, results: Path) -> None:
    text, missed = page.read_text(), totals(results)["cow-poc"]["misses"]
    assert missed > 0
    assert f"missed {missed:,.0f} mappings" in text[: text.index('id="matrix"')]
    wrong = text[text.index('id="wrong"') : text.index('id="methods"')]
    table = re.search(r"<h3>Misses.*?</table>", wrong, re.S)
    assert table
    told = re.findall(r"<code>cow-poc</code></td><td>([\d,]+)</td>", table[0])
    assert sum(int(n.replace(",", "")) for n in told) == missed


def test_a_worst_walk_is_what_explain_tells(page: Path, results: Path, cli: Any) -> None:
    worst = rr.report(results).worst.all()
    assert [each.excess for each in worst] == sorted((w.excess for w in worst), reverse=True)
    walks = rr.read_batch(results).walks.with_columns(pl.col("trace", "model").cast(pl.String))
    first = worst[0]
    of_walk = walks.filter(trace=first.trace.name, walk=first.walk).collect()
    by_model = dict(of_walk.select("model", "visits").iter_rows())
    assert by_model[first.model] == first.visits
    assert by_model[first.other] == first.other_visits
    whole = walks.filter(pl.col("trace") == first.trace.name).group_by("walk")
    spread = whole.agg(excess=pl.col("visits").filter(pl.col("misses") == 0))
    found = spread.select(
        (pl.col("excess").list.max().cast(pl.Int64) - pl.col("excess").list.min()).max()
    ).collect()
    assert found.item() <= max(w.excess for w in worst if w.trace.name == first.trace.name)
    command = first.command("scan:2")
    assert command in page.read_text().replace("&#39;", "'")
    told = cli(*command.split()[1:])
    assert told.returncode == 0
    assert f"#{first.visits - 1}" in told.stdout
    assert page.read_text().count("<pre tabindex") == 2


def test_failures_are_kept(tmp_path: Path, cli: Any, results: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bundled = Path(__file__).parents[2] / "traces" / "corpus"
    shutil.copy(bundled / "merge.parquet", corpus)
    (corpus / "broken.parquet").write_text("no parquet")
    rr.batch(corpus, "anon_vma,cow", out=tmp_path / "out", walks="end")
    made = cli("report", tmp_path / "out", "--format", "md")
    assert made.returncode == 0
    assert "**Failed.** 2 of 4 replays, on 1 trace" in made.stdout
    assert "- broken, `anon_vma`: " in made.stdout
    (corpus / "merge.parquet").unlink()
    rr.batch(corpus, "anon_vma,cow", out=tmp_path / "none", walks="end")
    made = cli("report", tmp_path / "none", "--format", "md")
    assert made.returncode == 2
    assert "nothing to report: all of its replays failed" in made.stderr
    html = rr.report(tmp_path / "out").html(explained=0)
    assert html.count('<th scope="row">broken</th><td class="t"><code>') == 2


def test_markdown_fits_a_mail(results: Path, cli: Any, tmp_path: Path) -> None:
    made = cli("report", results, "--format", "md", "--reference", "cow")
    assert made.returncode == 0
    lines = made.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "compared with `cow`" in lines[2]
    total = totals(results)
    row = next(line for line in lines if line.startswith("| Visits per walk"))
    shown = [float(cell.split()[0]) for cell in row.split("|")[2:5]]
    assert shown == [round(total[m]["visits"] / total[m]["walks"], 2) for m in MODELS]
    path = tmp_path / "mail.md"
    assert cli("report", results, "-o", path, "--reference", "cow").returncode == 0
    assert path.read_text() == made.stdout


def test_a_run_is_reported_too(tmp_path: Path, cli: Any) -> None:
    trace = Path(__file__).parents[2] / "traces" / "corpus" / "forky.parquet"
    out = tmp_path / "run"
    ran = cli("run", trace, "-m", "anon_vma", "-m", "cow", "--out", out, "--format", "json")
    assert ran.returncode == 0
    made = rr.report(out)
    models = json.loads(ran.stdout)["models"]
    for model, cell in made.matrices[0].totals().items():
        assert cell.value == pytest.approx(models[model]["walk"]["visits"]["mean"])
    assert "<h1>" in made.html(explained=1)
    frames = tmp_path / "frames"
    ran = cli("run", trace, "-m", "cow", "-m", "anon_vma", "--backend", "frames", "--out", frames)
    assert ran.returncode == 0
    assert "Visits per walk" in rr.report(frames, cost_model="cold").html(explained=0)
    one = tmp_path / "one"
    assert cli("run", trace, "-m", "cow", "--out", one).returncode == 0
    alone = rr.report(one)
    assert alone.worst.all()[0].other is None
    assert "hits are" in alone.markdown()


def test_bad_input_is_one_line(tmp_path: Path, cli: Any, results: Path) -> None:
    def error(*arguments: Any) -> str:
        made = cli("report", *arguments)
        assert (made.returncode, made.stdout) == (2, "")
        assert made.stderr.count("\n") == 1
        return str(made.stderr)

    page = tmp_path / "page.html"
    assert "there is no such directory" in error(tmp_path / "none", "-o", page)
    assert "neither a manifest.json" in error(tmp_path, "-o", page)
    assert "say which, -o report.html" in error(results)
    assert "has no results of anonmm" in error(results, "-o", page, "--reference", "anonmm")
    assert "cost model hot" in error(results, "-o", page, "--cost-model", "hot")
    (tmp_path / "manifest.json").write_text('{"failed": [], "tasks": []}')
    assert "damaged: lacks 'summary'" in error(tmp_path, "-o", page)
    page.write_text("mine")
    assert "exists (--force replaces it)" in error(results, "-o", page)
    assert page.read_text() == "mine"


def test_what_draws_is_an_extra(monkeypatch: pytest.MonkeyPatch, results: Path) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "rmapreplay.analysis.report.charts", raising=False)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(rr.RmapReplayError, match=r"pip install 'rmapreplay\[report\]'"):
        rr.report(results).html()
    assert rr.report(results).markdown()


@pytest.fixture(scope="session")
def browser_page(page: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The page in a browser, with what went to its console and what it asked the network for."""
    driver = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium here (Debian: chromium)")
    told: list[str] = []
    asked: list[str] = []
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        yield tab, told, asked
        browser.close()


def test_in_a_browser(browser_page: tuple[Any, list[str], list[str]], page: Path) -> None:
    tab, told, asked = browser_page
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    drawn = tab.eval_on_selector_all(
        "#visits figure svg", "all => all.map(e => e.getBoundingClientRect().width)"
    )
    assert len(drawn) == len(TRACES)
    assert min(drawn) > 250
    # The findings and the head of the matrix are on the first screen.
    assert tab.locator("#matrix-visits .total").bounding_box()["y"] < 900

    column = "[...document.querySelectorAll('#matrix-visits tbody tr')].map(r => r.cells[2])"
    values = f"() => {column}.map(cell => Number(cell.dataset.value))"
    before = tab.evaluate(values)
    head = tab.locator("#matrix-visits thead th").nth(2)
    head.locator("button").click()
    assert tab.evaluate(values) == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate(values) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"

    assert not tab.locator("#matrix-bytes").is_visible()
    tab.locator("button", has_text="Bytes at peak").focus()
    tab.keyboard.press("Space")
    assert tab.locator("#matrix-bytes").is_visible()
    assert not tab.locator("#matrix-visits").is_visible()
    tab.locator("select").select_option("merge")
    assert tab.locator("#time h3:visible").inner_text().startswith("merge")


def test_on_a_phone_in_print_and_without_scripts(
    browser_page: tuple[Any, list[str], list[str]], page: Path
) -> None:
    tab, told, _ = browser_page
    tab.set_viewport_size({"width": 400, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    tab.emulate_media(media="print")
    assert tab.locator("#time .panel:visible").count() == len(TRACES)
    tab.emulate_media(media="screen", color_scheme="dark")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 64
    plain = tab.context.browser.new_context(java_script_enabled=False)
    bare = plain.new_page()
    bare.goto(page.as_uri())
    assert bare.locator("#matrix .panel:visible").count() >= 9
    assert bare.locator("details[open]").count() == bare.locator("details").count() > 0
    plain.close()
    assert told == []
