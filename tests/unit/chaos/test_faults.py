"""The plan of the kill test: repeatable, each victim killed once at first, then everything that was promised."""

from itertools import islice

from loadtest.chaos.faults import SESSION_SECONDS, VICTIMS, faults

MANY = 3_000


def test_a_seed_gives_the_same_faults_again() -> None:
    assert list(islice(faults(7, 5.0), 50)) == list(islice(faults(7, 5.0), 50))
    assert list(islice(faults(7, 5.0), 50)) != list(islice(faults(8, 5.0), 50))


def test_each_victim_is_killed_once_first() -> None:
    for seed in range(20):
        strikes = [fault.strikes for fault in islice(faults(seed, 5.0), len(VICTIMS))]
        assert sorted(strike.victim for [strike] in strikes) == sorted(VICTIMS)
        assert {strike.action for [strike] in strikes} == {"kill"}


def test_everything_happens_and_most_of_it_is_kills() -> None:
    some = list(islice(faults(1, 5.0), MANY))
    strikes = [strike for fault in some for strike in fault.strikes]
    assert {(strike.victim, strike.action) for strike in strikes} == {(v, a) for v in VICTIMS for a in ("kill", "stop")}
    assert 0.6 < sum(strike.action == "kill" for strike in strikes) / len(strikes) < 0.7
    twos = [fault.strikes for fault in some if len(fault.strikes) == 2]
    assert 0.15 < len(twos) / MANY < 0.25
    assert all(first.victim != second.victim for first, second in twos)
    assert abs(sum(fault.after_seconds for fault in some) / MANY - 5.0) < 0.1


def test_times_are_as_promised() -> None:
    strikes = [strike for fault in islice(faults(1, 5.0), MANY) for strike in fault.strikes]
    away = [strike.seconds for strike in strikes if strike.action == "kill"]
    assert min(away) == 0
    assert 2.9 < max(away) <= 3
    frozen = [strike.seconds for strike in strikes if strike.action == "stop" and strike.victim != "ingest"]
    assert 0.5 <= min(frozen) < max(frozen) <= 10
    ingest = [strike.seconds for strike in strikes if strike.action == "stop" and strike.victim == "ingest"]
    assert 0.4 < sum(seconds > SESSION_SECONDS for seconds in ingest) / len(ingest) < 0.8
