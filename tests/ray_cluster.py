"""A real Ray cluster of three machines, each a raylet of its own on this one."""

import contextlib
import os

import pytest

from advcam.engines import cluster

MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextlib.contextmanager
def machines():
    """Gives a cluster of three machines, one of them its head, with a core each; the environment stays as Ray needs it."""
    os.environ |= cluster.QUIET | {"OMP_NUM_THREADS": "1"}
    import ray
    from ray.cluster_utils import Cluster

    class Patient(Cluster):
        """Lets a machine take its time to start; Ray's own 30 seconds are few where other tests run too."""

        def _wait_for_node(self, node, timeout=300):
            super()._wait_for_node(node, timeout)

    # one that is gone is missed at once all the same; and memory that other tests take is no reason to end a process
    patient = {"_system_config": {"health_check_timeout_ms": 60_000, "memory_monitor_refresh_ms": 0}}
    made = Patient(initialize_head=True, head_node_args=MACHINE | patient)
    for _ in range(2):
        made.add_node(**MACHINE)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "ANSWER", 300.0)
            yield made
    finally:
        ray.shutdown()
        made.shutdown()
