"""What all tests share."""

import os

# Tests run beside servers of their own: with a thread a core, torch would wait for its own threads most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.parts"]
