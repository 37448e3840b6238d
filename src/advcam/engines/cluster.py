"""Units of work over a Ray cluster: actors that are given one unit at a time.

Ray's own restarts and retries are off: an actor whose process dies is replaced, and its unit is tried again a bounded number
of times, alone image by image the last time, so that what kills a process is found, listed and passed over.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from advcam.errors import RunError, SettingsError
from advcam.process import keep_memory, usable_cores
from advcam.runtime import Runtime
from advcam.store import write_bytes
from advcam.store.atomic import BEGINNING

from . import node
from .work import Open, Row, Unit, Work, attempt

TRIES = 3
"""How often an image may end the process that makes it."""
ANSWER = 30.0
"""Seconds in which a cluster and each of its machines must answer."""
START = 300.0
"""Seconds in which at least one process must have started, where none works."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}
"""What Ray is told by the environment: to report nothing, to warn of nothing, and that its processes, which it would give the
least of a busy machine, are as important as this one."""
STORE = 100 * 2**20
"""Bytes of the object store of a cluster of this machine alone; ids and rows go through it, images do not."""


def rows_of_cluster(units: Sequence[Unit], work: Open, runtime: Runtime, folder: Path | None) -> Iterator[Row]:
    """Yields a row for every wanted image, in any order; see :func:`advcam.engines.rows`."""
    with _connected(runtime.address) as ray:
        needs: dict[str, Any] = {"num_cpus": torch.get_num_threads(), "num_gpus": int(runtime.kind == "cuda")}
        machines = _with_room(ray, needs)
        _look_at(ray, machines, folder and folder.resolve())
        count = min(runtime.actors or sum(machines.values()), len(units))
        yield from _shared_out(ray, units, work, needs, count)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connects to a cluster, or starts one of this machine, quietly; yields Ray.

    Raises:
        SettingsError: there is none at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    alone = {"num_cpus": usable_cores(), "object_store_memory": STORE, "include_dashboard": False}
    if where != "local":
        _need_answer(where)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(where, log_to_driver=False, logging_level=logging.ERROR, **(alone if where == "local" else {}))
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, RpcError, ...
        raise SettingsError(
            f"Ray at {where}: this process cannot join it ({_line(error)}); start it on a machine of the cluster, with the"
            " cluster's versions of Python and Ray"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's would exit with status 15
    try:
        yield ray
    finally:
        ray.shutdown()


def _need_answer(where: str) -> None:
    """Sees that a cluster answers, in a process of its own: Ray itself would try for a quarter of an hour, and say so.

    Raises:
        SettingsError: it does not.
    """
    if where.startswith("ray://"):
        raise SettingsError(
            f"Ray at {where}: a client's address is not enough; give HOST:PORT of the cluster's head, from one of its machines"
        )
    host, _, port = where.rpartition(":")
    if where != "auto" and not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise SettingsError(f"--address is HOST:PORT of a Ray cluster, such as 10.0.0.1:6379, or auto; got {where!r}")
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", where]
    try:
        if where != "auto":
            socket.create_connection((host.strip("[]"), int(port)), ANSWER / 3).close()
        subprocess.run(command, check=True, capture_output=True, timeout=ANSWER)
    except (OSError, subprocess.SubprocessError) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise SettingsError(
            f"Ray at {where}: no answer within {ANSWER:.0f} seconds{why}; `ray start --head` starts a cluster and says its"
            " address"
        ) from None


def _with_room(ray: Any, needs: dict[str, Any]) -> dict[str, int]:
    """Returns how many actors each machine has room for, by its id.

    Raises:
        SettingsError: none has any.
    """
    asked = {name: needs[f"num_{name.lower()}s"] for name in ("CPU", "GPU")}
    alive = [one for one in ray.nodes() if one["Alive"]]
    found = {
        one["NodeID"]: min(int(one["Resources"].get(name, 0) // count) for name, count in asked.items() if count)
        for one in alive
    }
    if not any(found.values()):
        most = {name: max(one["Resources"].get(name, 0) for one in alive) for name in asked}
        what = "a GPU, which --device cuda asks for" if asked["GPU"] and not most["GPU"] else f"{asked['CPU']} cores at once"
        advice = "--device cpu does without" if asked["GPU"] else "OMP_NUM_THREADS=1 asks for one each"
        raise SettingsError(f"none of the {len(alive)} machines of the Ray cluster has {what}; {advice}")
    return {name: count for name, count in found.items() if count}


def _look_at(ray: Any, machines: dict[str, int], folder: Path | None) -> None:
    """Sees that every machine has what this process has, and can write into the folder, where there is one.

    Raises:
        SettingsError: one lacks something; the message names the first, and how many others.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    known = folder and folder / f"{BEGINNING}{secrets.token_hex(4)}"
    if known:
        write_bytes(known, b"")
    ray.cloudpickle.register_pickle_by_value(node)
    try:
        look = ray.remote(num_cpus=0, max_retries=0)(node.look)
        file = str(known) if known else None
        answers = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote(file): name
            for name in machines
        }
        done, late = ray.wait(list(answers), num_returns=len(answers), timeout=ANSWER)
        wrong = [(answers[ref], f"has not answered within {ANSWER:.0f} seconds; check that machine") for ref in late]
        for ref in done:
            wrong += [(answers[ref], said) for said in _lacks(_got(ray, ref), folder)]
        there = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
        wrong = [(name, said) for name, said in wrong if name in there]  # one that was lost meanwhile lacks nothing
    finally:
        ray.cloudpickle.unregister_pickle_by_value(node)
        if known:
            known.unlink(missing_ok=True)
    if wrong:
        where = {one["NodeID"]: one["NodeManagerAddress"] for one in ray.nodes()}
        others = len({name for name, _ in wrong}) - 1
        more = f" (and {others} other machines lack something)" if others else ""
        raise SettingsError(f"machine {where[wrong[0][0]]} of the Ray cluster: {wrong[0][1]}{more}")


def _got(ray: Any, ref: Any) -> dict[str, Any]:
    try:
        return dict(ray.get(ref))
    except Exception as error:  # whatever its Python lacks
        return {"failed": _line(error)}


def _lacks(said: dict[str, Any], folder: Path | None) -> Iterator[str]:
    """Yields what a machine lacks, by its answer."""
    if "failed" in said:
        yield f"cannot run Python code of this one ({said['failed']})"
        return
    here, there = node.versions(), said["versions"]
    for name in here:
        if name not in there:
            yield f"{name} is not installed for {said['python']}; install {name} {here[name].split()[0]} there"
        elif there[name] != here[name]:
            yield f"has {name} {there[name]}, this process {here[name]}; results would differ: install the same on all machines"
    if said["folder"]:
        yield f"{folder} {said['folder']}; the run folder must be on a disk that all machines share, at the same path"


class Actor:
    """A process of the cluster that makes the images of one unit after another."""

    def __init__(self, threads: int) -> None:
        keep_memory()
        torch.set_num_threads(threads)
        self.work: Work | None = None

    def open(self, packed: bytes) -> None:
        """Loads what the work needs."""
        ray = importlib.import_module("ray")
        try:
            self.work = ray.cloudpickle.loads(packed)()
        except SettingsError as error:
            raise SettingsError(f"machine {ray.util.get_node_ip_address()} of the Ray cluster: {error}") from None

    def make(self, unit: Unit) -> list[Row]:
        """Makes the wanted images of a unit."""
        assert self.work is not None
        return attempt(self.work, unit)


def _shared_out(ray: Any, units: Sequence[Unit], work: Open, needs: dict[str, Any], count: int) -> Iterator[Row]:
    """Yields the rows of units that ``count`` actors make.

    Raises:
        RunError: processes cannot be started, or die whatever they are given.
        AdvcamError: raised by the work.
    """
    kind = ray.remote(max_restarts=0, max_task_retries=0, **needs)(Actor)
    packed = ray.put(ray.cloudpickle.dumps(work))
    waiting, deaths, fruitless = deque(units), Counter[Unit](), Counter[str]()
    busy: dict[Any, tuple[Any, Unit | None]] = {}
    idle: list[Any] = []

    def start() -> None:
        actor = kind.remote(needs["num_cpus"])
        busy[actor.open.remote(packed)] = actor, None

    try:
        for _ in range(count):
            start()
        while waiting or any(unit for _, unit in busy.values()):
            while waiting and idle:
                actor, unit = idle.pop(), waiting.popleft()
                busy[actor.make.remote(unit)] = actor, unit
            for ref in _next(ray, busy):
                actor, given = busy.pop(ref)
                what = "starts" if given is None else "units"
                try:
                    made = ray.get(ref) or ()
                except ray.exceptions.RayTaskError as error:
                    idle.append(actor)
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    fruitless[what] += 1
                    _need_hope(fruitless, count, _why(ray, error))
                    ray.kill(actor)  # one that is only out of reach must not go on
                    start()
                    if given:
                        again, lost = _after_death(given, deaths, _why(ray, error))
                        waiting.extend(again)
                        yield from lost
                else:
                    fruitless.clear() if given else fruitless.pop(what, None)
                    idle.append(actor)
                    yield from made
    finally:
        for actor in [*idle, *(actor for actor, _ in busy.values())]:
            with contextlib.suppress(Exception):  # the cluster may be gone
                ray.kill(actor)


def _next(ray: Any, busy: dict[Any, tuple[Any, Unit | None]]) -> list[Any]:
    """Waits until an actor has started, made its unit or died.

    Raises:
        RunError: none works, and none can be started.
    """
    works = any(unit for _, unit in busy.values())
    done, _ = ray.wait(list(busy), timeout=None if works else START)
    if not done:
        raise RunError(
            f"no process has started on the Ray cluster within {START:.0f} seconds: other work holds its cores, or machines are"
            " gone; what is done is kept, give the same command again"
        )
    return list(done)


def _after_death(unit: Unit, deaths: Counter[Unit], why: str) -> tuple[list[Unit], list[Row]]:
    """Returns what is tried again of a unit whose process died, and rows of what is not: it has died ``TRIES`` times.

    The last time, each image is made alone, with the others of its batch only in shape.
    """
    deaths[unit] += 1
    if deaths[unit] >= TRIES:
        said = f"the process that made it died {TRIES} times; the last time {why}"
        return [], [Row(name, left_out=said) for name in unit.wanted]
    if deaths[unit] < TRIES - 1 or len(unit.wanted) == 1:
        return [unit], []
    parts = unit.apart()
    deaths.update(dict.fromkeys(parts, deaths[unit]))
    return parts, []


def _need_hope(fruitless: Counter[str], count: int, why: str) -> None:
    """Stops where every process dies while it loads the network, or with whatever image it is given.

    Raises:
        RunError: so many have died one after another.
    """
    if fruitless["starts"] < max(TRIES, count) and fruitless["units"] < 5 * TRIES + count:
        return
    when = "while they loaded what they need" if fruitless["starts"] else "and no image was made in between"
    number = fruitless["starts"] or fruitless["units"]
    raise RunError(
        f"{number} processes of the Ray cluster died one after another, {when}, the last because {why}; what is done is kept"
    )


def _why(ray: Any, error: BaseException) -> str:
    """Says why a process died."""
    text = str(error)
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "OOM" in text.split("(1)")[0]:
        return "its machine ran out of memory"
    if isinstance(error, ray.exceptions.NodeDiedError) or "node has died" in text or "node was terminated" in text:
        return "its machine was lost"
    return "it crashed or was killed"


def _line(error: BaseException) -> str:
    """Returns the last line of what an error says, which names it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
