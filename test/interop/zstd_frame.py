"""Zstandard frames (RFC 8878) in pure Python: a full decoder without dictionaries, and an encoder that stores blocks raw."""

import struct

MAGIC = 0xFD2FB528
_M64 = 2**64 - 1
_X1, _X2, _X3 = 11400714785074694791, 14029467366897019727, 1609587929392839161
_X4, _X5 = 9650029242287828579, 2870177450012600261

# Section 3.1.1.3.2.1.1: baseline and extra bits of literal length, match length; section 3.1.1.3.2.2: default tables.
_LL = [(i, 0) for i in range(16)] + [(16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4)]
_LL += [(1 << bits, bits) for bits in range(6, 17)]
_ML = [(i + 3, 0) for i in range(32)] + [(35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3)]
_ML += [(67, 4), (83, 4), (99, 5)] + [((1 << bits) + 3, bits) for bits in range(7, 17)]
_LL_DEFAULT = [4, 3] + [2] * 11 + [1] * 3 + [2] * 9 + [3, 2] + [1] * 5 + [-1] * 4
_ML_DEFAULT = [1, 4, 3] + [2] * 6 + [1] * 37 + [-1] * 7
_OF_DEFAULT = [1] * 6 + [2] * 3 + [1] * 15 + [-1] * 5


class ZstdError(ValueError):
    """The bytes are not one whole Zstandard frame."""


def _require(condition, message):
    if not condition:
        raise ZstdError(message)


def _rotl(x, r):
    return ((x << r) | (x >> (64 - r))) & _M64


def xxh64(data):
    """xxHash64 with seed 0, whose low half is the content checksum."""
    n, i = len(data), 0
    if n >= 32:
        v = [(_X1 + _X2) & _M64, _X2, 0, -_X1 & _M64]
        while i + 32 <= n:
            for lane, word in enumerate(struct.unpack_from("<4Q", data, i)):
                v[lane] = _rotl((v[lane] + word * _X2) & _M64, 31) * _X1 & _M64
            i += 32
        h = (_rotl(v[0], 1) + _rotl(v[1], 7) + _rotl(v[2], 12) + _rotl(v[3], 18)) & _M64
        for lane in v:
            h = ((h ^ _rotl(lane * _X2 & _M64, 31) * _X1 & _M64) * _X1 + _X4) & _M64
    else:
        h = _X5
    h = (h + n) & _M64
    while i + 8 <= n:
        word = struct.unpack_from("<Q", data, i)[0]
        h = (_rotl(h ^ _rotl(word * _X2 & _M64, 31) * _X1 & _M64, 27) * _X1 + _X4) & _M64
        i += 8
    if i + 4 <= n:
        h = (_rotl(h ^ struct.unpack_from("<I", data, i)[0] * _X1 & _M64, 23) * _X2 + _X3) & _M64
        i += 4
    for byte in data[i:]:
        h = _rotl(h ^ byte * _X5 & _M64, 11) * _X1 & _M64
    h = (h ^ h >> 33) * _X2 & _M64
    h = (h ^ h >> 29) * _X3 & _M64
    return h ^ h >> 32


class _Backward:
    """Bits from the last byte's marker down to the first; past the start they read as zeros and `left` is negative."""

    def __init__(self, data):
        _require(len(data) > 0 and data[-1] != 0, "a bit stream without its end marker")
        self.data, self.left = data, 8 * len(data) - 9 + data[-1].bit_length()

    def read(self, count):
        self.left -= count
        if self.left >= 0:
            start, have, shift = self.left, count, 0
        else:
            start, have, shift = 0, max(0, count + self.left), min(count, -self.left)
        window = int.from_bytes(self.data[start >> 3 : (start + have + 7) >> 3], "little")
        return (window >> (start & 7) & ((1 << have) - 1)) << shift


class _Fse:
    """An FSE decoding table (section 4.1)."""

    def __init__(self, probabilities, log):
        size = 1 << log
        self.log, self.symbols = log, [0] * size
        high, following = size, {}
        for symbol, probability in enumerate(probabilities):
            if probability == -1:
                high -= 1
                self.symbols[high] = symbol
            following[symbol] = abs(probability)
        at, step = 0, (size >> 1) + (size >> 3) + 3
        for symbol, probability in enumerate(probabilities):
            for _ in range(max(0, probability)):
                self.symbols[at] = symbol
                at = (at + step) & (size - 1)
                while at >= high:
                    at = (at + step) & (size - 1)
        self.bits, self.base = [0] * size, [0] * size
        for state, symbol in enumerate(self.symbols):
            value = following[symbol]
            following[symbol] += 1
            self.bits[state] = log - value.bit_length() + 1
            self.base[state] = (value << self.bits[state]) - size

    def step(self, state, stream):
        return self.base[state] + stream.read(self.bits[state])

    @classmethod
    def single(cls, symbol):
        table = cls([1], 0)
        table.symbols = [symbol]
        return table


def _read_fse(data, max_log, max_symbols):
    """(table, bytes read): section 4.1.1."""
    position = 0

    def read(count):
        nonlocal position
        _require(position + count <= 8 * len(data) + 8, "an FSE table ends early")
        window = int.from_bytes(data[position >> 3 : (position >> 3) + 8], "little")
        value = window >> (position & 7) & ((1 << count) - 1)
        position += count
        return value

    log = read(4) + 5
    _require(log <= max_log, "an FSE table is too large")
    remaining, probabilities = 1 << log, []
    while remaining > 0:
        bits = (remaining + 1).bit_length()
        value = read(bits)
        low, threshold = (1 << (bits - 1)) - 1, (1 << bits) - 2 - remaining
        if value & low < threshold:
            position -= 1
            value &= low
        elif value > low:
            value -= threshold
        probabilities.append(value - 1)
        remaining -= abs(value - 1)
        while value == 1:
            repeat = read(2)
            probabilities += [0] * repeat
            if repeat != 3:
                break
        _require(len(probabilities) <= max_symbols, "an FSE table has too many symbols")
    _require(remaining == 0 and position <= 8 * len(data), "an FSE table does not add up")
    return _Fse(probabilities, log), (position + 7) >> 3


def _read_huffman(data):
    """((table, bits), bytes read): section 4.2.1."""
    first = data[0]
    if first >= 128:
        count = first - 127
        size = 1 + (count + 1) // 2
        nibbles = [n for byte in data[1:size] for n in (byte >> 4, byte & 15)]
        weights = nibbles[:count]
    else:
        size = 1 + first
        table, used = _read_fse(data[1:size], 6, 13)
        stream, weights = _Backward(data[1 + used : size]), []
        states = [stream.read(table.log), stream.read(table.log)]
        turn = 0
        while True:
            weights.append(table.symbols[states[turn]])
            states[turn] = table.step(states[turn], stream)
            turn ^= 1
            if stream.left < 0:
                weights.append(table.symbols[states[turn]])
                break
            _require(len(weights) < 255, "too many Huffman weights")
    total = sum(1 << (w - 1) for w in weights if w)
    _require(0 < total and max(weights) <= 11, "bad Huffman weights")
    max_bits = total.bit_length()
    left = (1 << max_bits) - total
    _require(left & (left - 1) == 0 and max_bits <= 11, "Huffman weights do not add up")
    weights.append(left.bit_length())
    entries = []
    for weight in range(1, max_bits + 1):
        for symbol, w in enumerate(weights):
            if w == weight:
                entries += [(symbol, max_bits + 1 - weight)] * (1 << (weight - 1))
    _require(len(entries) == 1 << max_bits, "a Huffman table with holes")
    return (entries, max_bits), size


def _huffman_stream(data, huffman, count):
    entries, max_bits = huffman
    stream, out, mask = _Backward(data), bytearray(), (1 << max_bits) - 1
    state = stream.read(max_bits)
    while stream.left > -max_bits:
        symbol, bits = entries[state]
        out.append(symbol)
        state = (state << bits | stream.read(bits)) & mask
    _require(stream.left == -max_bits and len(out) == count, "a Huffman stream of another length")
    return out


class _Frame:
    def __init__(self):
        self.out, self.offsets, self.huffman, self.tables = bytearray(), [1, 4, 8], None, [None, None, None]

    def literals(self, data):
        """(literals, bytes read): section 3.1.1.3.1."""
        kind, form = data[0] & 3, data[0] >> 2 & 3
        if kind < 2:
            size = {1: 2, 3: 3}.get(form, 1)
            count = int.from_bytes(data[:size], "little") >> (3 if size == 1 else 4)
            if kind == 1:
                return data[size : size + 1] * count, size + 1
            return data[size : size + count], size + count
        size, bits = [(3, 10), (3, 10), (4, 14), (5, 18)][form]
        header = int.from_bytes(data[:size], "little") >> 4
        count, stored = header & ((1 << bits) - 1), header >> bits
        body = data[size : size + stored]
        _require(len(body) == stored, "literals end early")
        if kind == 2:
            self.huffman, used = _read_huffman(body)
            body = body[used:]
        _require(self.huffman is not None, "literals without a Huffman table")
        if form == 0:
            return _huffman_stream(body, self.huffman, count), size + stored
        sizes, quarter, at, out = struct.unpack_from("<3H", body), (count + 3) // 4, 6, bytearray()
        for i in range(4):
            end = at + sizes[i] if i < 3 else len(body)
            out += _huffman_stream(body[at:end], self.huffman, quarter if i < 3 else count - 3 * quarter)
            at = end
        return out, size + stored

    def block(self, data, limit):
        """Section 3.1.1.3."""
        literals, i = self.literals(data)
        count = data[i]
        i += 1
        if count >= 255:
            count, i = struct.unpack_from("<H", data, i)[0] + 0x7F00, i + 2
        elif count >= 128:
            count, i = (count - 128 << 8) + data[i], i + 1
        at = 0
        if count:
            modes, i = data[i], i + 1
            forms = ((_LL_DEFAULT, 6, 9, 36), (_OF_DEFAULT, 5, 8, 32), (_ML_DEFAULT, 6, 9, 53))
            for which, (default, log, max_log, symbols) in enumerate(forms):
                mode = modes >> (6 - 2 * which) & 3
                if mode == 0:
                    self.tables[which] = _Fse(default, log)
                elif mode == 1:
                    self.tables[which], i = _Fse.single(data[i]), i + 1
                elif mode == 2:
                    self.tables[which], used = _read_fse(data[i:], max_log, symbols)
                    i += used
                _require(self.tables[which] is not None, "a repeated table that was never given")
            at = self.sequences(_Backward(data[i:]), count, literals, limit)
        self.out += literals[at:]
        _require(len(self.out) <= limit, "more data than expected")

    def sequences(self, stream, count, literals, limit):
        states, at = [stream.read(table.log) for table in self.tables], 0
        for n in range(count):
            length_code, offset_code, match_code = (t.symbols[s] for t, s in zip(self.tables, states))
            offset_value = (1 << offset_code) + stream.read(offset_code)
            base, bits = _ML[match_code]
            match = base + stream.read(bits)
            base, bits = _LL[length_code]
            length = base + stream.read(bits)
            offset = self.offset(offset_value, length)
            self.out += literals[at : at + length]
            at += length
            _require(at <= len(literals) and 0 < offset <= len(self.out), "a sequence reaches outside the data")
            _require(len(self.out) + match <= limit, "more data than expected")
            piece = bytes(self.out[len(self.out) - offset : len(self.out) - offset + match])
            self.out += (piece * (match // len(piece) + 1))[:match]
            if n < count - 1:
                for which in (0, 2, 1):
                    states[which] = self.tables[which].step(states[which], stream)
        _require(stream.left == 0, "a sequence stream of another length")
        return at

    def offset(self, value, literal_length):
        """Section 3.1.1.5: values 1 to 3 repeat a recent offset."""
        recent = self.offsets
        if value > 3:
            offset, keep = value - 3, recent[:2]
        else:
            index = value - 1 + (literal_length == 0)
            offset = recent[index] if index < 3 else recent[0] - 1
            keep = recent[:index] + recent[index + 1 :] if index < 3 else recent[:2]
        self.offsets = [offset, *keep][:3]
        return offset


def decompress(data, expected):
    """The contents of exactly one frame that says, and has, `expected` bytes."""
    try:
        return _decompress(data, expected)
    except (IndexError, struct.error) as error:
        raise ZstdError("the frame ends early") from error


def _decompress(data, expected):
    magic, descriptor = struct.unpack_from("<IB", data)
    _require(magic == MAGIC and not descriptor & 0x0B, "not a frame without dictionary")
    single, i = descriptor >> 5 & 1, 5
    if not single:
        _require(10 + (data[i] >> 3) <= 27, "the window is too large")
        i += 1
    size = [single, 2, 4, 8][descriptor >> 6]
    content = int.from_bytes(data[i : i + size], "little") + (256 if size == 2 else 0)
    _require(size > 0 and content == expected, "the content size is not what was expected")
    i += size
    frame = _Frame()
    while True:
        header, i = int.from_bytes(data[i : i + 3], "little"), i + 3
        kind, length = header >> 1 & 3, header >> 3
        stored = 1 if kind == 1 else length
        _require(kind < 3 and i + stored <= len(data), "a block of the reserved type, or cut")
        block, i = data[i : i + stored], i + stored
        if kind == 2:
            frame.block(block, expected)
        else:
            _require(len(frame.out) + length <= expected, "more data than expected")
            frame.out += block if kind == 0 else block * length
        if header & 1:
            break
    if descriptor & 4:
        _require(struct.unpack_from("<I", data, i)[0] == xxh64(frame.out) & 0xFFFFFFFF, "the checksum is wrong")
        i += 4
    _require(i == len(data) and len(frame.out) == expected, "the frame or its contents have another length")
    return bytes(frame.out)


def store(data):
    """A valid frame of raw 64 KiB blocks with an 8-byte content size."""
    out = [struct.pack("<IBBQ", MAGIC, 0xC0, 0x38, len(data))]
    starts = range(0, max(len(data), 1), 65536)
    for i in starts:
        block = data[i : i + 65536]
        out += [struct.pack("<I", len(block) << 3 | (i == starts[-1]))[:3], block]
    return b"".join(out)
