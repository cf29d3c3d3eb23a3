# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as HTML, from its data and its template. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jinja2
from ansible_collections.muster.serving.plugins.plugin_utils.report.charts import Bars, Lines
from ansible_collections.muster.serving.plugins.plugin_utils.report.model import moment, number
from ansible_collections.muster.serving.plugins.plugin_utils.screen.text import printable
from markupsafe import Markup

TEMPLATE = "page.html.j2"


def render(
    page: Mapping[str, Any], template: str, draw: Callable[[Lines | Bars, str], str] | None
) -> str:
    """Return the page as one HTML document.

    Args:
        page: What model.page_of returns.
        template: The text of the template.
        draw: Returns a plot as an SVG element whose ids begin with the given name; None where
            plots cannot be drawn.
    """
    count = itertools.count(1)

    def plot(chart: Lines | Bars) -> Markup:
        # What draws escapes the names in it, as XML.
        return Markup(draw(chart, f"plot{next(count)}")) if draw else Markup()  # noqa: S704

    return _compiled(template).render(page=page, plot=plot)


@cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(
        # All that is not written by the template itself is escaped.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(moment=moment, number=number)
    return environment.from_string(template)


def _shown(value: Any) -> Any:
    """Return a text without what steers a terminal or turns the direction of writing."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value)
