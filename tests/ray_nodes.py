"""A Ray cluster of several nodes on this one machine, for tests and trials."""

import os
import socket
from contextlib import ExitStack

STORE = 80 << 20  # bytes of a node's object store, about the least that Ray takes
ATTEMPTS = 10  # at a node, on a busy machine
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def start(workers=2):
    """A head without cores and so many workers of one; returns Ray's `Cluster`."""
    # a busy machine takes longer than Ray is used to
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "60")
    os.environ.setdefault("RAY_agent_register_timeout_ms", "600000")
    os.environ.setdefault("RAY_health_check_timeout_ms", "60000")
    os.environ.setdefault("RAY_worker_niceness", "0")  # by Ray's own habit workers give way to all else
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args=_node(0) | {"include_dashboard": False})
    for _ in range(workers):
        add(started)
    return started


def add(cluster, cpus=1):
    """Add a worker of so many cores and return it; again where its agents were not up in Ray's 15 seconds."""
    for attempt in range(ATTEMPTS):
        try:
            return cluster.add_node(**_node(cpus))
        except Exception:  # Ray has no narrower one
            if attempt == ATTEMPTS - 1:
                raise


def _node(cpus):
    """A node's arguments. Its agents' ports are given, for Ray gives up where an agent is slow to choose one."""
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in PORTS]
    return {"num_cpus": cpus, "object_store_memory": STORE} | dict(zip(PORTS, free, strict=True))
