"""Who rests for others goes on once they are done, and also if they never are."""

from policies.rests import rest_while


def test_a_rest_lasts_as_long_as_others_are_busy() -> None:
    busy = iter([True, True, True, False, True])
    rest_while(lambda: next(busy))()
    assert next(busy), "it asked once more after they were done"


def test_a_rest_ends_though_others_are_always_busy() -> None:
    asked: list[None] = []

    def is_busy() -> bool:
        asked.append(None)
        return True

    rest_while(is_busy)()
    assert asked
