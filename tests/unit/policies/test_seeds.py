"""Seeds and uniform numbers are those of every release: logged decisions are replayed by them."""

import numpy as np

from policies.seeds import seed_of, splitmix64, uniforms


def test_splitmix64_is_the_published_one() -> None:
    published = [  # of the seed 1234567, as other implementations are tested by
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(1234567, 5).tolist() == published
    assert splitmix64(1234567, 2, skip=3).tolist() == published[3:]


def test_seeds_never_change_and_fit_into_sql() -> None:
    assert seed_of("a") == 2340832890917691671
    assert seed_of("decision-1") == 3008973990908664656
    assert all(0 <= seed_of(f"decision-{i}") < 2**63 for i in range(200))
    assert seed_of("\ud800") != seed_of("\ud801")


def test_uniform_numbers_are_uniform_and_never_at_the_ends() -> None:
    numbers = uniforms(7, 20_000)
    assert 0 < numbers.min() < numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-square, 9 degrees of freedom, p = .001
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_the_largest_seed_and_number_stay_below_1() -> None:
    assert (uniforms(2**64 - 1, 100) < 1).all()
    assert ((2**52 - 1) + 0.5) * 2.0**-52 < 1  # the largest there is
