import threading

import pytest
import torch

from ldnet_allennlp.modules.worker_threads import map_in_threads, run_in_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 9])
def test_results_in_order(three_threads, num_workers):
    seen = set()

    def square(number):
        seen.add(threading.get_ident())
        assert not torch.is_grad_enabled()
        return number * number

    assert list(map_in_threads(square, iter(range(50)), num_workers)) == [n * n for n in range(50)]
    assert (seen == {threading.get_ident()}) is (num_workers == 1)
    assert torch.is_grad_enabled()


def test_threads_are_shared_out(three_threads):
    barrier = threading.Barrier(3, timeout=20)

    def threads(_):
        barrier.wait()  # all three at once
        return torch.get_num_threads()

    assert list(map_in_threads(threads, range(3), 3)) == [1, 1, 1]
    assert torch.get_num_threads() == 3
    later = []
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert later == [3]


def test_nothing_to_do():
    assert list(map_in_threads(len, [], 2)) == []
    assert run_in_threads([]) == []


def test_errors_come_through(three_threads):
    def fail(number):
        if number == 3:
            raise KeyError("three")
        return number

    results = map_in_threads(fail, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(results)
    assert torch.get_num_threads() == 3


def test_autocast_of_the_caller(three_threads):
    one = torch.ones(2, 2)

    def dtypes():
        return run_in_threads([lambda: (one @ one).dtype] * 2)

    assert dtypes() == [torch.float32] * 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dtypes() == [torch.bfloat16] * 2
    assert dtypes() == [torch.float32] * 2
