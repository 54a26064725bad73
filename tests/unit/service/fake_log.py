"""An event log whose appends a test settles."""

from concurrent.futures import Future
from dataclasses import dataclass, field

from storage.event_log import LogUnavailableError, Topic


@dataclass
class Append:
    topic: Topic
    value: bytes
    future: Future[None] = field(default_factory=Future)


class FakeLog:
    """`is_away`: whether appends fail. `is_held`: whether they wait for `settle`."""

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self.is_away = False
        self.is_held = False

    def append(self, topic: Topic, value: bytes) -> Future[None]:
        append = Append(topic, value)
        if self.is_away:
            append.future.set_exception(LogUnavailableError("the log is away"))
            return append.future
        self.appends.append(append)
        if not self.is_held:
            append.future.set_result(None)
        return append.future

    def settle(self) -> None:
        for append in self.appends:
            if not append.future.done():
                append.future.set_result(None)

    def close(self) -> None:
        pass
