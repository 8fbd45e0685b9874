"""Names that become paths: one rule, checked where a name enters.

Methods, stages, suites, plugins and components: letters, digits and ``. _ -``, not beginning with a dot or a hyphen.
Categories are named by folders and files in the wild: they may also hold spaces, brackets and ``, & ' +`` inside.
What is free text (a label in a suite, a summary) is no name; where a path is made of it, it is a :func:`slug`.
"""

from __future__ import annotations

import hashlib
import re

from harness.errors import BenchError

LONGEST, WIDEST = 100, 150
"""Characters, and their bytes as UTF-8: file systems allow 255, of which endings and numbers take some."""
RULE = "letters and digits, and . _ - after the first of them"
CATEGORY_RULE = "letters, digits, spaces, brackets, and . _ - , & ' + between them"
_NAME = re.compile(r"\w[\w.-]*")
_CATEGORY = re.compile(r"[\w(\[]([\w .()\[\],&'+-]*[\w.)\]+-])?")


def is_name(text: object) -> bool:
    """Whether it keeps the rule."""
    return isinstance(text, str) and _short(text) and _NAME.fullmatch(text) is not None


def is_category(text: object) -> bool:
    """Whether it keeps the rule for categories."""
    return isinstance(text, str) and _short(text) and _CATEGORY.fullmatch(text) is not None


def _short(text: str) -> bool:
    return len(text) <= LONGEST and len(text.encode("utf-8", "replace")) <= WIDEST


def checked(text: object, what: str, where: str = "") -> str:
    """The name, if it keeps the rule.

    Args:
        what: of what it is the name, such as ``method``.
        where: the file or option that it comes from.

    Raises:
        BenchError: it does not.
    """
    if not is_name(text):
        raise _refused(text, what, where, RULE)
    return str(text)


def checked_category(text: object, where: str = "") -> str:
    """The same for a category's name."""
    if not is_category(text):
        raise _refused(text, "category", where, CATEGORY_RULE)
    return str(text)


def _refused(text: object, what: str, where: str, rule: str) -> BenchError:
    place = f"{where}: " if where else ""
    return BenchError(
        f"{place}{text!r:.60} cannot be the name of a {what}, since folders are named by it; use {rule}, "
        f"at most {LONGEST} characters ({WIDEST} bytes)"
    )


def slug(text: str) -> str:
    """A name for a path from free text: itself where it is one, else its letters and digits and a short hash."""
    if is_name(text):
        return text
    kept = re.sub(r"[^\w.]+", "-", text).strip("-._").encode()[:60].decode("utf-8", "ignore")
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:6]
    return f"{kept}-{digest}" if kept else digest
