"""ML-DSA-87 verification (FIPS 204, algorithms 3 and 8) in pure Python, pure mode with an empty context."""

import hashlib

Q, D, TAU, GAMMA1, GAMMA2, K, L, BETA, OMEGA = 8380417, 13, 60, 1 << 19, 261888, 8, 7, 120, 75
PUBLIC_KEY_BYTES, SIGNATURE_BYTES = 2592, 4627
ZETAS = [pow(1753, int(f"{i:08b}"[::-1], 2), Q) for i in range(256)]


def _ntt(w):
    """Algorithm 41."""
    w, m, length = list(w), 0, 128
    while length:
        for start in range(0, 256, 2 * length):
            m += 1
            z = ZETAS[m]
            for j in range(start, start + length):
                t = z * w[j + length] % Q
                w[j + length], w[j] = (w[j] - t) % Q, (w[j] + t) % Q
        length //= 2
    return w


def _inverse_ntt(w):
    """Algorithm 42."""
    w, m, length = list(w), 256, 1
    while length < 256:
        for start in range(0, 256, 2 * length):
            m -= 1
            z = -ZETAS[m]
            for j in range(start, start + length):
                t = w[j]
                w[j], w[j + length] = (t + w[j + length]) % Q, z * (t - w[j + length]) % Q
        length *= 2
    return [x * 8347681 % Q for x in w]


def _unpack(data, bits):
    """Little-endian fields of `bits` bits (algorithms 18 and 19 before their offset)."""
    number = int.from_bytes(data, "little")
    mask = (1 << bits) - 1
    return [(number >> (bits * i)) & mask for i in range(len(data) * 8 // bits)]


def _sample_ntt(rho, s, r):
    """Algorithm 30, RejNTTPoly."""
    size = 1024
    while True:
        stream = hashlib.shake_128(rho + bytes([s, r])).digest(size)
        found = []
        for i in range(0, size - 2, 3):
            value = stream[i] | stream[i + 1] << 8 | (stream[i + 2] & 0x7F) << 16
            if value < Q:
                found.append(value)
                if len(found) == 256:
                    return found
        size *= 2


def _sample_in_ball(seed):
    """Algorithm 29."""
    stream = hashlib.shake_256(seed).digest(1024)
    signs, at, c = int.from_bytes(stream[:8], "little"), 8, [0] * 256
    for i in range(256 - TAU, 256):
        while stream[at] > i:
            at += 1
        j = stream[at]
        at += 1
        c[i], c[j] = c[j], 1 - 2 * (signs & 1)
        signs >>= 1
    return c


def _hints(data):
    """Algorithm 21, HintBitUnpack; None when malformed."""
    hints, index = [[0] * 256 for _ in range(K)], 0
    for i in range(K):
        end = data[OMEGA + i]
        if end < index or end > OMEGA:
            return None
        for at in range(index, end):
            if at > index and data[at - 1] >= data[at]:
                return None
            hints[i][data[at]] = 1
        index = end
    return None if any(data[index:OMEGA]) else hints


def _use_hint(hint, r):
    """Algorithm 40 after algorithm 36."""
    r0 = r % (2 * GAMMA2)
    if r0 > GAMMA2:
        r0 -= 2 * GAMMA2
    if r - r0 == Q - 1:
        r1, r0 = 0, r0 - 1
    else:
        r1 = (r - r0) // (2 * GAMMA2)
    return (r1 + (1 if r0 > 0 else -1)) % 16 if hint else r1


def verify(public_key, message, signature):
    """Whether the signature is valid; False for malformed keys and signatures too."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    rho = public_key[:32]
    t1 = [_unpack(public_key[32 + 320 * i : 352 + 320 * i], 10) for i in range(K)]
    challenge = signature[:64]
    z = [[GAMMA1 - v for v in _unpack(signature[64 + 640 * i : 704 + 640 * i], 20)] for i in range(L)]
    hints = _hints(signature[64 + 640 * L :])
    if hints is None or any(abs(v) >= GAMMA1 - BETA for poly in z for v in poly):
        return False
    tr = hashlib.shake_256(public_key).digest(64)
    mu = hashlib.shake_256(tr + b"\0\0" + message).digest(64)
    z_hat = [_ntt([v % Q for v in poly]) for poly in z]
    c_hat = _ntt([v % Q for v in _sample_in_ball(challenge)])
    w1 = b""
    for r in range(K):
        row = [_sample_ntt(rho, s, r) for s in range(L)]
        t_hat = _ntt([(v << D) % Q for v in t1[r]])
        w_hat = [(sum(row[s][i] * z_hat[s][i] for s in range(L)) - c_hat[i] * t_hat[i]) % Q for i in range(256)]
        high = [_use_hint(h, v) for h, v in zip(hints[r], _inverse_ntt(w_hat))]
        w1 += bytes(high[i] | high[i + 1] << 4 for i in range(0, 256, 2))
    return hashlib.shake_256(mu + w1).digest(64) == challenge
