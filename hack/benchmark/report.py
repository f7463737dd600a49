"""The results as a table of medians and ratios, and as a picture."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

Results = dict[str, dict[str, list[float]]]


def table(results: Results) -> str:
    """One line per row: each shim's median, and the ratio of ours to theirs."""
    names = [name for name in results if name != "oci"]
    alone = results.get("oci", {})
    others = [name for name in names if name.startswith("go-")]
    ours = [name for name in names if name.startswith("ours")]
    rows = list(dict.fromkeys(row for name in names for row in results[name]))
    head = [*names, *(f"{mine}/{theirs}" for mine in ours for theirs in others), *(f"{mine}/oci" for mine in ours)]
    width = max(map(len, [*rows, "StartContainer (1)"])) + 2
    lines = [f"{'median':{width}}" + "".join(f"{text:>20}" for text in head)]
    for row in rows:
        medians = {name: statistics.median(results[name][row]) for name in names if results[name].get(row)}
        cells = [_show(row, medians[name]) if name in medians else "-" for name in names]
        cells += [_ratio(medians.get(mine), medians.get(theirs)) for mine in ours for theirs in others]
        bare = statistics.median(alone[row]) if alone.get(row) else None
        cells += [_ratio(medians.get(mine), bare) for mine in ours]
        lines.append(f"{row:{width}}" + "".join(f"{text:>20}" for text in cells))
    if alone:
        lines.append(f"OCI runtime alone, create + start + delete: {_show('run', statistics.median(alone['run']))}")
    return "\n".join(lines)


def _ratio(mine: float | None, theirs: float | None) -> str:
    return f"{mine / theirs:.2f}" if mine is not None and theirs else "-"


def _show(row: str, value: float) -> str:
    if row.startswith(("PSS", "private")):
        return f"{value / (1 << 20):.2f} MiB"
    if row == "stdout B/s":
        return f"{value / 1e6:.0f} MB/s"
    if row.startswith(("stdout", "idle", "wake")):
        return f"{value:.3f}"
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1000:.2f} ms"


def plot(source: Path, picture: Path, results: Results) -> None:
    """Draw memory and burst time against the number of pods."""
    source.write_text(json.dumps({"results": results}) + "\n") if not source.exists() else None
    python = drawing_python()
    subprocess.run([python, Path(__file__).with_name("plot.py"), source, picture], check=True)


def drawing_python() -> Path:
    """A Python with matplotlib, in a separate environment beside the cache, which is made the first time."""
    home = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich") / "plot"
    python = home / "bin" / "python3"
    if not python.exists():
        subprocess.run(["/usr/bin/python3", "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "matplotlib"], check=True, stdout=sys.stderr)
    return python
