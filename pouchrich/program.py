"""Runs a program that was found running once more: the same executable, with the same name as argv[0].

A multi-call executable chooses by that name what it does, such as k3s, whose containerd is k3s itself.
"""

import subprocess
from typing import NamedTuple

from runtime.errors import text_of


def failure(err: Exception) -> str:
    """Why a program that was run gave no output, in words and without Python's form of its command line."""
    if isinstance(err, subprocess.TimeoutExpired):
        return f"no answer within {err.timeout:g} s"
    if isinstance(err, subprocess.CalledProcessError):
        return f"exit status {err.returncode}"
    return text_of(err)


class Program(NamedTuple):
    """`path` is the path of an executable, or a name on PATH; `name` is argv[0] if it differs."""

    path: str
    name: str = ""

    def __str__(self) -> str:
        return self.path

    def output(self, *arguments: str, timeout_s: float) -> str:
        """Its output. Raises OSError, and subprocess.SubprocessError if it fails or takes longer than `timeout_s`."""
        words = [self.name or self.path, *arguments]
        answer = subprocess.run(words, executable=self.path, capture_output=True, timeout=timeout_s, check=True)
        return answer.stdout.decode(errors="replace")
