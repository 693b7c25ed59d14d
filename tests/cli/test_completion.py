# SPDX-License-Identifier: GPL-2.0-only
"""What the shells are told on TAB: by the variables that their scripts set, and in a bash that has
the script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SUBCOMMANDS = {"run", "compare", "batch", "explain", "inspect", "scenario", "capture", "check"}


@pytest.fixture
def complete(cli, folder):
    """complete(words, shell): what is offered for the last of the words."""

    def ask(*words, shell="bash"):
        if shell == "bash":
            asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        else:
            asked = {
                "_TYPER_COMPLETE_ARGS": " ".join(words),
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            }
        done = cli(env={"_RMAPREPLAY_COMPLETE": f"complete_{shell}", **asked}, cwd=folder)
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]

    return ask


@pytest.fixture
def folder(tmp_path):
    """A folder with what may be named on a command line."""
    for name in ("one.parquet", "one.truth.parquet", "two.scn", "notes.txt", "mine.py", "my.toml"):
        (tmp_path / name).touch()
    for name in ("old/deep", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "old" / "deep" / "three.parquet").touch()
    return tmp_path


def test_subcommands(complete):
    assert set(complete("rmapreplay", "")) >= SUBCOMMANDS
    assert complete("rmapreplay", "comp") == ["compare"]
    assert complete("rmapreplay", "scenario", "") == ["list", "show", "export"]


def test_options(complete):
    offered = complete("rmapreplay", "run", "--w")
    assert offered == ["--walks"]
    assert {"--models", "--by", "--shrink"} <= set(complete("rmapreplay", "compare", "--"))


def test_models(complete):
    offered = complete("rmapreplay", "run", "x", "--model", "anon")
    assert offered == ["anon_vma", "anonmm", "anon_vma_global", "anon_vma_lazy"]
    assert complete("rmapreplay", "check-model", "cow-") == ["cow-poc"]
    assert "mine.py" in complete("rmapreplay", "run", "x", "--model", "mi")


def test_models_after_a_comma(complete):
    offered = complete("rmapreplay", "compare", "x", "--models", "anon_vma,co")
    assert offered == ["anon_vma,cow", "anon_vma,cow-poc"]


@pytest.mark.parametrize("command", ["run", "batch", "explain", "info"])
def test_traces(complete, command):
    assert complete("rmapreplay", command, "") == ["empty/", "old/", "one.parquet", "two.scn"]


def test_a_directory_alone_is_gone_into(complete):
    assert complete("rmapreplay", "run", "ol") == ["old/deep/three.parquet"]


def test_nothing_there(complete):
    assert complete("rmapreplay", "run", "none/such") == []
    assert complete("rmapreplay", "run", "emp") == []


def test_walk_policies(complete):
    kinds = {each.partition(":")[0] for each in complete("rmapreplay", "run", "x", "--walks", "")}
    assert kinds == {"scan", "every", "sample", "reclaim", "end", "none"}


def test_every_offered_policy_is_one():
    from rmapreplay.cli.completion import walk_policies
    from rmapreplay.replay.engine import check_walks

    for policy, _ in walk_policies(""):
        assert check_walks(policy) == policy


def test_cost_models_and_scenarios(complete):
    assert complete("rmapreplay", "run", "x", "--cost-model", "") == [
        *("warm", "cold", "empty/", "my.toml", "old/"),
    ]
    offered = complete("rmapreplay", "scenario", "show", "question_")
    assert offered == [f"question_{each}" for each in "abcde"]


def test_zsh_and_fish(complete):
    zsh = complete("rmapreplay", "run", "x", "--model", "cow", shell="zsh")
    assert zsh[0] == '_arguments \'*: :(("cow"'
    fish = complete("rmapreplay", "run", "x", "--model", "cow", shell="fish")
    assert fish == ["cow", "cow-poc"]
    assert [each.split("\t")[0] for each in complete("rmapreplay", "inf", shell="fish")] == ["info"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(cli, shell):
    done = cli(
        "--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_RMAPREPLAY_COMPLETE=complete_{shell}" in done.stdout


def test_in_bash(cli, cli_program, folder):
    """As bash itself calls it, at the end of `rmapreplay run --model cow- `."""
    script = cli(
        "--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ).stdout
    asked = f"""{script}
        COMP_WORDS=(rmapreplay run one.parquet --model cow-) COMP_CWORD=4
        _rmapreplay_completion {cli_program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p rmapreplay
    """
    bash = shutil.which("bash")
    assert bash, "bash is no longer there"
    done = subprocess.run(
        [bash, "--norc", "-c", asked], capture_output=True, text=True, cwd=folder, check=True
    )
    offered, registered = done.stdout.splitlines()
    assert offered == "cow-poc"
    assert registered.endswith("-F _rmapreplay_completion rmapreplay")


def test_install(cli, tmp_path):
    """It writes to the home directory, nowhere else, and what it writes is the script."""
    done = cli(
        "--install-completion",
        "bash",
        env={"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert done.returncode == 0
    (written,) = (tmp_path / ".bash_completions").iterdir()
    assert "_RMAPREPLAY_COMPLETE=complete_bash" in Path(written).read_text()
    assert str(written) in (tmp_path / ".bashrc").read_text()
