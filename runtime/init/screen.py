r"""The text at the end of a program's terminal output, as a person would read it. Pure.

A terminal shows a state, not a history: a line that is redrawn repeatedly (`\r`, cursor movements, erasures) appears
once, as it was last, and colours, titles and all other ECMA-48 sequences are dropped. A container wrote the input, so
everything is bounded, and the result is printable.
"""

import re
from collections.abc import Iterable

ROWS = 64
COLUMNS = 256
_TOKEN = re.compile(
    r"\x1b\[(?P<parameters>[0-9:;<=>?]{0,32})[ -/]{0,4}(?P<final>[@-~])"  # CSI
    r"|\x1b[\]PX^_](?P<string>[^\x07\x1b\x9c]*)(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]{0,4}(?P<escape>[0-~]?)"
    r"|(?P<control>[\x00-\x1f\x7f-\x9f])"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
)
_JOB = re.compile(r"\[[ *]{3,8}\] ")
"""systemd's animation of a job that takes long (manager_print_jobs_in_progress)."""
_COUNT = re.compile(r"\(\d{1,9} of \d{1,9}\) ")
_BAD = ("[FAILED]", "[DEPEND]", "[ TIME ]")
_HARMLESS = "Failed unmounting"
"""A failure that systemd reports at the shutdown of every container."""
_STARTING = "Starting "
_NAME = 14
_KEPT = 4


class _Screen:
    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self.row = self.column = 0
        self.jobs: dict[str, str] = {}

    def write(self, text: str) -> None:
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        line = self.rows[self.row]
        shown = shown[: COLUMNS - self.column]
        self._replace(line[: self.column].ljust(self.column) + shown + line[self.column + len(shown) :])
        self.column += len(shown)

    def _replace(self, line: str) -> None:
        """Set the line that the cursor is in, and remember a job that the old line showed."""
        before = self.rows[self.row]
        self.rows[self.row] = line
        if before != line and _JOB.match(before) and not line.startswith(before):
            self.note_job(before)

    def note_job(self, line: str) -> None:
        key = _job_name(line)
        self.jobs.pop(key, None)
        self.jobs[key] = line
        if len(self.jobs) > ROWS:
            del self.jobs[next(iter(self.jobs))]

    def control(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character in "\n\v\f\x84\x85":
            self.column = 0
            self.down()
        elif character == "\b":
            self.column = max(0, self.column - 1)
        elif character == "\t":
            self.column = min(COLUMNS, self.column // 8 * 8 + 8)

    def down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
        if self.row >= ROWS:
            self.row -= 1
            self._scroll()

    def _scroll(self) -> None:
        """Drop the oldest line, but keep the first failures: the shutdown that follows them writes many lines."""
        first = 0
        while first < _KEPT and _is_bad(self.rows[first]):
            first += 1
        del self.rows[first]

    def sequence(self, parameters: str, final: str) -> None:
        first, _, second = parameters.partition(";")
        count = _number(first)
        if final == "K":
            self._erase_line(first)
        elif final == "J":
            self._erase_display(first)
        elif final in "AF":
            self.row = max(0, self.row - max(1, count))
        elif final in "BE":
            self.row = min(len(self.rows) - 1, self.row + max(1, count))
        elif final == "C":
            self.column = min(COLUMNS, self.column + max(1, count))
        elif final == "D":
            self.column = max(0, self.column - max(1, count))
        elif final in "G`":
            self.column = min(COLUMNS, max(0, count - 1))
        elif final in "Hf":
            # The terminal no longer has lines that scrolled away; it has as many rows as are kept here.
            self.row = min(len(self.rows) - 1, max(0, count - 1))
            self.column = min(COLUMNS, max(0, _number(second) - 1))
        if final in "EF":
            self.column = 0

    def _erase_line(self, which: str) -> None:
        line = self.rows[self.row]
        kept = {"": line[: self.column], "0": line[: self.column], "1": " " * self.column + line[self.column :]}
        self._replace(kept.get(which, ""))

    def _erase_display(self, which: str) -> None:
        if which in ("", "0"):
            self._erase_line("0")
            del self.rows[self.row + 1 :]
        elif which in ("2", "3"):
            self.rows, self.row = [""], 0


def _job_name(line: str) -> str:
    """The name of the job in a line: without its counter `(1 of 3)` and its times `(5s / 1min 30s)`."""
    text = _COUNT.sub("", _JOB.sub("", line))
    head, bracket, times = text.rpartition("(")
    if bracket and "/" in times and times.find(")") == len(times) - 1:
        text = head
    return text.strip()


def _number(text: str) -> int:
    return int(text[:4]) if text.isdecimal() and text.isascii() else 0


def lines(data: bytes) -> list[str]:
    """The last lines of `data`: at most ROWS of at most COLUMNS printable characters, none of them blank.

    Jobs that were still being animated follow the lines, each as it was last shown. What is not UTF-8 or not printable
    becomes U+FFFD. A sequence that `data` cuts off is left out.
    """
    screen = _Screen()
    for token in _TOKEN.finditer(data.decode(errors="replace")):
        if (text := token["text"]) is not None:
            screen.write(text)
        elif token["control"] is not None:
            screen.control(token["control"])
        elif token["final"] is not None:
            screen.sequence(token["parameters"], token["final"])
    return _read(screen)


def _read(screen: _Screen) -> list[str]:
    found = []
    for line in screen.rows:
        if _JOB.match(line):
            screen.note_job(line)
        elif line.strip():
            found.append(line.strip())
            # A line about a unit is newer than the animation of its job.
            said = line.partition("] ")[2].partition(" ")[2].rstrip(".")
            screen.jobs = {key: job for key, job in screen.jobs.items() if not said or said not in key}
    return [*found, *(job.strip() for job in screen.jobs.values())][-ROWS:]


def end(read: Iterable[str], count: int) -> list[str]:
    """The last `count` lines; before them the first failures that systemd reported, and what it was still starting."""
    whole = list(read)
    before = whole[:-count]
    bad = [line for line in before if _is_bad(line)]
    begun = [line for line in before if line.startswith(_STARTING) and not _is_over(line, whole)]
    told = {*bad[:_KEPT], *begun[-_KEPT:]}
    return [*(line for line in dict.fromkeys(before) if line in told), *whole[-count:]]


def _is_bad(line: str) -> bool:
    return line.lstrip().startswith(_BAD) and _HARMLESS not in line


def _is_over(starting: str, read: Iterable[str]) -> bool:
    """Whether a line reports the outcome of a unit. systemd shortens long names in the middle, not always alike."""
    name = starting.removeprefix(_STARTING)[:_NAME].partition("\N{HORIZONTAL ELLIPSIS}")[0].rstrip(".")
    return any(line.startswith("[") and name in line for line in read)
