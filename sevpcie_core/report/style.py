"""How figures look, and how one becomes SVG.

The rule of this module: a figure is drawn under matplotlib's own defaults plus ``STYLE`` (a user's
matplotlibrc changes nothing), without pyplot or any other global state, and ``svg`` writes the same bytes for
the same figure.

Colours are from Okabe and Ito (2008), told apart with any colour vision; verdicts have a shape and a word as
well.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

from sevpcie_core.report.view import Arm

INK = "#1b1f24"
MUTED = "#5b6470"
GRID = "#dfe3e8"
BASELINE = "#8a929c"
ARM_COLOURS = {
    ("sev-pcie", "selective"): "#56b4e9",
    ("sev-pcie", "all"): "#0072b2",
    ("pcie-ide", "selective"): "#e5b3cf",
    ("pcie-ide", "all"): "#cc79a7",
    ("bounce-buffer", "selective"): "#b8860b",
    ("bounce-buffer", "all"): "#7d5a00",
}
OTHER_COLOURS = ("#2f8f83", "#8d7bd1", "#6b8e23", "#a0522d")
VERDICT_COLOURS = {"within": "#009e73", "inconclusive": "#e69f00", "over": "#d55e00"}
VERDICT_MARKS = {"within": "o", "inconclusive": "s", "over": "D"}
VERDICT_SYMBOLS = {"within": "✓", "inconclusive": "?", "over": "✗"}
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",
}

P = ParamSpec("P")


class Drawing(Figure):
    """A figure that shows itself in a notebook, without pyplot."""

    def _repr_svg_(self) -> str:
        return svg(self)


@contextmanager
def drawing_style() -> Iterator[None]:
    """Work under matplotlib's defaults and STYLE; a character without a glyph is a box, not a warning."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styled(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Make a function that draws do so under the style."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with drawing_style():
            return draw(*args, **kwargs)

    return drawn


def svg(figure: Figure, salt: str = "sevpcie") -> str:
    """Return a figure as SVG text, the same for the same figure.

    Args:
        figure: the figure.
        salt: makes the ids in the text differ from those of other figures on one page.
    """
    out = io.StringIO()
    with drawing_style(), mpl.rc_context({"svg.hashsalt": salt}):
        nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", metadata=nothing, facecolor="none")
    text = out.getvalue()
    text = re.sub(r"<!--.*?-->\n?", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    return re.sub(r' d="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return a figure as PNG, on white, without a word about when and by what it was made."""
    out = io.BytesIO()
    with drawing_style():
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    return out.getvalue()


def arm_colours(arms: Sequence[Arm]) -> dict[Arm, str]:
    """Return a colour for each protection; a known one has the same colour in every record."""
    others = iter(OTHER_COLOURS * (len(arms) // len(OTHER_COLOURS) + 1))
    return {arm: ARM_COLOURS.get((arm.scheme, arm.policy)) or next(others) for arm in arms}


def shorten(text: str, length: int) -> str:
    """Return text with at most ``length`` characters; what is too long loses its middle."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
