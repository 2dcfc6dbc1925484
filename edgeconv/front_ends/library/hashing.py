"""Hashes of strings, as TensorFlow puts words into buckets."""

from __future__ import annotations

from typing import Any

import numpy as np


def hash_buckets(strings: Any, buckets: int, hash_of: Any) -> Any:
    """The bucket of each string, int64, by one of the 64-bit hashes below."""
    words = np.asarray(strings, dtype=object)
    found = np.empty(words.shape, np.int64)
    for place, word in np.ndenumerate(words):
        found[place] = hash_of(bytes(word)) % buckets
    return found


def farmhash_fingerprint(data: bytes) -> int:
    """FarmHash's Fingerprint64 (public domain algorithm by Google), used by ``StringToHashBucketFast``."""
    mask = (1 << 64) - 1
    k0, k1, k2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
    length = len(data)

    def word(at: int, size: int = 8) -> int:
        return int.from_bytes(data[at : at + size], "little")

    def rotate(value: int, bits: int) -> int:
        value &= mask
        return ((value >> bits) | (value << (64 - bits))) & mask

    def shift_mix(value: int) -> int:
        value &= mask
        return value ^ (value >> 47)

    def mixed(one: int, two: int, factor: int) -> int:
        first = shift_mix(((one ^ two) & mask) * factor)
        return shift_mix(((two ^ first) & mask) * factor) * factor & mask

    if length == 0:
        return k2
    factor = (k2 + 2 * length) & mask
    if length < 4:
        y, z = data[0] + (data[length >> 1] << 8), length + (data[-1] << 2)
        return shift_mix((y * k2 & mask) ^ (z * k0 & mask)) * k2 & mask
    if length < 8:
        return mixed(length + (word(0, 4) << 3), word(length - 4, 4), factor)
    if length <= 16:
        a, b = word(0) + k2 & mask, word(length - 8)
        return mixed(rotate(b, 37) * factor + a & mask, (rotate(a, 25) + b) * factor & mask, factor)
    if length <= 64:
        a, b = word(0) * (k1 if length <= 32 else k2) & mask, word(8)
        c, d = word(length - 8) * factor & mask, word(length - 16) * k2 & mask
        y = rotate(a + b, 43) + rotate(c, 30) + d & mask
        z = mixed(y, a + rotate(b + k2, 18) + c & mask, factor)
        if length <= 32:
            return z
        e, f = word(16) * factor & mask, word(24)
        g, h = (y + word(length - 32)) * factor & mask, (z + word(length - 24)) * factor & mask
        return mixed(rotate(e + f, 43) + rotate(g, 30) + h & mask, e + rotate(f + a, 18) + g & mask, factor)

    def weak(at: int, a: int, b: int) -> tuple[int, int]:
        w, x, y, z = (word(at + 8 * index) for index in range(4))
        a = a + w & mask
        b = rotate(b + a + z, 21)
        c = a
        a = a + x + y & mask
        return a + z & mask, b + rotate(a, 44) + c & mask

    x, y = 81 * k2 + word(0) & mask, 81 * k1 + 113 & mask
    z = shift_mix(y * k2 + 113) * k2 & mask
    v, w = (0, 0), (0, 0)
    end = (length - 1) // 64 * 64
    for at in range(0, end, 64):
        x = rotate(x + y + v[0] + word(at + 8), 37) * k1 & mask
        y = rotate(y + v[1] + word(at + 48), 42) * k1 & mask
        x ^= w[1]
        y = y + v[0] + word(at + 40) & mask
        z = rotate(z + w[0], 33) * k1 & mask
        v = weak(at, v[1] * k1 & mask, x + w[0] & mask)
        w = weak(at + 32, z + w[1] & mask, y + word(at + 16) & mask)
        x, z = z, x
    factor = k1 + ((z & 0xFF) << 1) & mask
    at = end + ((length - 1) & 63) - 63
    w = (w[0] + ((length - 1) & 63) & mask, w[1])
    v = (v[0] + w[0] & mask, v[1])
    w = (w[0] + v[0] & mask, w[1])
    x = rotate(x + y + v[0] + word(at + 8), 37) * factor & mask
    y = rotate(y + v[1] + word(at + 48), 42) * factor & mask
    x ^= w[1] * 9 & mask
    y = y + v[0] * 9 + word(at + 40) & mask
    z = rotate(z + w[0], 33) * factor & mask
    v = weak(at, v[1] * factor & mask, x + w[0] & mask)
    w = weak(at + 32, z + w[1] & mask, y + word(at + 16) & mask)
    x, z = z, x
    return mixed(
        mixed(v[0], w[0], factor) + shift_mix(y) * k0 + z & mask, mixed(v[1], w[1], factor) + x & mask, factor
    )


def siphash(data: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 (Aumasson and Bernstein, 2012), used by ``StringToHashBucketStrong``."""
    mask = (1 << 64) - 1
    k0, k1 = key[0] & mask, key[1] & mask
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def rotate(value: int, bits: int) -> int:
        return ((value << bits) | (value >> (64 - bits))) & mask

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0 = v0 + v1 & mask
            v1 = rotate(v1, 13) ^ v0
            v0 = rotate(v0, 32)
            v2 = v2 + v3 & mask
            v3 = rotate(v3, 16) ^ v2
            v0 = v0 + v3 & mask
            v3 = rotate(v3, 21) ^ v0
            v2 = v2 + v1 & mask
            v1 = rotate(v1, 17) ^ v2
            v2 = rotate(v2, 32)

    whole = len(data) // 8 * 8
    blocks = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    blocks.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for block in blocks:
        v3 ^= block
        rounds(2)
        v0 ^= block
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def murmur_hash(data: bytes) -> int:
    """The 64-bit MurmurHash variant (public domain, A. Appleby) behind ``StringToHashBucket``."""
    mask, factor = (1 << 64) - 1, 0xC6A4A7935BD1E995
    value = 0xDECAFCAFFE ^ (len(data) * factor & mask)
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        block = int.from_bytes(data[at : at + 8], "little") * factor & mask
        block = (block ^ (block >> 47)) * factor & mask
        value = (value ^ block) * factor & mask
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * factor & mask
    value = (value ^ (value >> 47)) * factor & mask
    return value ^ (value >> 47)
