"""All stands in pyproject.toml, but for one step: a wheel carries the built-in folders inside ``harness/builtin``.

So a wheel puts one importable name into site-packages, and a research folder called ``plugins`` or ``configs`` shadows
nothing. Editable installs need no step: there the folders are found beside ``harness``.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("plugins", "baselines", "leaderboard", "configs")
KEPT = ("*.py", "*.yaml", "assets/*")
LEFT_OUT = ("results", "__pycache__")


class BuildWithBuiltIns(build_py):
    """Build the harness, and put the built-in folders inside."""

    def run(self):
        """Copy them where a wheel is built; an editable install leaves them in place."""
        super().run()
        if self.editable_mode:
            return
        for folder in FOLDERS:
            for pattern in KEPT:
                for file in sorted(Path(folder).rglob(pattern)):
                    if file.is_file() and not set(LEFT_OUT) & set(file.parts):
                        target = Path(self.build_lib, "harness", "builtin", file)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, target)


setup(cmdclass={"build_py": BuildWithBuiltIns})
