"""Downloading pinned files: resumed where it broke off, from a mirror where one is named, checked before it is kept.

It knows files and addresses, nothing of what is in them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from harness import files
from harness.data.published import HOST, Pinned
from harness.errors import BenchError

MIRROR = "BENCH_MIRROR"
"""Names a host, or a folder (also as ``file://``), that holds the files as ``owner/name/commit/path``."""
TRIES = 6
PATIENCE = 30.0
"""Seconds without a byte after which a download is taken up again."""
LONGEST_WAIT = 60.0
CHUNK = 1 << 16
Report = Callable[[int], None]
"""Called with the number of bytes that have come."""


def address(file: Pinned) -> str:
    """Where a file is downloaded from."""
    base = os.environ.get(MIRROR) or HOST
    if "://" not in base:
        return f"{Path(base).absolute().as_uri()}/{quote(file.place)}"
    return f"{base.rstrip('/')}/{quote(file.place)}"


def download(file: Pinned, folder: Path, report: Report = lambda _: None) -> Path:
    """The file in a folder of downloads, with the content that is pinned; what is there already is not fetched again.

    A download that breaks off, stalls or is turned away for now is taken up where it stopped. One of another content
    is thrown away and begun once more.

    Raises:
        BenchError: it cannot be had, or is not what is pinned; nothing but a part of it is left in the folder.
    """
    files.make_folder(folder)
    done, part = folder / file.blob, folder / f"{file.blob}.part"
    if done.exists():
        if is_pinned(file, done):
            report(done.stat().st_size)
            return done
        done.unlink()
    url = address(file)
    for _ in range(2):
        _fetch(url, part, file.bytes, report)
        if is_pinned(file, part):
            os.replace(part, done)
            return done
        size = part.stat().st_size
        part.unlink()
    raise BenchError(
        f"{url} is not the file that is pinned ({size:,} bytes; its git id should be {file.blob[:12]}); unset "
        f"{MIRROR}, or name another mirror"
    )


def unpinned(url: str, path: Path, report: Report = lambda _: None) -> None:
    """A file of which nothing is known, to `path`; a download that breaks off is taken up by the next call.

    Raises:
        BenchError: it cannot be had.
    """
    part = path.with_name(path.name + ".part")
    _fetch(url, part, 0, report)
    os.replace(part, path)


def is_pinned(file: Pinned, path: Path) -> bool:
    """Whether a file has the pinned content."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return False
    blob, sha256 = hashlib.sha1(f"blob {size}\0".encode()), hashlib.sha256()
    with open(path, "rb") as opened:
        while chunk := opened.read(1 << 20):
            blob.update(chunk)
            sha256.update(chunk)
    return blob.hexdigest() == file.blob and (not file.sha256 or sha256.hexdigest() == file.sha256)


def _fetch(url: str, part: Path, size: int, report: Report) -> None:
    """Bring what is missing of a file."""
    if size:
        free = shutil.disk_usage(part.parent).free
        if free < size:
            raise BenchError(f"{part.parent} has {free / 1e6:.0f} MB left and {url} has {size / 1e6:.0f}; make room")
    if urlsplit(url).scheme == "file":
        source = Path(unquote(urlsplit(url).path))
        if not source.is_file():
            raise BenchError(f"{source} does not exist; {MIRROR} must hold the files as owner/name/commit/path")
        shutil.copyfile(source, part)
        report(part.stat().st_size)
        return
    problem = ""
    for number in range(TRIES):
        problem, wait = _try(url, part, size, report)
        if not problem:
            return
        if number + 1 < TRIES:
            time.sleep(min(wait if wait is not None else 2.0**number / 4, LONGEST_WAIT))
    raise BenchError(f"{url} cannot be had ({problem}); the same command goes on where it stopped, or set {MIRROR}")


def _try(url: str, part: Path, size: int, report: Report) -> tuple[str, float | None]:
    """One request for what is missing: why it did not end well (empty: it did), and how long the server says to wait.

    Raises:
        BenchError: asking again cannot help.
    """
    import requests
    import urllib3

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
            if answer.status_code == 416:  # nothing is left, or it is another file
                if have != size:
                    part.unlink(missing_ok=True)
                    return "the server has another length", 0.0
                return "", None
            if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
                return f"{answer.status_code} {answer.reason}", _asked(answer.headers.get("Retry-After"))
            if answer.status_code not in (200, 206):
                raise BenchError(
                    f"{url} answers {answer.status_code} {answer.reason}; it has moved or is blocked: set {MIRROR} to "
                    "a host or folder that holds the files as owner/name/commit/path"
                )
            goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            whole = size or _length(answer.headers.get("Content-Length"), have if goes_on else 0)
            with open(part, "ab" if goes_on else "wb") as out:
                report(have if goes_on else 0)
                while chunk := answer.raw.read1(CHUNK):  # what has come, and not only whole chunks: it is kept
                    out.write(chunk)
                    report(len(chunk))
                    if size and out.tell() > size:
                        break  # too long to be it
            now = part.stat().st_size
            return ("", None) if not whole or now >= whole else (f"it broke off at {now:,} of {whole:,} bytes", None)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise BenchError(f"{url} is no address that can be asked; {MIRROR} is a host (https://…) or a folder") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        return " ".join(f"{type(error).__name__}: {error}".split())[:200], None


def _length(said: str | None, before: int) -> int:
    return before + int(said) if said is not None and said.isdigit() else 0


def _asked(said: str | None) -> float | None:
    """Seconds that a server asks to wait, as a number or a date."""
    if said is None:
        return None
    if said.strip().isdigit():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
