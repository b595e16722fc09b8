"""Reference reader and writer of DELTA version 1, written from docs/DELTA.md with the Python standard library alone.

    python3 delta_reference.py decode FILE...       a JSON list on stdout: metadata, tensors, signatures, or the error
    python3 delta_reference.py encode SPEC FILE     SPEC is JSON: metadata, compression, tensors (values: hex of f32)

Exit code 1 when a file breaks the format. Frames are read in full (lz4_frame.py, zstd_frame.py)
and written with uncompressed blocks.
"""

import base64
import datetime
import hashlib
import json
import math
import re
import struct
import sys

import ed25519
import lz4_frame
import ml_dsa_87
import zstd_frame

DTYPES = ["f32", "f16", "bf16", "i8", "bitdelta"]
COMPRESSIONS = ["none", "lz4", "zstd"]
I8_BLOCK = 256
BITDELTA_MIN = 256
SCHEMES = {1: ("ed25519", 32, 64, ed25519.verify), 2: ("ml-dsa-87", 2592, 4627, ml_dsa_87.verify)}


class DeltaError(ValueError):
    """The file is not a valid DELTA version 1 file."""


def require(condition, message):
    if not condition:
        raise DeltaError(message)


# --- canonical JSON (RFC 8785) ---


def _number(value):
    """ECMAScript's Number::toString, which RFC 8785, section 3.2.2.3, prescribes."""
    if isinstance(value, int) and abs(value) < 2**53:
        return str(value)
    value = float(value)
    require(math.isfinite(value), "a number that is not finite")
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    # Python's repr and ECMAScript agree on the digits (the shortest that read back), not on where the point goes.
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    n = int(exponent or 0) + (len(whole) if whole != "0" else len(fraction.lstrip("0")) - len(fraction))
    digits = digits.rstrip("0")
    k = len(digits)
    if k <= n <= 21:
        return sign + digits + "0" * (n - k)
    if 0 < n <= 21:
        return f"{sign}{digits[:n]}.{digits[n:]}"
    if -6 < n <= 0:
        return f"{sign}0.{'0' * -n}{digits}"
    tail = f".{digits[1:]}" if k > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if n > 0 else '-'}{abs(n - 1)}"


def canonical(value):
    """RFC 8785 text of a JSON value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return "{" + ",".join(f"{canonical(k)}:{canonical(v)}" for k, v in members) + "}"


# --- packed tensor data ---


def element_count(shape):
    return math.prod(shape)


def bitdelta_layout(shape, elements):
    """(elements one scale covers, number of scales)."""
    if elements == 0:
        return 1, 0
    columns = shape[-1] if shape else 1
    rows_per_scale = -(-BITDELTA_MIN // columns)
    return rows_per_scale * columns, -(-(elements // columns) // rows_per_scale)


def packed_bytes(dtype, shape, elements):
    if dtype == "f32":
        return 4 * elements
    if dtype in ("f16", "bf16"):
        return 2 * elements
    if dtype == "i8":
        return 4 * -(-elements // I8_BLOCK) + elements
    return 4 * bitdelta_layout(shape, elements)[1] + -(-elements // 8)


def _f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def unpack(dtype, shape, elements, data):
    """Elements as Python floats that are exact float32 values."""
    if dtype == "f32":
        values = list(struct.unpack(f"<{elements}f", data))
    elif dtype == "f16":
        values = list(struct.unpack(f"<{elements}e", data))
    elif dtype == "bf16":
        halves = struct.unpack(f"<{elements}H", data)
        values = [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]
    elif dtype == "i8":
        blocks = -(-elements // I8_BLOCK)
        scales = struct.unpack_from(f"<{blocks}f", data)
        quants = struct.unpack_from(f"<{elements}b", data, 4 * blocks)
        require(all(math.copysign(1, s) > 0 for s in scales), "a negative i8 scale")
        require(-128 not in quants, "an i8 element of -128")
        products = [q * scales[i // I8_BLOCK] for i, q in enumerate(quants)]
        require(all(abs(p) < 3.4028235677973366e38 for p in products), "an i8 product over float32")
        values = [_f32(p) for p in products]
    else:
        group, count = bitdelta_layout(shape, elements)
        scales = struct.unpack_from(f"<{count}f", data)
        require(all(math.copysign(1, s) > 0 for s in scales), "a negative bitdelta scale")
        signs = int.from_bytes(data[4 * count :], "little")
        require(signs >> elements == 0, "set padding bits")
        values = [scales[i // group] if signs >> i & 1 else -scales[i // group] for i in range(elements)]
    require(all(map(math.isfinite, values)), "a value that is not finite")
    return values


def pack(dtype, shape, values):
    """Packed bytes of float32 values; the same choices as the TypeScript writer, so that bytes can be compared."""
    n = len(values)
    require(all(map(math.isfinite, values)), "a value that is not finite")
    if dtype == "f32":
        return struct.pack(f"<{n}f", *values)
    if dtype == "f16":
        return struct.pack(f"<{n}e", *values)
    if dtype == "bf16":
        bits = struct.unpack(f"<{n}I", struct.pack(f"<{n}f", *values))
        return struct.pack(f"<{n}H", *[(u + 0x7FFF + (u >> 16 & 1)) >> 16 for u in bits])
    if dtype == "i8":
        scales, quants = [], []
        for start in range(0, n, I8_BLOCK):
            block = values[start : start + I8_BLOCK]
            scale = _f32(max(map(abs, block)) / 127)
            scales.append(scale)
            for value in block:
                ratio = value / scale if scale else 0.0
                floor = math.floor(ratio)
                quants.append(max(-127, min(127, floor + (ratio - floor >= 0.5))))
        return struct.pack(f"<{len(scales)}f{n}b", *scales, *quants)
    group, count = bitdelta_layout(shape, n)
    scales = []
    for s in range(count):
        block = values[s * group : (s + 1) * group]
        total = 0.0
        for value in block:
            total += abs(value)
        scales.append(total / len(block))
    signs = sum(1 << i for i, value in enumerate(values) if value > 0)
    return struct.pack(f"<{count}f", *scales) + signs.to_bytes(-(-n // 8), "little")


# --- metadata ---

_HASH = re.compile("[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def _count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _text(value):
    return isinstance(value, str) and 1 <= len(value.encode("utf-16-le")) // 2 <= 1024


def _number_or_null(value):
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _hash(value):
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _time(value):
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.datetime.strptime(value[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return False
    return True


MEMBERS = {
    "worker_id": _text,
    "job": _text,
    "view": _text,
    "epoch": _count,
    "round": _count,
    "sequence": _count,
    "step_first": _count,
    "step_last": _count,
    "timestamp": _time,
    "loss": _number_or_null,
    "reward_mean": _number_or_null,
    "base_model": lambda v: isinstance(v, dict) and _text(v.get("id")) and _hash(v.get("sha256")),
    "state_before": _hash,
    "state_after": _hash,
    "trace_sha3_256": lambda v: v is None or _hash(v),
    "attestation": lambda v: isinstance(v, dict) and _text(v.get("type")),
    "binding": lambda v: v is None or isinstance(v, str),
}


def check_metadata(metadata):
    require(isinstance(metadata, dict), "metadata is not an object")
    for member, is_valid in MEMBERS.items():
        require(member in metadata and is_valid(metadata[member]), f"metadata lacks a valid {member}")
    require(metadata["step_first"] <= metadata["step_last"], "step_first is after step_last")


# --- files ---


class Cursor:
    def __init__(self, data):
        self.data, self.offset = data, 0

    def take(self, size):
        require(self.offset + size <= len(self.data), f"the file ends inside byte {self.offset + size}")
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def u(self, size):
        return int.from_bytes(self.take(size), "little")


def read_tensor(cursor, compression, previous):
    name_bytes = cursor.take(cursor.u(4))
    require(0 < len(name_bytes) <= 1024 and name_bytes > previous, "an empty, repeated or unsorted name")
    name = name_bytes.decode("utf-8")
    code, rank = cursor.u(1), cursor.u(1)
    require(code < len(DTYPES), f"dtype code {code}")
    dtype, shape = DTYPES[code], [cursor.u(8) for _ in range(rank)]
    require(all(dimension < 2**53 for dimension in shape), "a dimension of 2^53 or more")
    elements = element_count(shape)
    expected = packed_bytes(dtype, shape, elements)
    stored = cursor.take(cursor.u(8))
    if expected == 0 or compression == "none":
        data = stored
    else:
        data = (lz4_frame.decompress if compression == "lz4" else zstd_frame.decompress)(stored, expected)
    require(len(data) == expected, f"tensor {name} has {len(data)} bytes, its shape says {expected}")
    return name_bytes, {"name": name, "dtype": dtype, "shape": shape, "values": unpack(dtype, shape, elements, data)}


def verify_binding(encoded):
    """(Ed25519 key, ML-DSA-87 key) when each has signed the other, else None."""
    if encoded is None:
        return None
    cursor = Cursor(base64.b64decode(encoded, validate=True))
    require(cursor.u(1) == 1, "a key binding of another version")
    ed, ml, ed_signature, ml_signature = (cursor.take(size) for size in (32, 2592, 64, 4627))
    label = b"gym-binding-v1\0"
    good = ed25519.verify(ed, label + ml, ed_signature) and ml_dsa_87.verify(ml, label + ed, ml_signature)
    return (ed, ml) if good else None


def peer_id(ed25519_key):
    """libp2p peer id: base58btc of the identity multihash of the key's protobuf."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(b"\x00\x24\x08\x01\x12\x20" + ed25519_key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return "1" + text  # the multihash begins with one zero byte


def decode(data):
    cursor = Cursor(data)
    require(cursor.take(5) == b"DELTA", "not a DELTA file")
    version, compression, flags = cursor.u(1), cursor.u(1), cursor.u(1)
    require(version == 1 and compression < 3 and flags < 2, "another version, compression or flag")
    checksum = cursor.take(16)
    text = cursor.take(cursor.u(4)).decode("utf-8")
    metadata = json.loads(text)
    require(canonical(metadata) == text, "metadata is not in RFC 8785 form")
    check_metadata(metadata)
    tensors, previous = [], b""
    for _ in range(cursor.u(4)):
        previous, tensor = read_tensor(cursor, COMPRESSIONS[compression], previous)
        tensors.append(tensor)
    body_end = cursor.offset
    require(hashlib.sha3_256(data[24:body_end]).digest()[:16] == checksum, "the checksum is wrong")
    signatures = []
    if flags & 1:
        message = b"gym-delta-v1\0" + hashlib.sha3_256(data[:body_end]).digest()
        last = 0
        for _ in range(cursor.u(2)):
            code = cursor.u(1)
            require(code in SCHEMES and code > last, f"signature scheme {code}")
            last = code
            scheme, key_bytes, signature_bytes, verify = SCHEMES[code]
            key, signature = cursor.take(cursor.u(2)), cursor.take(cursor.u(2))
            require((len(key), len(signature)) == (key_bytes, signature_bytes), "a key or signature of another length")
            signatures.append({"scheme": scheme, "key": key.hex(), "ok": verify(key, message, signature)})
    require(cursor.offset == len(data), "bytes follow the end")
    bound = verify_binding(metadata.get("binding"))
    return {
        "compression": COMPRESSIONS[compression],
        "signed": bool(flags & 1),
        "metadata": metadata,
        "body_sha3_256": hashlib.sha3_256(data[24:body_end]).hexdigest(),
        "tensors": tensors,
        "signatures": signatures,
        "bound_peer_id": None if bound is None else peer_id(bound[0]),
        "bound_keys": None if bound is None else [key.hex() for key in bound],
    }


def encode(metadata, tensors, compression):
    """An unsigned file. `tensors`: dicts with name, dtype, shape, values."""
    text = canonical(metadata).encode("utf-8")
    body = [struct.pack("<I", len(text)), text, struct.pack("<I", len(tensors))]
    for tensor in sorted(tensors, key=lambda t: t["name"].encode("utf-8")):
        name, shape = tensor["name"].encode("utf-8"), tensor["shape"]
        data = pack(tensor["dtype"], shape, tensor["values"])
        if data and compression != "none":
            data = lz4_frame.store(data) if compression == "lz4" else zstd_frame.store(data)
        body.append(struct.pack("<I", len(name)) + name)
        body.append(struct.pack(f"<BB{len(shape)}QQ", DTYPES.index(tensor["dtype"]), len(shape), *shape, len(data)))
        body.append(data)
    joined = b"".join(body)
    header = b"DELTA" + bytes([1, COMPRESSIONS.index(compression), 0])
    return header + hashlib.sha3_256(joined).digest()[:16] + joined


REFUSALS = (DeltaError, lz4_frame.Lz4Error, zstd_frame.ZstdError, UnicodeDecodeError, json.JSONDecodeError)


def report_of(path):
    """The decoded file with its values as hex of float32, or {"error": why it was refused}."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        report = decode(data)
    except REFUSALS as error:
        return {"error": f"{type(error).__name__}: {error}"}
    for tensor in report["tensors"]:
        tensor["values"] = struct.pack(f"<{len(tensor['values'])}f", *tensor["values"]).hex()
    return report


def main(arguments):
    if len(arguments) >= 2 and arguments[0] == "decode":
        reports = [report_of(path) for path in arguments[1:]]
        json.dump(reports, sys.stdout)
        return int(any("error" in report for report in reports))
    if len(arguments) == 3 and arguments[0] == "encode":
        with open(arguments[1], encoding="utf-8") as file:
            spec = json.load(file)
        for tensor in spec["tensors"]:
            raw = bytes.fromhex(tensor["values"])
            tensor["values"] = list(struct.unpack(f"<{len(raw) // 4}f", raw))
        with open(arguments[2], "wb") as file:
            file.write(encode(spec["metadata"], spec["tensors"], spec["compression"]))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
