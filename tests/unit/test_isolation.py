# SPDX-License-Identifier: GPL-2.0-only
"""What a worker that is gone does to its parent."""

import subprocess
import sys

PROGRAM = """
import os, signal
from rmapreplay.replay.isolation import _broken_pipes_are_errors

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
reader, writer = os.pipe()
os.close(reader)
try:
    with _broken_pipes_are_errors():
        os.write(writer, b"job")
except BrokenPipeError:
    print("told", flush=True)
os.write(writer, b"job")
print("not reached")
"""


def test_a_broken_pipe_is_an_error_there_and_a_signal_elsewhere() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("told\n", -13)
