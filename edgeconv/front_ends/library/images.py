"""Images: JPEG, PNG, GIF and BMP files, and resizing."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np


def decode_image(
    contents: Any, channels: int = 0, dtype: str = "uint8", expand_animations: bool = False,
    accurate: bool = False, fancy: bool = True,
) -> Any:  # fmt: skip
    """The pixels of an image file as [height, width, channels]; frames first for an animated GIF.

    Pillow decodes JPEG, PNG and GIF. ``channels`` of 0 takes as many as the file has. A float dtype gives
    values in [0, 1]. ``accurate`` and ``fancy`` say how a JPEG is decoded (``dct_method`` and
    ``fancy_upscaling`` of TensorFlow's ops).
    """
    data = bytes(np.asarray(contents, dtype=object).reshape(-1)[0])
    if data[:2] == b"BM":
        pixels = decode_bmp(data, channels)
    elif data[:3] == b"GIF" and expand_animations:
        pixels = decode_gif(data)
    else:
        pixels = decode_with_pillow(data, channels, accurate, fancy)
    if dtype == "uint16" and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * 257
    if dtype == "uint8" and pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if dtype in ("float32", "float16", "float64"):
        return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(dtype)
    return pixels.astype(dtype)


def decode_with_pillow(data: bytes, channels: int, accurate: bool = False, fancy: bool = True) -> Any:
    """JPEG, PNG or the first frame of a GIF, uint8 (uint16 for a 16-bit grey PNG)."""
    from PIL import Image

    image: Any = Image.open(io.BytesIO(data))
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.uint16)[:, :, None]
        return np.repeat(grey, max(1, min(channels, 3)), axis=2)
    bands = {"1": 1, "L": 1, "LA": 2, "RGBA": 4}.get(image.mode, 3)
    channels = channels or (4 if image.mode == "P" and "transparency" in image.info else bands)
    if image.format == "JPEG" and channels in (1, 3) and not (accurate and fancy):
        pixels = decode_jpeg_quickly(image, channels, fancy)
        if pixels is not None:
            return pixels
    if channels == 1 and image.format == "JPEG":
        image.draft("L", image.size)  # the luminance that is in the file, not one computed from colours
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(image.size[1], image.size[0], channels)


def decode_jpeg_quickly(image: Any, channels: int, fancy: bool) -> Any:
    """A JPEG by the quick inverse transform, which TensorFlow uses by default; ``None`` if it cannot be had.

    Pillow joins that transform with plain repetition of the smaller colour planes. So the planes are taken
    as they are in the file, and enlarged and turned into colours here, by the integer formulas of libjpeg.
    """
    layers = [tuple(layer[1:3]) for layer in getattr(image, "layer", [])]
    if image.mode == "RGB":
        if "adobe_transform" in image.info and image.info["adobe_transform"] == 0:
            return None
        image.draft("YCbCr" if channels == 3 else "L", image.size)
    elif image.mode != "L":
        return None
    if len(image.tile) != 1 or layers[:1] not in ([(1, 1)], [(2, 1)], [(2, 2)]):
        return None
    if image.mode == "YCbCr" and layers[1:] != [(1, 1), (1, 1)]:
        return None
    image.decoderconfig = (1, 1)
    planes = np.asarray(image)
    if planes.ndim == 2:
        return np.repeat(planes[:, :, None], channels, 2)
    across, down = layers[0]
    whole = [planes[:, :, 0].astype(np.int32)]
    for number in (1, 2):
        plane = planes[::down, ::across, number].astype(np.int32)
        whole.append(enlarge_plane(plane, across, down, fancy)[: planes.shape[0], : planes.shape[1]])
    luma, blue, red = whole[0], whole[1] - 128, whole[2] - 128
    rgb = [
        luma + ((91881 * red + 32768) >> 16),
        luma + ((-22554 * blue - 46802 * red + 32768) >> 16),
        luma + ((116130 * blue + 32768) >> 16),
    ]
    return np.clip(np.stack(rgb, 2), 0, 255).astype(np.uint8)


def enlarge_plane(plane: Any, across: int, down: int, fancy: bool) -> Any:
    """A colour plane at the size of the image: repeated, or by libjpeg's triangle filter."""
    if not fancy or plane.shape[1] < 3:
        return plane.repeat(down, 0).repeat(across, 1)
    rows = plane
    if down == 2:
        near = np.concatenate([plane[:1], plane, plane[-1:]])
        rows = np.empty((2 * len(plane), plane.shape[1]), np.int32)
        rows[0::2] = 3 * plane + near[:-2]
        rows[1::2] = 3 * plane + near[2:]
    if across == 1:
        return rows
    side = np.concatenate([rows[:, :1], rows, rows[:, -1:]], 1)
    made = np.empty((len(rows), 2 * rows.shape[1]), np.int32)
    if down == 2:
        made[:, 0::2] = (3 * rows + side[:, :-2] + 8) >> 4
        made[:, 1::2] = (3 * rows + side[:, 2:] + 7) >> 4
    else:
        made[:, 0::2] = (3 * rows + side[:, :-2] + 1) >> 2
        made[:, 1::2] = (3 * rows + side[:, 2:] + 2) >> 2
    return made


def decode_gif(contents: Any) -> Any:
    """All frames of a GIF, uint8 [frames, height, width, 3]."""
    from PIL import Image, ImageSequence

    data = bytes(np.asarray(contents, dtype=object).reshape(-1)[0])
    frames = ImageSequence.Iterator(Image.open(io.BytesIO(data)))
    return np.stack([np.asarray(frame.convert("RGB")) for frame in frames])


def decode_bmp(contents: Any, channels: int = 0) -> Any:
    """The pixels of an uncompressed 8-, 24- or 32-bit BMP file, uint8 [height, width, channels]."""
    data = bytes(np.asarray(contents, dtype=object).reshape(-1)[0])
    offset, _, width, height = struct.unpack("<IIii", data[10:26])
    bits = struct.unpack("<H", data[28:30])[0]
    depth = bits // 8
    if depth not in (1, 3, 4) or (channels and channels != depth):
        raise ValueError(f"a BMP of {bits} bits a pixel cannot be read as {channels} channels")
    row = (width * depth + 3) // 4 * 4
    rows = np.frombuffer(data, np.uint8, row * abs(height), offset).reshape(abs(height), row)
    pixels = rows[:, : width * depth].reshape(abs(height), width, depth)
    pixels = pixels[::-1] if height > 0 else pixels
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[depth]
    return np.ascontiguousarray(pixels[:, :, order])


def resize_bilinear(
    images: Any, size: Any, align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """Images [batch, height, width, channels] at another size, float32, by linear interpolation."""
    result = np.asarray(images, np.float32)
    for axis, wanted in ((1, int(size[0])), (2, int(size[1]))):
        have = result.shape[axis]
        at = resize_positions(have, wanted, align_corners, half_pixel_centers)
        lower = np.clip(np.floor(at).astype(np.int64), 0, have - 1)
        upper = np.clip(np.ceil(at).astype(np.int64), 0, have - 1)
        share = (at - np.floor(at)).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
        first, second = np.take(result, lower, axis), np.take(result, upper, axis)
        result = first + (second - first) * share
    return result


def resize_nearest(
    images: Any, size: Any, align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """Images [batch, height, width, channels] at another size, each pixel that of the nearest place."""
    result = np.asarray(images)
    for axis, wanted in ((1, int(size[0])), (2, int(size[1]))):
        have = result.shape[axis]
        scale = np.float32(resize_scale(have, wanted, align_corners))
        places = np.arange(wanted, dtype=np.float32)
        at = (places + np.float32(0.5)) * scale if half_pixel_centers else places * scale
        rounded = np.floor(at + np.float32(0.5)) if align_corners else np.floor(at)
        result = np.take(result, np.clip(rounded.astype(np.int64), 0, have - 1), axis)
    return result


def resize_positions(have: int, wanted: int, align_corners: bool, half_pixel_centers: bool) -> Any:
    """Where the pixels of a resized line lie in the original one, in single precision."""
    scale = np.float32(resize_scale(have, wanted, align_corners))
    places = np.arange(wanted, dtype=np.float32)
    if half_pixel_centers:
        return (places + np.float32(0.5)) * scale - np.float32(0.5)
    return places * scale


def resize_scale(have: int, wanted: int, align_corners: bool) -> float:
    """Pixels of the original for each of the resized."""
    return (have - 1) / (wanted - 1) if align_corners and wanted > 1 else have / wanted
