"""A program run once more by who found it running: the same executable, by the name that it was run by.

One that is many chooses by that name what it is, as k3s does, whose containerd is k3s itself.
"""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """`path` is an executable's, or a name on PATH; `name` is argv[0] where that is not the same."""

    path: str
    name: str = ""

    def __str__(self) -> str:
        return self.path

    def output(self, *arguments: str, timeout_s: float) -> str:
        """What it prints. Raises OSError, subprocess.SubprocessError where it fails or takes longer."""
        words = [self.name or self.path, *arguments]
        answer = subprocess.run(words, executable=self.path, capture_output=True, timeout=timeout_s, check=True)
        return answer.stdout.decode(errors="replace")
