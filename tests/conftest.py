"""What all tests share."""

import os

from hypothesis import HealthCheck, settings

# Tests run beside servers of their own: with a thread a core, torch would wait for its own threads most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# … and a learner that yields to all other sessions would not get far beside the tests of other workers.
os.environ.setdefault("STEADYRANK_TRAIN_SESSION_NICE", "0")

# A machine that is busy elsewhere is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest_plugins = ["tests.parts"]
