"""Text as LaTeX has it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Characters in a line of an article; where a table has more, its columns of long text are broken.
LATEX_LINE, _LONG = 80, 30
# A notebook's own LaTeX may not have the package booktabs.
RULES = (
    r"\providecommand{\toprule}{\hline}\providecommand{\midrule}{\hline}"
    r"\providecommand{\bottomrule}{\hline}"
    "\n" r"\ifdefined\cmidrule\else\def\cmidrule(#1)#2{\cline{#2}}\fi"
)  # fmt: skip

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}
_SIGNS = {
    "−": "-", "×": r"\times", "±": r"\pm", "≤": r"\leq", "≥": r"\geq", "→": r"\to", "·": r"\cdot",
    "°": r"{}^\circ", "²": "{}^2", "³": "{}^3", "µ": r"\mu", "≠": r"\neq", "≈": r"\approx",
    "∞": r"\infty", "√": r"\surd", "Δ": r"\Delta", "∆": r"\Delta", "Ω": r"\Omega",
}  # fmt: skip
_GREEK_CAPITALS = frozenset(
    ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
)
# The Greek capitals that LaTeX has as Latin letters of another name.
_LATIN_CAPITALS = {"Eta": "H", "Rho": "P", "Chi": "X"}


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX: its special characters, and what pdflatex does not know by itself.

    Examples
    --------
    >>> print(latex_text("50% of a_b, β ≤ 1"))
    50\% of a\_b, $\beta$ $\leq$ 1
    """
    text = "".join(char for char in " ".join(text.split()) if char.isprintable())
    text = unicodedata.normalize("NFC", text)
    escaped = "".join(_SPECIAL.get(char) or _symbol(char) for char in text)
    return re.sub("(?<=[-'!?,])(?=[-'`,])", "{}", escaped)  # no dash or quote of two signs


def latex_columns(columns: Sequence[Sequence[str]], sides: Sequence[str]) -> str:
    r"""Return the letters of a ``tabular``; long text is broken where the page is too narrow.

    Examples
    --------
    >>> latex_columns([["x", "251.4"], ["note", "converged"]], "rl")
    'rl'
    >>> latex_columns([["x", "251.4"], ["note", "word " * 30]], "rl")
    'rp{0.91\\linewidth}'
    """
    widths = [max((len(text.strip()) for text in column), default=0) + 2 for column in columns]
    long = [s == "l" and width > _LONG for s, width in zip(sides, widths, strict=True)]
    if not any(long) or sum(widths) <= LATEX_LINE:
        return "".join(sides)
    rest = sum(width for width, is_long in zip(widths, long, strict=True) if not is_long)
    total = sum(widths) - rest
    room = max(1.0 - rest / LATEX_LINE, 0.2 * sum(long))
    return "".join(
        f"p{{{room * width / total:.2f}\\linewidth}}" if is_long else side
        for side, width, is_long in zip(sides, widths, long, strict=True)
    )


def _symbol(char: str) -> str:
    """Return a character as LaTeX has it: Greek letters and signs as mathematics."""
    if char.isascii():
        return char
    if char in _SIGNS:
        return f"${_SIGNS[char]}$"
    # GREEK SMALL LETTER BETA, GREEK CAPITAL LETTER DELTA
    words = unicodedata.name(char, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return char
    name = words[3].lower().replace("lamda", "lambda")
    if name == "omicron":
        name = "mathrm{o}"
    if words[1] == "CAPITAL":
        name = name.capitalize()
        name = (
            name if name in _GREEK_CAPITALS else f"mathrm{{{_LATIN_CAPITALS.get(name, name[0])}}}"
        )
    return f"$\\{name}$"
