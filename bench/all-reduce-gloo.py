"""Plaintext Gloo all-reduce for comparison: python all-reduce-gloo.py NODES MEGABYTES RUNS. Prints one JSON line."""
import json
import os
import resource
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def work(rank, nodes, megabytes, runs, port, queue):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=nodes)
    vector = torch.ones(megabytes * 1024 * 1024 // 4)
    times = []
    for run in range(runs + 2):
        vector.fill_(1.0)
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(vector)
        if run >= 2:
            times.append((time.perf_counter() - start) * 1e3)
        assert vector[-1].item() == nodes
    queue.put((times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    nodes, megabytes, runs = map(int, sys.argv[1:4])
    context = mp.get_context("spawn")
    queue = context.Queue()
    port = 29500 + os.getpid() % 1000
    args = [(rank, nodes, megabytes, runs, port, queue) for rank in range(nodes)]
    processes = [context.Process(target=work, args=a) for a in args]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    slowest = sorted(max(times[i] for times, _ in results) for i in range(runs))
    report = {"gloo": True, "nodes": nodes, "megabytes": megabytes, "median_ms": round(slowest[runs // 2], 2)}
    report.update(min_ms=round(slowest[0], 2), max_ms=round(slowest[-1], 2), peak_rss_mb=max(m for _, m in results))
    print(json.dumps(report))
