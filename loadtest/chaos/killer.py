"""Strikes the cluster by the faults of a seed, in threads: one that is not over does not hold up the next."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock, Thread

from loadtest.chaos.cluster import Cluster, Target
from loadtest.chaos.faults import Action, Strike, Victim, faults

_MAX_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Struck:
    """A strike that was carried out. Times in seconds since the epoch."""

    victim: Victim
    number: int
    """Which one of several, from 1."""
    action: Action
    began_at: float
    ended_at: float
    """When it was started again, or woken."""


class Killer:
    """Strikes from `start` until `stop`."""

    def __init__(
        self, cluster: Cluster, seed: int, pause_seconds: float, *, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._cluster, self._faults, self._sleep = cluster, faults(seed, pause_seconds), sleep
        self._stop, self._lock = Event(), Lock()
        self._struck: list[Struck] = []
        self._strikes: list[Future[None]] = []
        self._thread = Thread(target=self._run, name="killer", daemon=True)

    @property
    def struck(self) -> list[Struck]:
        """Those that are over."""
        with self._lock:
            return list(self._struck)

    @property
    def num_kills(self) -> int:
        return Counter(each.action for each in self.struck)["kill"]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when all that was struck is up again; raises what went wrong with a strike."""
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raises what went wrong so far."""
        for strike in self._strikes:
            if strike.done():
                strike.result()

    def _run(self) -> None:
        with ThreadPoolExecutor(_MAX_AT_ONCE) as pool:
            for fault in self._faults:
                if self._stop.wait(fault.after_seconds):
                    return
                self._strikes += [pool.submit(self._strike, strike) for strike in fault.strikes]

    def _strike(self, strike: Strike) -> None:
        """Nothing where the victim is down or frozen from an earlier one."""
        candidates = self._cluster.of(strike.victim)
        target = candidates[int(strike.place * len(candidates))]
        with target.seized() as is_ours:
            if is_ours and target.part.is_running:
                self._carry_out(strike, target)

    def _carry_out(self, strike: Strike, target: Target) -> None:
        began_at = time.time()
        if strike.action == "kill":
            target.part.kill()
            self._sleep(strike.seconds)
            target.part.start()
        else:
            target.part.pause()
            self._sleep(strike.seconds)
            target.part.resume()
        with self._lock:
            self._struck.append(Struck(strike.victim, target.number, strike.action, began_at, time.time()))
