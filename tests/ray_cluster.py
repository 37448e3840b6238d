"""A real Ray cluster of three machines, each a raylet of its own on this one."""

import contextlib
import os

from advcam.engines import cluster

MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextlib.contextmanager
def machines():
    """Gives a cluster of three machines, one of them its head, with a core each; the environment stays as Ray needs it."""
    os.environ |= cluster.QUIET | {"OMP_NUM_THREADS": "1"}
    import ray
    from ray.cluster_utils import Cluster

    patient = {"_system_config": {"health_check_timeout_ms": 60_000}}  # one that is gone is missed at once all the same
    made = Cluster(initialize_head=True, head_node_args=MACHINE | patient)
    for _ in range(2):
        made.add_node(**MACHINE)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
