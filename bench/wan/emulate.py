"""A wide-area network between hosts on TUN devices, for kernels without netem: every host's sending side has a rate,
a queue, a delay and a loss. Prints "ready" when the devices exist; runs until its standard input ends.

usage: emulate.py HOSTS RATE_BITS_PER_S ONE_WAY_DELAY_MS LOSS QUEUE_MS PREFIX SEED
Host i is device PREFIX + i and the address 10.78.0.(i + 1); what goes elsewhere is dropped.
"""
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

hosts, rate, delay, loss, queue = (
    int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]) / 1e3, float(sys.argv[4]), float(sys.argv[5]) / 1e3
)
prefix, seed = sys.argv[6], int(sys.argv[7])
rng = random.Random(seed)


def open_tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


devices = [open_tun(f"{prefix}{i}") for i in range(hosts)]
host_of = {fd: i for i, fd in enumerate(devices)}
poll = select.epoll()
for fd in devices:
    poll.register(fd, select.EPOLLIN)
poll.register(0, select.EPOLLIN | select.EPOLLHUP)
print("ready", flush=True)

free_at = [0.0] * hosts  # when the sending side of a host has sent all it holds
in_flight = []  # (when it arrives, order, device, packet)
order = 0
running = True
while running:
    now = time.monotonic()
    while in_flight and in_flight[0][0] <= now:
        _, _, fd, packet = heapq.heappop(in_flight)
        try:
            os.write(fd, packet)
        except OSError:
            pass  # the device is down or its queue is full: a lost packet, as on any network
    wait = max(0.0, in_flight[0][0] - now) if in_flight else 1.0
    for fd, _ in poll.poll(wait):
        if fd == 0:
            running = bool(os.read(0, 4096))
            continue
        sender = host_of[fd]
        for _ in range(64):
            try:
                packet = os.read(fd, 65536)
            except BlockingIOError:
                break
            now = time.monotonic()
            if len(packet) < 20 or packet[0] >> 4 != 4 or packet[16:19] != b"\x0a\x4e\x00":
                continue
            target = packet[19] - 1
            begins = max(now, free_at[sender])
            if not 0 <= target < hosts or begins - now > queue:
                continue
            free_at[sender] = begins + len(packet) * 8 / rate
            if rng.random() < loss:
                continue
            order += 1
            heapq.heappush(in_flight, (free_at[sender] + delay, order, devices[target], packet))
