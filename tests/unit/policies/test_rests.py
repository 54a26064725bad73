"""Who rests for others goes on once they are done, and also if they never are."""

from policies.rests import rest_while


def test_a_rest_lasts_as_long_as_others_are_busy() -> None:
    busy, asked = [True, True, True, False, True], list[bool]()

    def is_busy() -> bool:
        asked.append(busy[len(asked)])
        return asked[-1]

    rest_while(is_busy)()
    assert asked == [True, True, True, False]


def test_a_rest_ends_though_others_are_always_busy() -> None:
    asked: list[None] = []

    def is_busy() -> bool:
        asked.append(None)
        return True

    rest_while(is_busy)()
    assert 1 < len(asked) < 100
