"""LZ4 frame format 1.6.x in pure Python: a full decoder, and an encoder that stores blocks uncompressed."""

import struct

MAGIC = 0x184D2204
_P1, _P2, _P3, _P4, _P5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
_M32 = 0xFFFFFFFF


class Lz4Error(ValueError):
    """The bytes are not one whole LZ4 frame."""


def _rotl(x, r):
    return ((x << r) | (x >> (32 - r))) & _M32


def xxh32(data, seed=0):
    """xxHash32, which checksums frame headers, blocks and contents."""
    n, i = len(data), 0
    if n >= 16:
        v = [(seed + _P1 + _P2) & _M32, (seed + _P2) & _M32, seed, (seed - _P1) & _M32]
        while i + 16 <= n:
            for lane in range(4):
                word = struct.unpack_from("<I", data, i + 4 * lane)[0]
                v[lane] = (_rotl((v[lane] + word * _P2) & _M32, 13) * _P1) & _M32
            i += 16
        h = (_rotl(v[0], 1) + _rotl(v[1], 7) + _rotl(v[2], 12) + _rotl(v[3], 18)) & _M32
    else:
        h = (seed + _P5) & _M32
    h = (h + n) & _M32
    while i + 4 <= n:
        h = (_rotl((h + struct.unpack_from("<I", data, i)[0] * _P3) & _M32, 17) * _P4) & _M32
        i += 4
    while i < n:
        h = (_rotl((h + data[i] * _P5) & _M32, 11) * _P1) & _M32
        i += 1
    h = ((h ^ (h >> 15)) * _P2) & _M32
    h = ((h ^ (h >> 13)) * _P3) & _M32
    return h ^ (h >> 16)


def _length(block, i, length):
    if length == 15:
        while True:
            byte = block[i]
            i += 1
            length += byte
            if byte != 255:
                break
    return i, length


def _decode_block(block, out, limit):
    """Appends one compressed block to `out`; matches may reach into what is there already (linked blocks)."""
    i = 0
    while i < len(block):
        token = block[i]
        i, literals = _length(block, i + 1, token >> 4)
        if i + literals > len(block):
            raise Lz4Error("literals reach past the block")
        out += block[i : i + literals]
        i += literals
        if len(out) > limit:
            raise Lz4Error("more data than expected")
        if i == len(block):
            return
        offset = struct.unpack_from("<H", block, i)[0]
        i, match = _length(block, i + 2, token & 15)
        match += 4
        if offset == 0 or offset > len(out) or len(out) + match > limit:
            raise Lz4Error("a match reaches outside the data")
        start = len(out) - offset
        if offset >= match:
            out += out[start : start + match]
        else:
            piece = bytes(out[start:])
            out += (piece * (match // offset + 1))[:match]


def decompress(frame, expected):
    """The contents of exactly one frame, which must be `expected` bytes."""
    try:
        return _decompress(frame, expected)
    except (IndexError, struct.error) as error:
        raise Lz4Error("the frame ends early") from error


def _decompress(frame, expected):
    magic, flags, descriptor = struct.unpack_from("<IBB", frame)
    if magic != MAGIC or flags >> 6 != 1 or flags & 0b11 or descriptor & 0x8F or not 4 <= descriptor >> 4 <= 7:
        raise Lz4Error("not a version 01 frame without dictionary")
    i = 6
    if flags & 0b1000:
        if struct.unpack_from("<Q", frame, i)[0] != expected:
            raise Lz4Error("the content size is not what was expected")
        i += 8
    if (xxh32(frame[4:i]) >> 8) & 0xFF != frame[i]:
        raise Lz4Error("the header checksum is wrong")
    i += 1
    block_max = 1 << (2 * (descriptor >> 4) + 8)
    out = bytearray()
    while True:
        size = struct.unpack_from("<I", frame, i)[0]
        i += 4
        if size == 0:
            break
        block = frame[i : i + (size & 0x7FFFFFFF)]
        i += size & 0x7FFFFFFF
        if i > len(frame):
            raise Lz4Error("a block reaches past the end")
        start = len(out)
        if size & 0x80000000:
            out += block
        else:
            _decode_block(block, out, min(expected, start + block_max))
        if len(out) > min(expected, start + block_max):
            raise Lz4Error("more data than expected")
        if flags & 0b10000:
            if struct.unpack_from("<I", frame, i)[0] != xxh32(block):
                raise Lz4Error("a block checksum is wrong")
            i += 4
    if flags & 0b100:
        if struct.unpack_from("<I", frame, i)[0] != xxh32(bytes(out)):
            raise Lz4Error("the content checksum is wrong")
        i += 4
    if i != len(frame) or len(out) != expected:
        raise Lz4Error("the frame or its contents have another length than expected")
    return bytes(out)


def store(data):
    """A valid frame around uncompressed 64 KiB blocks, with content size and content checksum."""
    head = struct.pack("<BBQ", 0b01101100, 0x40, len(data))
    out = [struct.pack("<I", MAGIC), head, bytes([(xxh32(head) >> 8) & 0xFF])]
    for i in range(0, len(data), 65536):
        block = data[i : i + 65536]
        out += [struct.pack("<I", len(block) | 0x80000000), block]
    return b"".join(out) + struct.pack("<II", 0, xxh32(data))
