# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what control.py measured: FILE.json becomes FILE.svg and FILE.png."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.scale import figures

COLOURS = {
    figures.WITHOUT_VERIFY: "#1f77b4",
    figures.SITE: "#6baed6",
    figures.PEER: "#ff7f0e",
    figures.INSTANT: "#8c8c8c",
}
MET, MISSED = "#2ca02c", "#d62728"


def walls(axes: Any, clusters: list[dict[str, Any]]) -> None:
    """Bars of each cluster's commands; a line from the least to the most that was seen."""
    width = 0.8 / len(COLOURS)
    for place, cluster in enumerate(clusters):
        seen = figures.summary(cluster["runs"])
        for number, command in enumerate(one for one in COLOURS if one in seen):
            wall, at = seen[command], place + (number - 1) * width
            span = [[wall.median - wall.least], [wall.most - wall.median]]
            axes.bar(at, wall.median, width, yerr=span, color=COLOURS[command], capsize=2)
            axes.annotate(f"{wall.median:.1f}", (at, wall.most), ha="center", va="bottom", size=7)
    labels = [
        f"{one['nodes']} {'light' if one['light'] else 'lab'} nodes"
        + (f"\n({one['how'].partition(': ')[2]})" if one["light"] else "")
        for one in clusters
    ]
    axes.set_xticks(range(len(clusters)), labels, size=8)
    axes.set_yscale("log")
    axes.set_ylabel("seconds, median with least and most")
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    axes.legend(handles, COLOURS, fontsize=8)
    axes.set_title("Nothing changes")


def judged(axes: Any, goals: list[dict[str, Any]]) -> None:
    """Each figure as a part of what its goal allows."""
    seen = [goal for goal in reversed(goals) if goal["seen"] is not None]
    for place, goal in enumerate(seen):
        axes.barh(place, goal["seen"] / goal["most"], color=MET if goal["met"] else MISSED)
        text = f" {goal['seen']:.2f} of {goal['most']:g}"
        axes.annotate(text, (goal["seen"] / goal["most"], place), va="center", size=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(seen)), [goal["name"] for goal in seen], size=8)
    axes.set_xlabel("seen, as a part of what the goal allows")
    axes.margins(x=0.2)
    axes.set_title("Goals")


def main() -> None:
    file = Path(sys.argv[1])
    result = json.loads(file.read_text())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(16, 7), layout="constrained")
    walls(left, result["clusters"])
    judged(right, result["goals"])
    machine = result["machine"]
    figure.suptitle(
        f"Control path at {machine['commit']}, {machine['cores']} cores, {machine['ansible']}, "
        f"{machine['pyinfra']}; {machine['made']}",
        size=10,
    )
    for ending in (".svg", ".png"):
        figure.savefig(file.with_suffix(ending), dpi=120)


if __name__ == "__main__":
    main()
