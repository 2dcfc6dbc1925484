"""Audio: WAV files, spectrograms, MFCC features."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


def decode_wav(contents: Any, desired_channels: int = -1, desired_samples: int = -1) -> tuple[Any, Any]:
    """The samples of a 16-bit PCM WAV file in [-1, 1) as float32 [samples, channels], and its sample rate.

    Missing samples are zeros, missing channels repeat the last one, and what is too much is left out.
    """
    data = bytes(np.asarray(contents, dtype=object).reshape(-1)[0])
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("this is no WAV file")
    position, channels, rate, samples = 12, 0, 0, None
    while position + 8 <= len(data) and samples is None:
        kind, size = struct.unpack("<4sI", data[position : position + 8])
        position += 8
        if kind == b"fmt ":
            encoding, channels, rate, _, _, bits = struct.unpack("<HHIIHH", data[position : position + 16])
            if encoding not in (1, 0xFFFE) or bits != 16:
                raise ValueError(f"only 16-bit PCM is read, this is encoding {encoding} with {bits} bits")
        elif kind == b"data":
            whole = min(size, len(data) - position) // (2 * max(1, channels)) * max(1, channels)
            samples = np.frombuffer(data, "<i2", whole, position).reshape(-1, max(1, channels))
        position += size
    if samples is None or not channels:
        raise ValueError("the WAV file has no format or no samples")
    audio = samples.astype(np.float32) / np.float32(32768)
    wanted = desired_channels if desired_channels > 0 else channels
    audio = audio[:, np.minimum(np.arange(wanted), channels - 1)]
    if desired_samples > 0:
        audio = audio[:desired_samples]
        audio = np.pad(audio, ((0, desired_samples - len(audio)), (0, 0)))
    return audio, np.int32(rate)


def audio_spectrogram(audio: Any, window_size: int, stride: int, magnitude_squared: bool = False) -> Any:
    """Magnitudes of windows of audio [samples, channels] as float32 [channels, frames, bins].

    Periodic Hann window, zero-padded to the next power of two.
    """
    signal = np.asarray(audio, np.float64).T
    length = 1 << max(0, window_size - 1).bit_length()
    frames = max(0, 1 + (signal.shape[1] - window_size) // stride)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_size) / window_size)
    at = np.arange(frames)[:, None] * stride + np.arange(window_size)
    spectrum = np.fft.rfft(signal[:, at] * window, length)
    power = spectrum.real**2 + spectrum.imag**2
    return (power if magnitude_squared else np.sqrt(power)).astype(np.float32)


def mfcc(
    spectrogram: Any,
    sample_rate: Any,
    upper_frequency_limit: float = 4000.0,
    lower_frequency_limit: float = 20.0,
    filterbank_channel_count: int = 40,
    dct_coefficient_count: int = 13,
) -> Any:
    """Mel-frequency cepstral coefficients of a squared spectrogram [channels, frames, bins], float32."""
    power = np.asarray(spectrogram, np.float64)
    bins, bands = power.shape[-1], filterbank_channel_count
    mels = 1127.0 * np.log1p(np.arange(bins) * (0.5 * float(sample_rate) / (bins - 1)) / 700.0)
    low, high = (1127.0 * np.log1p(f / 700.0) for f in (lower_frequency_limit, upper_frequency_limit))
    # Triangles between neighbouring centres: a bin gives its share to the band below and the rest above.
    edges = low + (high - low) / (bands + 1) * np.arange(bands + 2)
    hertz = 0.5 * float(sample_rate) / (bins - 1)
    first, last = int(1.5 + lower_frequency_limit / hertz), int(upper_frequency_limit / hertz)
    filters = np.zeros((bins, bands))
    for index in range(max(0, first), min(last, bins - 1) + 1):
        band = int(np.searchsorted(edges[1 : bands + 1], mels[index], side="left")) - 1
        share = (edges[band + 2] - mels[index]) / (edges[band + 2] - edges[band + 1])
        if band >= 0:
            filters[index, band] += share
        if band + 1 < bands:
            filters[index, band + 1] += 1.0 - share
    logs = np.log(np.maximum(np.sqrt(power) @ filters, 1e-12))
    angles = np.arange(dct_coefficient_count)[:, None] * (np.arange(bands) + 0.5) * (np.pi / bands)
    return (logs @ (np.sqrt(2.0 / bands) * np.cos(angles)).T).astype(np.float32)
