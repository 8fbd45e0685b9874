"""The browser that pages are tested in, and where its screenshots go."""

import os
import shutil
from pathlib import Path

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
SCREENSHOTS = Path(os.environ.get("BENCH_SCREENSHOTS", "/tmp/genrec-bench-screenshots"))
