"""Draw what `bench.py --json` wrote: plot.py RESULTS.json PICTURE.png. Needs matplotlib."""

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

PANELS = (
    ("PSS per pod@", "MiB", 1 / (1 << 20), "proportional memory per idle pod"),
    ("private per pod@", "MiB", 1 / (1 << 20), "private memory per idle pod"),
    ("burst of ", "s", 1.0, "N pods at once, start to delete"),
    ("ctr run of ", "s", 1.0, "N times ctr run at once, by containerd"),
    ("private after execs@", "MiB", 1 / (1 << 20), "private memory of a pod after N execs"),
)


def main(source: str, picture: str) -> None:
    results = json.loads(Path(source).read_text())["results"]
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(5 * len(PANELS), 4.5))
    for axes, (prefix, unit, factor, title) in zip(panels, PANELS, strict=True):
        for name, rows in results.items():
            points = sorted(
                (int(row.removeprefix(prefix)), statistics.median(values) * factor)
                for row, values in rows.items()
                if row.startswith(prefix)
            )
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=title, xlabel="execs" if "exec" in prefix else "pods", ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
