"""Worker processes, with a progress bar that knows how much is left."""

import multiprocessing
import os
import resource
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

from tqdm import tqdm

from dataprep.errors import DataError

tqdm.monitor_interval = 0


def _die_with_parent() -> None:
    """End this worker when the main process is gone, however that ended."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


def peak_memory() -> int:
    """Most memory that this process has used, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _measured(function: Callable[..., Any], task: Tuple) -> Tuple[Any, int]:
    return function(*task), peak_memory()


def available_cores() -> int:
    """Cores this process may use (less than the machine has, under a batch system)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Runs functions of a module in worker processes; one worker means the main process itself.

    Args:
        workers: Number of processes; `peak` is the most memory that one has used, in MiB.
        preload: Modules to import once, in a process from which the workers are forked. (Other
            workers start afresh and import what they need: fork is unsafe once a library has
            started threads.)
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        """See the class."""
        self.workers, self.preload = workers, list(preload)
        self.peak = 0
        self._executor: Optional[ProcessPoolExecutor] = None

    def __enter__(self) -> "Pool":
        """Return the pool; workers start when there is work."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def warm_up(self) -> None:
        """Begin to import the modules, in the background."""
        if self.workers > 1 and self.preload:
            multiprocessing.set_forkserver_preload(self.preload)
            forkserver.ensure_running()

    def run(
        self,
        label: str,
        function: Callable[..., Any],
        tasks: Sequence[Tuple],
        sizes: Optional[Sequence[int]] = None,
        unit: str = " lines",
    ) -> List[Any]:
        """Call `function(*task)` for every task and return the results in the tasks' order.

        Args:
            label: Text of the progress bar.
            function: A module-level function.
            tasks: Arguments of each call.
            sizes: How much each task advances the bar; default one each.
            unit: What the sizes count.

        Raises:
            DataError: A worker was killed from outside, most often for want of memory.
        """
        sizes = [1] * len(tasks) if sizes is None else sizes
        results: List[Any] = [None] * len(tasks)
        with progress(label, sum(sizes), unit) as bar:
            for index, result in self._results(function, tasks):
                results[index] = result
                bar.update(sizes[index])
        return results

    def _results(self, function: Callable, tasks: Sequence[Tuple]) -> Iterator[Tuple[int, Any]]:
        if self.workers == 1 or len(tasks) == 0:
            for index, task in enumerate(tasks):
                yield index, function(*task)
            return
        executor = self._start()
        futures = {executor.submit(_measured, function, task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                result, peak = future.result()
                self.peak = max(self.peak, peak)
                yield futures[future], result
        except BrokenProcessPool:
            raise DataError(
                "a worker process was killed, most often because memory ran out; start again with "
                f"fewer --workers than {self.workers}, finished parts are kept"
            ) from None
        finally:
            for future in futures:
                future.cancel()

    def _start(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self.warm_up()
            context = multiprocessing.get_context("forkserver" if self.preload else "spawn")
            self._executor = ProcessPoolExecutor(self.workers, context, _die_with_parent)
        return self._executor


def progress(label: str, total: int, unit: str) -> tqdm:
    """A progress bar with a rate and a time left; silent when nobody watches."""
    return tqdm(
        total=total, desc=f"{label:<18}", unit=unit, unit_scale=True, disable=None, leave=False
    )
