"""Files: written whole or not at all, and read with one line where they are missing or damaged. It knows no run."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import BenchError
from harness.text import parsing

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and see that it can be written in.

    Raises:
        BenchError: it cannot be; none of those that were made is left.
    """
    made = next((p for p in [*reversed(path.parents), path] if not p.exists()), None)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        if made is not None and made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        raise BenchError(
            f"{path} cannot be written ({error.strerror}); name a folder that can be, or change its rights"
        ) from None


@contextlib.contextmanager
def made_for(path: Path) -> Iterator[None]:
    """A folder that something is written in; where that fails, what had to be made is gone again if it is empty."""
    made = [folder for folder in [path, *path.parents] if not folder.exists()]
    try:
        make_folder(path)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def check_output(path: str | None) -> None:
    """Refuse an output file that cannot be written, before the work that would be lost.

    Raises:
        BenchError: it is a folder, or its own folder cannot be written in.
    """
    if path:
        _replaceable(Path(path))
        make_folder(Path(path).parent)


def _replaceable(path: Path) -> None:
    try:
        if path.is_dir():
            raise BenchError(f"{path} is a folder; name a file")
        if path.exists() and not path.is_file():  # a device, a pipe: it would be gone
            raise BenchError(f"{path} is no regular file; name one, or a new one")
    except OSError as error:
        raise BenchError(f"{str(path)[:80]} cannot be written ({error.strerror}); name a place that can be") from None


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced and takes its place."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _replaceable(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in str(error).lower():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if not isinstance(error, OSError) or error.errno not in UNWRITABLE:
            raise
        raise BenchError(f"{path} cannot be written ({error.strerror}); name a place that can be") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it takes its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        make_folder(temporary)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def keep_newest(folder: Path, most: int) -> None:
    """Remove all but the newest folders of one."""
    for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-most]:
        shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written below a folder that nobody else works in now."""
    for path in sorted(folder.rglob(".*.tmp")):
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The hash of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


MOST_BYTES = 256 * 2**20
"""Of a JSON file of a run; records and manifests have some hundred kilobytes."""
MOST_YAML_BYTES = 4 * 2**20


def read_text(path: Path, mend: str, most: int = MOST_BYTES) -> str:
    """The text of a file, whatever byte-order mark it begins with.

    Args:
        mend: what its user should do where it cannot be read.
        most: the bytes that it may have.

    Raises:
        BenchError: it is missing, no file, too large, or no text.
    """
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "is missing"
            raise BenchError(f"{path} {what}; {mend}")
        if (size := path.stat().st_size) > most:
            raise BenchError(f"{path} has {size:,} bytes, the most allowed is {most:,}; {mend}")
        return parsing.decode(path.read_bytes())
    except OSError as error:
        raise BenchError(f"{path} cannot be read ({error.strerror}); {mend}") from None
    except ValueError as error:
        raise BenchError(f"{path} is damaged ({error}); {mend}") from None


def read_json(path: Path, mend: str = "run the method again", schema: Any = None) -> Any:
    """Read a JSON file of a run.

    Args:
        mend: what its user should do where it cannot be read.
        schema: what it must hold (:mod:`harness.checks.schemas`).

    Raises:
        BenchError: it is missing or damaged, or not as the schema says.
    """
    text = read_text(path, mend)
    try:
        content = parsing.parse_json(text)
    except ValueError as error:
        raise BenchError(f"{path} is damaged ({error}); {mend}") from None
    return content if schema is None else _checked(schema, content, path, mend)


def read_yaml(path: Path, schema: Any = None, mend: str = "mend the file") -> dict[str, Any]:
    """A YAML file that must hold a mapping, and what a schema says."""
    try:
        content = parsing.parse_yaml(read_text(path, "name a file that is there", MOST_YAML_BYTES))
    except ValueError as error:
        what = f" is {error}" if str(error).startswith("not valid") else f": {error}"
        raise BenchError(f"{path}{what}; {mend}") from None
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise BenchError(f"{path} {what}; it must hold a mapping of settings")
    return content if schema is None else _checked(schema, content, path, mend)


def _checked(schema: Any, content: Any, path: Path, mend: str) -> Any:
    from harness.checks import schemas  # pydantic, which not every command needs

    return schemas.check(schema, content, path, mend)
