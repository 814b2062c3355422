"""Any text, set in LaTeX or Markdown as it is: names of classes and files come from anywhere."""

import unicodedata
from typing import Any

MARKS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": r"$-$",
    "Φ": r"$\Phi$",
    "₀": r"$_0$",
    "‖": r"$\Vert$",
    "²": r"$^2$",
    "η": r"$\eta$",
    "–": "--",
    "…": r"\ldots{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "\n": " ",
    "\0": "{}",
}


def in_latex(value: Any) -> Any:
    r"""Write any text so that LaTeX sets it and runs nothing of it; letters that pdfTeX has not become ?.

    >>> in_latex("50 % of \\input{x} …")
    '50 \\% of \\textbackslash{}input\\{x\\} \\ldots{}'
    """
    if not isinstance(value, str):
        return value
    apart = value.replace("--", "-\0-").replace("--", "-\0-")  # else two hyphens become a dash
    return "".join(MARKS.get(letter, letter if _in_latin(letter) else "?") for letter in apart)


def _in_latin(letter: str) -> bool:
    return " " <= letter <= "~" or ("À" <= letter <= "ÿ" and unicodedata.category(letter)[0] == "L")


def in_markdown(value: Any) -> Any:
    r"""Write any text so that Markdown shows it as it is.

    >>> in_markdown("a_b <script>")
    'a\\_b &lt;script&gt;'
    """
    if not isinstance(value, str):
        return value
    shown = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for letter in "\\`*_[]|#":
        shown = shown.replace(letter, f"\\{letter}")
    return " ".join(shown.split())
