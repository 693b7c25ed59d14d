# SPDX-License-Identifier: GPL-2.0-only
"""How models are named: by file, module, registration, entry point; and what is said if one is not
right."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import rmapreplay as rr
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.rmap_models import registry

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "templates" / "anonmm.py"
FORKY = ROOT / "traces" / "corpus" / "forky.parquet"

MINE = """\
import rmapreplay as rr


class Mine(rr.RmapModel):
    '''one home for all

    And more.
    '''

    params = (
        rr.Param("order", "up|down", "up", "which mm is first"),
        rr.Param("limit", "a number", "1000", "mms at most"),
    )

    def __init__(self, machine, kernel, order, limit):
        super().__init__(machine, kernel)
        assert kernel in ("6.12", "6.18", "7.3")
        self.down = order == "down"
        self.limit = int(limit)
        self.mms = []

    def mm_init(self, mm):
        self.mms.append(mm)

    def mm_fork_begin(self, child, parent):
        self.mms.append(child)

    def mm_exit(self, mm):
        self.mms.remove(mm)

    def home(self, vma):
        return 1

    def rmap_walk(self, walk):
        for mm in sorted(self.mms, reverse=self.down)[: self.limit]:
            for vma in self.machine.vmas(mm):
                if walk.overlaps(vma) and not walk.visit(vma):
                    return


class Abstract(rr.RmapModel):
    def home(self, vma):
        return 1


class Other:
    pass


number = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mod.py").write_text(MINE)
    return tmp_path


@pytest.fixture
def run(cli, folder):
    """Runs `rmapreplay run forky.parquet` in the folder, with these models and options."""

    def run(*models, **options):
        named = [each if each.startswith("-") else f"--model={each}" for each in models]
        return cli("run", FORKY, *named, "--walks=scan:2", cwd=folder, **options)

    return run


@pytest.mark.parametrize(
    "model", ["./mine.py:Mine", "mine.py:Mine:order=down", "pkg.mod:Mine", "mine:Mine:limit=999"]
)
def test_a_class_by_file_or_module(model, run):
    done = run(model, "anon_vma", "--format=json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["models"]
    assert list(found) == [model, "anon_vma"]
    assert found[model]["misses"] == 0
    assert found[model]["hits"] == found["anon_vma"]["hits"] > 0
    assert found[model]["visits"] > found["anon_vma"]["visits"]


def test_parameters_reach_the_model(run):
    done = run("mine.py:Mine:limit=1", "mine.py:Mine:order=down,limit=1", "--format=json")
    assert done.returncode == 1  # misses
    up, down = json.loads(done.stdout)["models"].values()
    assert up["misses"] > 0
    assert down["misses"] > 0
    assert up["first_misses"] != down["first_misses"]


def test_what_lies_beside_the_file_can_be_imported(folder, run):
    (folder / "deep").mkdir()
    (folder / "deep" / "helper.py").write_text("from pkg.mod import Mine\n")
    (folder / "deep" / "pkg").symlink_to(folder / "pkg")
    (folder / "deep" / "model.py").write_text(
        "import helper\nclass Beside(helper.Mine):\n    pass\n"
    )
    assert run("deep/model.py:Beside").returncode == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "model nothing: no such model (there are anon_vma, cow, cow-poc, "),
        ("nothing", "or say file.py:Class, package.module:Class or file.so)"),
        ("nothing:key=value", "model nothing: no such model (there are "),
        ("no.py:Mine", "model no.py:Mine: no such file: no.py"),
        ("no.so", "model no.so: no such file: no.so"),
        ("mine.py", "model mine.py: say which class, file.py:Class (models there: Mine, Abstract)"),
        ("mine.py:No", "model mine.py:No: no class No (models there: Mine, Abstract)"),
        ("mine.py:Other", "model mine.py:Other: class Other is no subclass of rmapreplay"),
        ("mine.py:number", "model mine.py:number: is int, not a subclass of rmapreplay.RmapModel"),
        ("mine.py:Abstract", "model mine.py:Abstract: class Abstract lacks rmap_walk"),
        ("mine.py:rr", "model mine.py:rr: is module, not a subclass"),
        ("pkg.mod:No", "model pkg.mod:No: no class No (models there: Mine, Abstract)"),
        ("pkg.no:Mine", "cannot be imported: ModuleNotFoundError: No module named 'pkg.no'"),
        ("raises.py:Mine", "cannot be imported: ZeroDivisionError: division by zero"),
        ("raises.py:Mine", "raises.py, line 4)"),
        ("syntax.py:Mine", "cannot be imported: SyntaxError: "),
        ("syntax.py:Mine", "(syntax.py, line 2)"),
        ("raises:Mine", "raises.py, line 4)"),
        ("mine.py:Mine:size=1", "no parameter 'size' (there are kernel, order, limit)"),
        ("mine.py:Mine:order", "parameter 'order' is not of the form key=value"),
        ("mine.py:Mine:order=left", "order=left: must be one of up, down"),
        ("mine.py:Mine:order=up,order=up", "parameter 'order' is given twice"),
        ("mine.py:Mine:kernel=5.4", "kernel=5.4: must be one of 6.12, 6.18, 7.3, auto"),
        ("mine.py:Mine:limit=few", "__init__(): ValueError: invalid literal for int()"),
        ("mine.py:Mine:limit=few", "mine.py, line 19)"),
        ("cow:size=1", "model cow: no parameter 'size' (there are "),
    ],
)  # fmt: skip
def test_each_error_is_one_line(model, message, folder, monkeypatch):
    (folder / "raises.py").write_text("import rmapreplay as rr\n\n\nrate = 1 / 0\n")
    (folder / "syntax.py").write_text("import rmapreplay as rr\nclass Mine(\n")
    monkeypatch.chdir(folder)
    path, modules = [*sys.path], {*sys.modules}
    try:
        with pytest.raises(rr.ModelError) as caught:
            rr.replay(FORKY, model, walks="none")
    finally:
        for name in {*sys.modules} - modules:
            del sys.modules[name]
    assert str(caught.value).startswith("model ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == path


def test_the_command_line_says_it_in_one_line(run):
    done = run("anon_vma", "mine.py:Other")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rmapreplay: error: model mine.py:Other: class Other is no subclass of "
        "rmapreplay.RmapModel\n"
    )


def test_a_failure_in_a_run_names_model_callback_and_row(folder, run):
    (folder / "bad.py").write_text(
        "import mine\nclass Bad(mine.Mine):\n    def mm_exit(self, mm):\n        1 / 0\n"
    )
    done = run("bad.py:Bad", "anon_vma")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "rmapreplay: error: model bad.py:Bad, event 533: mm_exit(): ZeroDivisionError: "
    )
    assert done.stderr.endswith("bad.py, line 4)\n")


# ---- registered ----


@pytest.fixture
def forget():
    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)


def own_model(doc):
    space: dict[str, type[rr.RmapModel]] = {}
    exec(MINE, space)
    return type("Own", (space["Mine"],), {"__doc__": doc})


@pytest.mark.usefixtures("forget")
def test_a_registered_model():
    rr.register("own", own_model("first"))
    rr.register("own", own_model("second"))
    result = rr.replay(FORKY, ["own", "own:order=down"], walks="scan:1")
    assert list(result.summary["models"]) == ["own", "own:order=down"]
    described = next(model for model in rr.models() if model["name"] == "own")
    assert described["doc"] == "second"
    assert [param["name"] for param in described["params"]] == ["kernel", "order", "limit"]
    assert described["objects"] == {"vm_area_struct": 192}


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("cow", own_model(""), "model cow: cannot be registered: a built-in model has that name"),
        ("a:b", own_model(""), "'a:b': cannot be registered: no name for a model"),
        ("a.py", own_model(""), "no name for a model"),
        ("", own_model(""), "no name for a model"),
        ("own", 7, "model own: is int, not a subclass of rmapreplay.RmapModel"),
        ("own", rr.RmapModel, "class RmapModel is no subclass"),
        ("own", dict, "class dict is no subclass"),
    ],
)
def test_what_cannot_be_registered(name, model, message):
    with pytest.raises(rr.ModelError, match=message):
        rr.register(name, model)
    assert name not in registry._registered


def test_a_class_itself():
    model = own_model("itself")
    result = rr.replay(FORKY, ["anon_vma", model], walks="none")
    assert list(result.summary["models"]) == ["anon_vma", "Own"]
    assert ModelSpec.of(model) == ModelSpec("Own", "Own", {}, model)
    with pytest.raises(rr.ModelError, match="class Other is no subclass"):
        rr.replay(FORKY, type("Other", (), {}))
    with pytest.raises(rr.RmapReplayError, match="model Own is given twice"):
        rr.replay(FORKY, [model, model])


# ---- entry points ----


def install(folder: Path, name: str, **models: str) -> None:
    """Puts a package into the folder, as pip does, which offers these models."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{model} = {value}\n" for model, value in models.items()]
    (info / "entry_points.txt").write_text("[rmapreplay.models]\n" + "".join(lines))


def test_a_model_of_an_installed_package(cli, folder, run, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    shutil.copy(folder / "mine.py", site / "plug.py")
    install(site, "plugged", plugged="plug:Mine")
    env = {"PYTHONPATH": str(site)}
    done = run("plugged", "plugged:order=down", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(cli("models", "--format=json", env=env).stdout)
    assert listed[-1]["name"] == "plugged"
    assert listed[-1]["doc"] == "one home for all"
    assert "plugged: one home for all" in cli("models", env=env).stdout
    assert "plugged" in run("nothing", env=env).stderr
    assert run("plugged").returncode == 2


def test_broken_and_clashing_packages_are_told_and_passed_over(cli, folder, run, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    shutil.copy(folder / "mine.py", site / "plug.py")
    (site / "broken.py").write_text("import no_such_module\n")
    install(site, "bad", bad="broken:Mine", other="plug:Other", gone="plug:Gone")
    install(site, "first", good="plug:Mine", cow="plug:Mine")
    install(site, "second", good="plug:Mine")
    env = {"PYTHONPATH": str(site)}
    done = cli("models", "--format=json", env=env)
    assert done.returncode == 0
    names = [model["name"] for model in json.loads(done.stdout)]
    assert names == [*registry.builtin_names(), "good"]
    said = done.stderr.splitlines()
    assert all(line.startswith("rmapreplay: ") for line in said)
    assert len(said) == 5
    told = {
        "passed over: model bad: package bad offers it, but broken:Mine: ModuleNotFoundError: No "
        "module named 'no_such_module'",
        "passed over: model other: class Other is no subclass of rmapreplay.RmapModel",
        "passed over: model gone: package bad offers it, but plug:Gone: AttributeError",
        "model cow of package first is passed over: a built-in model has that name",
        "is passed over: package",  # of two of that name, one
    }
    for line in told:
        assert any(line in each for each in said), line

    asked = run("bad", env=env)
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert "error: model bad: package bad offers it, but broken:Mine" in asked.stderr
    clash = run("cow", env=env)
    assert clash.returncode == 0
    assert clash.stderr.count("\n") == 1
    assert "model cow of package first is passed over" in clash.stderr


# ---- new-model ----


def test_new_model_makes_one_that_runs(cli, folder, run):
    done = cli("new-model", "first.py", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "rmapreplay run TRACE --model first.py:AnonMmModel --model anonmm\n"
    assert (folder / "first.py").read_bytes() == TEMPLATE.read_bytes()
    assert len(TEMPLATE.read_text().splitlines()) < 100
    ours, native = json.loads(
        run("first.py:AnonMmModel", "anonmm", "--verify", "--format=json").stdout
    )["models"].values()
    assert ours["visits"] == native["visits"] > 0
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine.py"], "mine.py exists; new-model overwrites nothing"),
        (["no/new.py"], "no is no directory to write new.py to"),
        (["new"], "new: a model in Python is a file.py"),
        (["--lang=c", "new.py"], "new.py: a model in C is a folder, no file"),
        (["--lang=c", "pkg"], "pkg exists"),
    ],
)
def test_new_model_refuses(cli, folder, arguments, message):
    before = sorted(folder.rglob("*"))
    done = cli("new-model", *arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert sorted(folder.rglob("*")) == before
