from service.ids import IdSource


def test_ids_differ_within_a_process_and_between_processes() -> None:
    one, other = IdSource(b"a" * 12), IdSource(b"b" * 12)
    ids = [source() for source in (one, other) for _ in range(100)]
    assert len(set(ids)) == 200


def test_ids_of_one_process_sort_in_the_order_made() -> None:
    source = IdSource(b"a" * 12)
    ids = [source() for _ in range(300)]
    assert ids == sorted(ids)
