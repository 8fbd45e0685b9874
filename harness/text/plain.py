"""Free text made harmless for where it goes: one line without control characters, markup dead, secrets masked.

Free text is what others wrote: labels, captions, titles, names of reported rows, messages of libraries. Names that
become paths are :mod:`harness.checks.names`'.
"""

from __future__ import annotations

import os
import re
import unicodedata

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY")
"""Environment variables whose values are never shown."""
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
"""Environment variables that hold addresses, in which a password may stand."""
HIDDEN = "***"
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@|(?<![\w/@:])[^/\s@:'\"]+:[^/\s@'\"]+@(?=[\w.-]+:?\d*)")
_SECRET_OF_QUERY = re.compile(
    r"(?i)([?&;#](?:\w*(?:password|passwd|pwd|token|secret|signature|sig|key|credential|auth))=)[^&\s'\"]+"
)
_LIVE = re.compile(r"\][(\[:]|([*`~]).*\1|(?<!\w)_.*_(?!\w)")
"""Where markdown sees more in a cell than characters: a link, or two marks of a kind."""
_SPECIAL = re.compile(r"(?<!\w)_|_(?!\w)|[`*\[\]\\~]")


def line(text: str) -> str:
    """One line of printable characters: breaks and odd spaces are spaces, control and format characters are gone."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    kind = unicodedata.category(character)
    return " " if kind[0] == "Z" or character in "\t\n\r\v\f\x85" else ""


class Marked(str):
    """A text with markup of our own: what marks the best and the second best."""


def cell(text: str) -> str:
    """A line as the cell of a markdown table: nothing in it is a tag, a link, code or emphasis, unless it is ours."""
    if isinstance(text, Marked):
        return line(text).replace("|", "\\|")
    if _LIVE.search(text):
        text = markdown(text)
    return line(text).replace("<", "&lt;").replace("|", "\\|")


def markdown(text: str) -> str:
    """Free text as plain text of a markdown document: nothing in it is a tag, a link, code or emphasis."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], line(text).replace("<", "&lt;"))


def masked(text: str) -> str:
    """The text without credentials: users and passwords of addresses, secrets in queries and of the environment."""
    for variable in SECRETS:
        secret = os.environ.get(variable, "")
        if len(secret) > 3:
            text = text.replace(secret, HIDDEN)
    for variable in ADDRESSES:
        scheme, _, rest = os.environ.get(variable, "").partition("://")
        user, at, _ = rest.rpartition("@")  # a password may hold an @ or a slash that nobody escaped
        if scheme and at and user:
            text = text.replace(f"{user}@", f"{HIDDEN}@")
            password = user.partition(":")[2]
            text = text.replace(password, HIDDEN) if len(password) > 3 else text
    return _SECRET_OF_QUERY.sub(rf"\1{HIDDEN}", _USER_OF_ADDRESS.sub(f"{HIDDEN}@", text))
