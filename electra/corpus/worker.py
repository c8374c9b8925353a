"""A process that does parts of the work, one after another, as it is told.

    python -m electra.corpus.worker FOLDER

A line on standard input is `STAGE NUMBER`; on standard output come lines of JSON: `{"bytes": n}`
as it goes on, then `{"done": number}` or `{"error": message, "kind": class}`. It ends with its
input, in the middle of a part, too, so it never outlives who started it. `LocalRunner` starts some
of them, or does the work by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from electra import errors
from electra.corpus.stages import STAGES, Plan
from electra.errors import ElectraError

_HOME = str(Path(__file__).resolve().parents[2])
"""Where the package lies: what is in the working directory by the same name is another."""
Tick = Callable[[int], None]
"""Called with the bytes that were done since the last call."""
_REPORT_BYTES = 2**20
_LOOK_SECONDS = 0.2
"""Between two looks whether who started this is still there."""


def main(folder: str) -> None:
    """Serve standard input; the process ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    # what libraries print is not for the parent
    said, sys.stdout = sys.stdout, sys.stderr
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=said, flush=True)
        except BrokenPipeError:
            os._exit(1)

    plan = Plan.read(Path(folder))
    while True:
        stage, number = asked.get().split()
        held = 0

        def tick(size: int) -> None:
            nonlocal held
            held += size
            if held >= _REPORT_BYTES:
                say({"bytes": held})
                held = 0

        try:
            STAGES[stage](plan, int(number), tick)
        except ElectraError as error:
            say({"error": str(error), "kind": type(error).__name__})
        except Exception as error:  # of the machine: no memory
            say({"error": f"{type(error).__name__}: {error}", "kind": "ElectraError"})
        else:
            say({"bytes": held})
            say({"done": int(number)})


def _listen(asked: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    os._exit(1)  # nobody waits for what is being done


def _watch(parent: int) -> None:
    """The other end of standard input may have been inherited by a process that lives on."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


class LocalRunner:
    """Does stages of parts in processes of this machine, which stay from stage to stage."""

    def __init__(self, workers: int) -> None:
        """`workers`: how many processes; 1: none but this one."""
        self._workers = workers
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> LocalRunner:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._stop()

    def __call__(self, plan: Plan, stage: str, numbers: Sequence[int], *, tick: Tick) -> None:
        """Do a stage of parts, in any order.

        Args:
            plan: what there is to do.
            stage: a name in `STAGES`.
            numbers: of the parts.
            tick: how far it is.

        Raises:
            ElectraError: of the first part that failed; the others are stopped.
        """
        if self._workers == 1 or len(numbers) < 2:
            for number in numbers:
                STAGES[stage](plan, number, tick)
            return
        count = min(self._workers, len(numbers))
        if len(self._processes) != count:
            self._stop()
            threads = max(1, self._workers // count)
            self._processes = [_start(plan.folder, threads=threads) for _ in range(count)]
        try:
            self._run(plan, stage, numbers, tick)
        except BaseException:
            self._stop()
            raise

    def _run(self, plan: Plan, stage: str, numbers: Sequence[int], tick: Tick) -> None:
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            waiting.put(number)
        heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(
                target=_serve, args=(process, plan, stage, waiting, heard), daemon=True
            )
            for process in self._processes
        ]
        for thread in self._threads:
            thread.start()
        ended, left = 0, set(numbers)
        while ended < len(self._processes):
            message = heard.get()
            if message is None:
                ended += 1
            elif "error" in message:
                kind = getattr(errors, message["kind"], ElectraError)
                raise kind(message["error"])
            else:
                left.discard(message.get("done", -1))
                tick(message.get("bytes", 0))
        if left:
            raise ElectraError(f"{len(left)} parts were not prepared; run the same command again")

    def _stop(self) -> None:
        processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
            process.wait()
        for thread in self._threads:  # they read to the end
            thread.join()
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    assert pipe is not None, "it was opened with pipes"
                    pipe.close()


def _start(folder: Path, *, threads: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in (*sys.path, _HOME) if path)),
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "electra.corpus.worker", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,  # Ctrl-C is for the parent
    )


def _serve(
    process: subprocess.Popen[str],
    plan: Plan,
    stage: str,
    waiting: queue.SimpleQueue[int],
    heard: queue.SimpleQueue[dict[str, Any] | None],
) -> None:
    """Give a process parts until none is left, and pass on what it says."""
    assert process.stdin is not None, "it was opened with pipes"
    assert process.stdout is not None, "it was opened with pipes"
    try:
        while True:
            number = waiting.get_nowait()
            process.stdin.write(f"{stage} {number}\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                heard.put(message)
                if "done" in message or "error" in message:
                    break
            else:
                code = process.wait()
                first = plan.parts[number].pieces[0].path
                said = f"a process that prepared {first} ended (exit {code}): out of memory?"
                heard.put({"error": said, "kind": "ElectraError"})
                return
    except queue.Empty:
        pass
    except BrokenPipeError:
        heard.put({"error": "a process that prepared text has ended", "kind": "ElectraError"})
    finally:
        heard.put(None)


if __name__ == "__main__":
    main(sys.argv[1])
