# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to choose from: every recipe and variant, for a terminal, a script and the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.muster.serving.plugins.plugin_utils.plan import cuts
from ansible_collections.muster.serving.plugins.plugin_utils.plan.dialect import dialect_of
from ansible_collections.muster.serving.plugins.plugin_utils.plan.recipes import RecipeBook

THROUGHPUT = "output_tok_per_s"


def entries(book: RecipeBook) -> list[dict[str, Any]]:
    """Return an entry for each variant of each recipe, in the order of their names.

    Raises:
        PlanError: A recipe is wrong.
    """
    return [
        _entry(book.load(name, variant)) for name in book.names() for variant in book.variants(name)
    ]


def rows(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return entries as a table, its heading first."""
    head = "recipe", "variant", "platform", "nodes", "devices", "context", "published", "evidence"
    table: list[tuple[str, ...]] = [head]
    for entry in found:
        best = entry["reference"]
        table.append(
            (
                entry["recipe"],
                entry["variant"],
                entry["platform"],
                str(entry["nodes"]),
                str(entry["devices"]),
                str(entry["context"]),
                f"{best['results'][THROUGHPUT]:g} tok/s, {best['scenario']}" if best else "-",
                entry["evidence"]["level"],
            )
        )
    return table


def reference(book: RecipeBook) -> str:
    """Return the recipe reference of the docs, in Markdown."""
    found = entries(book)
    head, *table = rows(found)
    lines = [_cells(head), _cells(["---"] * len(head))]
    seen = ""
    for entry, row in zip(found, table, strict=True):
        link = f"[{entry['recipe']}](#{_anchor(entry['recipe'])})"
        lines.append(_cells([link if entry["recipe"] != seen else "", *row[1:]]))
        seen = entry["recipe"]
    names = dict.fromkeys(entry["recipe"] for entry in found)
    loaded = [[book.load(name, variant) for variant in book.variants(name)] for name in names]
    for variants in loaded:
        lines += ["", *_section(variants)]
    return "\n".join([*lines, "", *_advice(loaded)]) + "\n"


def _entry(recipe: Mapping[str, Any]) -> dict[str, Any]:
    sizes = recipe["parallelism"]
    dialect = dialect_of(recipe)
    best = max(
        (figure for figure in recipe.get("figures", []) if THROUGHPUT in figure["results"]),
        key=lambda figure: figure["results"][THROUGHPUT],
        default=None,
    )
    devices = sizes["tensor"] * sizes["data"] * sizes.get("prefill_context", 1)
    return {
        "recipe": recipe["name"],
        "variant": recipe["variant"],
        "summary": recipe["summary"],
        "engine": f"{recipe['engine']['name']} {recipe['engine']['version']}",
        "platform": recipe["platform"]["title"],
        "nodes": recipe["nodes"],
        "devices": devices,
        "context": recipe["args"].get(dialect.context, recipe["model"]["max_context"]),
        "reference": best,
        "evidence": recipe["evidence"],
    }


def _section(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one recipe's part of the reference."""
    recipe = variants[0]
    engine, model = recipe["engine"], recipe["model"]
    sources = [
        f"{hub} `{source['id']}` ({source['revision']})"
        for hub, source in (
            ("ModelScope", model["sources"].get("modelscope")),
            ("Hugging Face", model["sources"].get("huggingface")),
        )
        if source
    ]
    lines = [
        f"## {recipe['name']}",
        "",
        f"{recipe['summary']}.",
        "",
        "| | |",
        "| --- | --- |",
        _cells(
            ["engine", f"{engine['name']} {engine['version']}, holds for {engine['holds_for']}"]
        ),
        _cells(["installs", ", ".join(engine["installs"])]),
        _cells(["image", f"`{engine['image'].replace('{version}', engine['version'])}`"]),
        _cells(["weights", f"{model['id']}, {model['size_gb']:g} GiB: {'; '.join(sources)}"]),
        _cells(["licence", model["licence"]]),
        _cells(["served as", f"`{recipe['served_model_name']}`"]),
        _cells(["asked by verify", ", ".join(recipe["features"])]),
        "",
        _cells(["variant", "tensor x data", "flags of its own"]),
        _cells(["---"] * 3),
    ]
    common = {
        name: value
        for name, value in recipe["args"].items()
        if all(one["args"].get(name) == value for one in variants)
    }
    for one in variants:
        sizes = one["parallelism"]
        shape = f"{sizes['tensor']} x {sizes['data']}"
        if sizes.get("prefill_context", 1) > 1:
            shape += f" x {sizes['prefill_context']} (prefill context)"
        own = [f"`{name}: {value}`" for name, value in one["args"].items() if name not in common]
        lines.append(_cells([one["variant"], shape, ", ".join(own)]))
    lines.append("")
    lines += [
        f"- Changes `{patch['path']}` of the image: {patch['reason']}."
        for patch in engine.get("patches", [])
    ]
    lines += [f"- {_line(warning)}" for warning in recipe.get("warnings", [])]
    lines += [
        f"- Left out on purpose, {what}: {reason}."
        for what, reason in recipe.get("omitted", {}).items()
    ]
    evidence = recipe["evidence"]
    lines.append(f"- Evidence: {evidence['level']}. {_line(evidence.get('note', ''))}".rstrip())
    figures = {
        (figure["scenario"], figure["source"]): figure
        for one in variants
        for figure in one.get("figures", [])
    }
    if figures:
        lines += ["", _cells(["published figures", "results", "source"]), _cells(["---"] * 3)]
        for figure in figures.values():
            results = ", ".join(f"{name} {value:g}" for name, value in figure["results"].items())
            name = f" (`{figure['run']['name']}`)" if "run" in figure else ""
            source = figure["source"]
            if "accuracy" in figure:
                asked = figure["accuracy"]
                source += f"; asked by {asked['harness']} ({asked['form']})"
            if "orientation" in figure:
                source += f"; for orientation: {figure['orientation']}"
            lines.append(_cells([figure["scenario"] + name, results or "-", source]))
    return lines


def _advice(loaded: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return what recipes advise, each advice once."""
    platforms: dict[tuple[str, str, str], dict[str, None]] = {}
    for recipe in (one for variants in loaded for one in variants):
        told = [
            (item["level"], item["reason"], item["remedy"]) for item in recipe.get("advice", [])
        ]
        dialect = dialect_of(recipe)
        alone = {"data": 1, "prefill_context": 1}
        ways = (cuts.spread({}, {**alone, "tensor": tensor}, dialect) for tensor in (2, 4, 8, 16))
        miscuts = (cuts.miscut(recipe["model"], way, dialect) for way in ways)
        told += [("error", *miscut) for miscut in miscuts if miscut][:1]
        for key in told:
            platforms.setdefault(key, {})[recipe["platform"]["name"]] = None
    return [
        "## What the plan refuses or warns of",
        "",
        _cells(["", "reason", "remedy", "platforms"]),
        _cells(["---"] * 4),
        *(_cells([*key, ", ".join(names)]) for key, names in platforms.items()),
    ]


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(text: str) -> str:
    return " ".join(text.split())


def _anchor(name: str) -> str:
    """Return the anchor that Markdown renderers make of a heading."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter in "-_")
