"""Makes the DELTA vectors of this folder: python3 make_vectors.py [--tools], run once; the files are kept.

The bytes come from test/interop/delta_reference.py, which shares no code with packages/wire. With --tools also the
two files whose tensors the lz4 and zstd command line tools compressed (1.9.4 and 1.5.4 made the ones kept here).
"""

import hashlib
import json
import math
import pathlib
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "interop"))
import delta_reference as reference  # noqa: E402

METADATA = {
    "worker_id": "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
    "job": "vectors",
    "view": "ring-€",
    "epoch": 1,
    "round": 2,
    "sequence": 3,
    "step_first": 4,
    "step_last": 5,
    "timestamp": "2026-01-31T12:00:00.5Z",
    "loss": -1e-7,
    "reward_mean": 0.25,
    "base_model": {"id": "arith", "sha256": "a1" * 32},
    "state_before": "b2" * 32,
    "state_after": "c3" * 32,
    "trace_sha3_256": None,
    "attestation": {"type": "none"},
    "binding": None,
    "extra": {"\ufb33": 1e21, "\U0001f600": [1.5, 1e-5, 123456789012345680000]},
}


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def wave(count, step):
    return [f32(math.sin(step * i) * (1 + i % 5)) for i in range(count)]


TENSORS = [
    {"name": "f32", "dtype": "f32", "shape": [2, 3], "values": [f32(v) for v in (0, -0.0, 1, 1e-45, -3.4e38, 0.1)]},
    {"name": "f16", "dtype": "f16", "shape": [5], "values": [f32(v) for v in (0.1, -65504, 6e-8, 1.0009766, 2049)]},
    {"name": "bf16", "dtype": "bf16", "shape": [2, 2], "values": [f32(v) for v in (0.1, -1e38, 1e-40, 257)]},
    {"name": "i8", "dtype": "i8", "shape": [300], "values": wave(300, 0.7)},
    {"name": "i8.zero", "dtype": "i8", "shape": [3], "values": [0.0, 0.0, 0.0]},
    {"name": "bitdelta", "dtype": "bitdelta", "shape": [20, 17], "values": wave(340, 0.3)},
    {"name": "empty", "dtype": "bitdelta", "shape": [0, 4], "values": []},
    {"name": "scalar", "dtype": "f32", "shape": [], "values": [2.5]},
    {"name": "\U0001f600", "dtype": "f32", "shape": [1] * 255, "values": [1.0]},
    {"name": "\uff5e", "dtype": "f16", "shape": [600], "values": [1.0] * 600},
]


def with_size(command):
    """Tools write a frame's content size only when they know it: give them a file, not a pipe."""

    def run(data):
        path = HERE / "tmp.bin"
        path.write_bytes(data)
        try:
            return subprocess.run([*command, str(path)], capture_output=True, check=True).stdout
        finally:
            path.unlink()

    return run


def bad_files(good):
    """Hostile variants of `good` and the WireErrorCode each must give."""

    def fixed(body):
        return good[:8] + hashlib.sha3_256(body).digest()[:16] + body

    length = struct.unpack_from("<I", good, 24)[0]
    text, rest = good[28 : 28 + length], good[28 + length :]
    no_tensors = good[24 : 28 + length]
    one = struct.pack("<I1sBBQQ", 1, b"a", 0, 1, 1, 4)
    sized = lambda meta: struct.pack("<I", len(meta)) + meta  # noqa: E731
    return {
        "bad-magic": (b"D" + b"E" * 4 + good[5:], "BAD_DELTA"),
        "bad-version": (good[:5] + b"\2" + good[6:], "UNSUPPORTED"),
        "bad-checksum": (good[:8] + bytes(16) + good[24:], "BAD_CHECKSUM"),
        "bad-cut": (good[:-1], "TRUNCATED"),
        "bad-trailing": (good + b"\0", "BAD_DELTA"),
        "bad-json-order": (fixed(sized(text.replace(b'{"attestation":{"type":"none"},', b"{")[:-1] + b',"attestation":{"type":"none"}}') + rest), "BAD_JSON"),
        "bad-json-duplicate": (fixed(sized(b'{"a":1,"a":1}') + rest), "BAD_JSON"),
        "bad-metadata": (fixed(sized(text.replace(b'"round":2', b'"round":-2')) + rest), "BAD_METADATA"),
        "bad-count": (fixed(no_tensors + b"\xff" * 4), "LIMIT_EXCEEDED"),
        "bad-duplicate-name": (fixed(no_tensors + struct.pack("<I", 2) + 2 * (one + bytes(4))), "BAD_DELTA"),
        "bad-nan": (fixed(no_tensors + struct.pack("<I", 1) + one + b"\0\0\xc0\x7f"), "NON_FINITE"),
        "bad-length": (fixed(no_tensors + struct.pack("<I", 1) + one[:-8] + b"\xff" * 8), "BAD_DELTA"),
        "bad-shape": (fixed(no_tensors + struct.pack("<II1sBB3Q", 1, 1, b"a", 0, 2, 2**40, 2**40, 4)), "LIMIT_EXCEEDED"),
    }


def main():
    expected = {"good": {}, "bad": {}}
    for compression in reference.COMPRESSIONS:
        name = compression if compression == "none" else f"{compression}-stored"
        (HERE / f"{name}.delta").write_bytes(reference.encode(METADATA, TENSORS, compression))
        expected["good"][name] = compression
    if "--tools" in sys.argv:
        reference.lz4_frame.store = with_size(["lz4", "-c", "-9", "--content-size", "-BX"])
        (HERE / "lz4-tool.delta").write_bytes(reference.encode(METADATA, TENSORS, "lz4"))
        reference.zstd_frame.store = with_size(["zstd", "-q", "-c", "-19"])
        (HERE / "zstd-tool.delta").write_bytes(reference.encode(METADATA, TENSORS, "zstd"))
    for name, compression in (("lz4-tool", "lz4"), ("zstd-tool", "zstd")):
        expected["good"][name] = compression
    for name, (data, code) in bad_files((HERE / "none.delta").read_bytes()).items():
        (HERE / f"{name}.delta").write_bytes(data)
        expected["bad"][name] = code
    expected["metadata"] = METADATA
    decoded = reference.decode((HERE / "none.delta").read_bytes())["tensors"]
    expected["tensors"] = [
        {**t, "values": struct.pack(f"<{len(t['values'])}f", *t["values"]).hex()} for t in decoded
    ]
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
