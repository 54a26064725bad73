"""How many updates the learner owes for the decisions that came in, and may still do."""

MAX_OWED_SECONDS = 2.0
"""Updates that would take longer than this to catch up with are given up: policies would lag behind for ever."""
_SMOOTHING = 0.05


class Pace:
    """One update of the agent is owed every `decisions_per_update` decisions."""

    def __init__(self, decisions_per_update: float) -> None:
        self._decisions_per_update = decisions_per_update
        self._owed = 0.0
        self._seconds = 0.005  # an update takes, on average; the guess before the first

    @property
    def is_behind(self) -> bool:
        """Whether an update is owed."""
        return self._owed >= 1

    def owe(self, num_decisions: int) -> int:
        """Takes `num_decisions` that came in into account; returns how many whole updates are given up."""
        self._owed += num_decisions / self._decisions_per_update
        given_up = int(max(0.0, self._owed - max(1.0, MAX_OWED_SECONDS / self._seconds)))
        self._owed -= given_up
        return given_up

    def pay(self, seconds: float) -> None:
        """One update was done, in so many seconds."""
        self._owed -= 1
        self._seconds += _SMOOTHING * (seconds - self._seconds)
