"""Worker processes that survive crashes: a job that crashes its process loses only its own result.

If one process of a `concurrent.futures` pool dies, the pool gives up all jobs, and does not say which job was the
cause. Therefore the jobs that were running are run again here, each in its own process.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from tgdfer.training.interruption import Terminated, raising_on_sigterm

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    crashed: Callable[[Job], Result],
    initializer: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Runs a function on each job, and yields the results as they are completed.

    If the caller is interrupted, running jobs are ended and remove their temporary files.

    Args:
        function (`Callable[[Job], Result]`): Function of a job. It must be picklable.
        jobs (`Sequence[Job]`): The jobs. They are taken one by one, so that large ones are not in memory together.
        workers (`int`): Number of processes. With one worker, or for one job, the current process does all the work.
        crashed (`Callable[[Job], Result]`): Returns the result of a job that crashed its process.
        initializer (`Callable[[], object]`, *optional*): Called in each new process.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(function, jobs)
        return
    source, todo = iter(jobs), deque[Job]()

    def is_left() -> bool:
        if not todo:
            todo.extend(islice(source, 1))
        return bool(todo)

    while is_left():
        # Only running jobs are submitted. So there are few candidates for the cause when a process dies.
        running: dict[Future, Job] = {}
        with _pool(min(workers, len(jobs)), initializer) as pool:
            try:
                while running or is_left():
                    while len(running) < workers and is_left():
                        future = _submit(pool, function, todo[0])
                        running[future] = todo.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del running[future]
                        yield result
            except BrokenProcessPool:
                pass
            except BaseException:
                _end(pool)
                raise
        for future, job in running.items():
            yield _run_alone(function, job, crashed, initializer) if future.exception() else future.result()


def _run_alone(
    function: Callable[[Job], Result],
    job: Job,
    crashed: Callable[[Job], Result],
    initializer: Callable[[], object] | None,
) -> Result:
    """Runs a job in its own process, which shows whether this job crashed the previous process."""
    with _pool(1, initializer) as pool:
        try:
            return _submit(pool, function, job).result()
        except BrokenProcessPool:
            return crashed(job)
        except BaseException:
            _end(pool)
            raise


def _pool(workers: int, initializer: Callable[[], object] | None) -> ProcessPoolExecutor:
    # A forked process would wait forever for the threads of OpenCV and torch, which are not copied by a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=initializer)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Job], Result], job: Job) -> Future:
    """Submits a job to a pool. The first job starts the processes of the pool."""
    with _without_sigint():
        return pool.submit(_run, function, job)


def _run(function: Callable[[Job], Result], job: Job) -> Result:
    """Runs a job in a worker process. SIGTERM raises an error in the job, so that it removes its temporary files."""
    try:
        with raising_on_sigterm():
            return function(job)
    except Terminated:
        # The ordinary end of an interpreter that has imported torch takes seconds, for which the parent would wait.
        os._exit(128 + signal.SIGTERM)


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends the processes of a pool."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(cancel_futures=True)


@contextmanager
def _without_sigint() -> Iterator[None]:
    """Makes processes that start in the block ignore Ctrl-C, because their parent ends them.

    Otherwise each of them would print a traceback. In the parent, Ctrl-C is delayed to the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
