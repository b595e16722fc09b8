"""
Plaintext Gloo all-reduce for comparison: python all-reduce-gloo.py NODES MEGABYTES. Each line on standard input is one
run; each line on standard output is JSON: the slowest rank's milliseconds, the CPU milliseconds of all ranks, and the
largest rank's memory. The first line, {"ready": true}, comes when two warm-up runs are over.
"""
import json
import os
import resource
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(vector, nodes):
    vector.fill_(1.0)
    dist.barrier()
    cpu, start = time.process_time(), time.perf_counter()
    dist.all_reduce(vector)
    ms, cpu_ms = (time.perf_counter() - start) * 1e3, (time.process_time() - cpu) * 1e3
    assert vector[-1].item() == nodes
    return ms, cpu_ms, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def work(rank, nodes, megabytes, port, orders, results):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=nodes)
    vector = torch.ones(megabytes * 1024 * 1024 // 4)
    for _ in range(2):
        run(vector, nodes)
    results.put(None)
    while orders.get():
        results.put(run(vector, nodes))
    dist.destroy_process_group()


if __name__ == "__main__":
    nodes, megabytes = map(int, sys.argv[1:3])
    context = mp.get_context("spawn")
    orders, results = [context.Queue() for _ in range(nodes)], context.Queue()
    port = 29500 + os.getpid() % 1000
    for rank in range(nodes):
        args = (rank, nodes, megabytes, port, orders[rank], results)
        context.Process(target=work, args=args, daemon=True).start()
    for _ in range(nodes):
        results.get()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        for order in orders:
            order.put(True)
        times, cpu, memory = zip(*(results.get() for _ in range(nodes)))
        print(json.dumps({"ms": max(times), "cpuMs": sum(cpu), "rssMb": max(memory)}), flush=True)
