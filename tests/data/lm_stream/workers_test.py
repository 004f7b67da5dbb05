import multiprocessing
import os
import signal
import time

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.lm_stream.workers import run_tasks


def square(task):
    time.sleep(0.01 * (task % 3))  # later tasks end before earlier ones
    return task * task


def fail(task):
    if task in (3, 7):
        time.sleep(0.1 if task == 3 else 0)
        raise ConfigurationError(f"task {task}")
    return task


def die(task):
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


class WritePid:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, task):
        open(os.path.join(self.folder, str(os.getpid())), "w").close()
        time.sleep(1000)


class Touch:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, task):
        (self.folder / str(task)).touch()


def fail_or_go_on(task):
    if task == 0:
        raise ConfigurationError("task 0")
    time.sleep(1000)


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
class TestResults:
    def test_order(self, num_workers):
        results = run_tasks(square, list(range(20)), num_workers)
        assert list(results) == [n * n for n in range(20)]

    def test_no_tasks(self, num_workers):
        assert list(run_tasks(square, [], num_workers)) == []

    def test_the_first_failure_in_order_is_raised(self, num_workers):
        results = []
        with pytest.raises(ConfigurationError, match="task 3"):
            for result in run_tasks(fail, list(range(10)), num_workers):
                results.append(result)
        assert results == [0, 1, 2]


def test_processes_end_with_the_iterator():
    before = set(multiprocessing.active_children())
    results = run_tasks(square, list(range(20)), 2)
    next(results)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    results.close()
    assert not any(worker.is_alive() for worker in workers)


def test_no_more_than_a_few_results_wait(tmp_path):
    """A process that is ahead of the reader stops: results would fill the memory."""
    results = run_tasks(Touch(tmp_path), list(range(50)), 2)
    next(results)
    time.sleep(0.5)
    assert len(os.listdir(tmp_path)) <= 5
    results.close()


def test_a_failure_stops_the_other_processes(tmp_path):
    """A large file would keep them busy for minutes."""
    started = time.monotonic()
    with pytest.raises(ConfigurationError, match="task 0"):
        list(run_tasks(fail_or_go_on, [0, 1], 2))
    assert time.monotonic() - started < 60


def test_a_killed_process_is_an_error():
    with pytest.raises(RuntimeError, match=r"was killed.*num_workers"):
        list(run_tasks(die, list(range(10)), 2))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_no_process_outlives_its_parent(tmp_path):
    parent = multiprocessing.get_context("fork").Process(
        target=lambda: list(run_tasks(WritePid(str(tmp_path)), [1, 2, 3], 3))
    )
    parent.start()
    wait_until(lambda: len(os.listdir(tmp_path)) == 3)
    assert all(running(pid) for pid in os.listdir(tmp_path))
    parent.kill()
    parent.join()
    wait_until(lambda: not any(running(pid) for pid in os.listdir(tmp_path)))
