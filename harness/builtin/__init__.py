"""What comes with the harness: methods, recipes and the leaderboard, as packages below this one.

In a source checkout they are the top-level folders ``plugins``, ``baselines``, ``leaderboard`` and ``configs``; a wheel
carries them inside this folder. Either way their one importable name is ``harness.builtin.<folder>``, so that a
research folder called ``plugins`` or ``configs`` on the path changes nothing.
"""

from pathlib import Path

FOLDERS = ("plugins", "baselines", "leaderboard", "configs")
_here = Path(__file__).resolve().parent
HOME = _here if (_here / "configs").is_dir() else _here.parent.parent
"""The folder that holds :data:`FOLDERS`."""
CHECKOUT = HOME if _here != HOME else None
"""The root of the source checkout that runs; None where an installed wheel does."""
__path__ = [str(HOME)]
