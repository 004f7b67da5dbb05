import gc

import pytest

from ldnet_allennlp.common.gc_pause import in_groups, paused_collector


@pytest.fixture(autouse=True)
def enabled_collector():
    assert gc.isenabled()
    yield
    gc.enable()


def test_collector_runs_again_after_the_outermost_block():
    with pytest.raises(ValueError), paused_collector():
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()


def test_collector_that_was_off_stays_off():
    gc.disable()
    with paused_collector():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("number", [0, 2, 3, 7])
def test_groups_give_all_items(number):
    seen = []

    def numbers():
        for item in range(number):
            seen.append(gc.isenabled())
            yield item

    assert list(in_groups(numbers(), 3)) == list(range(number))
    assert not any(seen) and gc.isenabled()


def test_items_are_taken_a_group_at_a_time():
    taken = iter(range(100))
    groups = in_groups(taken, 10)
    assert next(groups) == 0 and gc.isenabled()
    assert next(taken) == 10


def test_items_before_an_error_are_given_out():
    def numbers():
        yield from range(5)
        raise OSError("line 6")

    given = []
    with pytest.raises(OSError, match="line 6"):
        for item in in_groups(numbers(), 3):
            given.append(item)
    assert given == [0, 1, 2, 3, 4] and gc.isenabled()


def test_what_was_made_meanwhile_does_not_have_old_objects_looked_at():
    collected = []

    def note(phase, about):
        if phase == "start":
            collected.append(about["generation"])

    older_is_due = gc.get_threshold()[1] + 2
    for _ in range(older_is_due):
        gc.collect(0)
    gc.callbacks.append(note)
    try:
        with paused_collector():
            made = [[] for _ in range(100_000)]
        # Too few to start it by themselves.
        more = [[] for _ in range(gc.get_threshold()[0] // 2)]
    finally:
        gc.callbacks.remove(note)
    assert collected == [0] and made and more
