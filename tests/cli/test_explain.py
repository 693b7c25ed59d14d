# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay explain and inspect: what they print, and how they say no."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

import rmapreplay as rr

HEAP = 0x7F0000000000


def test_prints_what_python_returns(cli, forking_trace):
    walk = ["explain", forking_trace, "--walk", "100", "--model", "anon_vma,cow"]
    told = rr.explain(forking_trace, 100, ["anon_vma", "cow"])
    for arguments, expected in (
        ([], told.text() + "\n"),
        (["--all"], told.text(everything=True) + "\n"),
        (["--format", "json"], json.dumps(told.to_dict(), indent=2) + "\n"),
        (["--format", "dot"], told.dot() + "\n"),
        (["--format", "mermaid"], told.mermaid() + "\n"),
    ):
        done = cli(*walk, *arguments)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)
    state = rr.inspect(forking_trace, 140, "cow", pid=200, addr=HEAP)
    at = ["inspect", forking_trace, "--at", "140", "-m", "cow", "--pid", "200", "--addr", hex(HEAP)]
    assert cli(*at).stdout == state.text() + "\n"
    assert json.loads(cli(*at, "--format", "json").stdout) == state.to_dict()


def test_models_with_parameters(cli, forking_trace):
    several = "anon_vma:kernel=6.18,cow:kernel=6.18"
    done = cli(
        *("explain", forking_trace, "--walk", "0", "--format", "json"),
        *("--model", several, "--model", "pte_chain"),
    )
    assert list(json.loads(done.stdout)["models"]) == [
        "anon_vma:kernel=6.18",
        "cow:kernel=6.18",
        "pte_chain",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "--walk", "9999", "-m", "cow"], "no walk 9999 under cow with --walks scan:16"),
        (["explain", "--walk", "0", "-m", "cow", "--walks", "none"], "there are none"),
        (["explain", "--walk", "-1", "-m", "cow"], "no walk -1"),
        (["explain", "--walk", "0", "-m", "nonesuch"], "no such model"),
        (["explain", "--walk", "0", "-m", "cow,cow"], "model cow is given twice"),
        (["explain", "--walk", "0", "-m", "cow", "--format", "png"], "png"),
        (["inspect", "--at", "167"], "no row 167: the trace has rows 0 to 166"),
        (["inspect", "--at", "140", "--pid", "7"], "no process 7 lives after row 140"),
        (["inspect", "--at", "140", "--addr", "here"], "'here' is not an address"),
        (["inspect", "--at", "140", "--addr", "0x1000"], "covers 0x1000 after row 140"),
    ],
)
def test_errors_are_one_line(cli, forking_trace, arguments, said):
    done = cli(arguments[0], forking_trace, *arguments[1:])
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_shows_a_tree(cli_program, forking_trace):
    control, terminal = pty.openpty()
    try:
        subprocess.run(
            [cli_program, "explain", forking_trace, "--walk", "0", "--model", "cow"],
            stdout=terminal,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
            timeout=60,
            check=True,
        )
        shown = os.read(control, 1 << 16).decode()
    finally:
        os.close(control)
        os.close(terminal)
    assert "├── " in shown
    assert "cow, rules of Linux 7.3" in shown
