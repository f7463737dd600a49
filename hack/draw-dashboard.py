#!/usr/bin/env python3
"""Draw the Grafana dashboard's panels from the answers of a Prometheus.

Usage: hack/draw-dashboard.py ANSWERS.json PICTURE.png

ANSWERS.json is what tests/integration/test_prometheus.py wrote to the file that POUCHRICH_DASHBOARD names.
docs/grafana-dashboard.png was made this way. matplotlib is in a separate environment in the cache directory, which is
made the first time; this program re-executes itself there.
"""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from benchmark import report

COLUMNS = 3
UNITS = {"s": "seconds", "bytes": "MiB", "ops": "a second"}
DASHBOARD = Path(__file__).resolve().parents[1] / "docs/grafana-dashboard.json"


def name_of(legend: str, labels: dict[str, str]) -> str:
    """Grafana's form of a legend, or the labels where there is none."""
    made = re.sub(r"{{ *(\w+) *}}", lambda found: labels.get(found[1], ""), legend)
    return made or " ".join(value for key, value in labels.items() if key not in ("__name__", "instance", "job"))


def draw(answers: Path, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    said: dict[str, Any] = json.loads(answers.read_text())
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(6 * COLUMNS, 3.4 * rows), squeeze=False)
    for panel, one in zip(panels, axes.flat, strict=False):
        unit = panel["fieldConfig"]["defaults"].get("unit", "")
        factor = 1 / (1 << 20) if unit == "bytes" else 1.0
        for target in said["answers"][panel["title"]]:
            for series in target["series"]:
                points = [(float(at) - said["began"], float(value) * factor) for at, value in series["values"]]
                one.plot(*zip(*points, strict=True), label=name_of(target["legend"], series["metric"]))
        one.set(title=panel["title"], xlabel="seconds", ylabel=UNITS.get(unit, ""))
        one.set_ylim(bottom=0)
        one.grid(alpha=0.3)
        if one.get_lines():
            one.legend(fontsize=7)
    for empty in list(axes.flat)[len(panels) :]:
        empty.set_axis_off()
    figure.tight_layout()
    figure.savefig(picture, dpi=70)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: hack/draw-dashboard.py ANSWERS.json PICTURE.png")
    if importlib.util.find_spec("matplotlib") is None:
        python = report.drawing_python()
        os.execv(python, [str(python), *sys.argv])
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
