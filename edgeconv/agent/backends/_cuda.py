"""Memory and one stream of the first GPU, through the driver's own library: it is wherever a GPU can be used.

Functions and their arguments are those of the CUDA driver API.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..errors import AgentError

_LIBRARIES = ("libcuda.so.1", "libcuda.so")
_OUT_OF_MEMORY = 2
_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_uint64
_ARGUMENTS: dict[str, list[Any]] = {
    "cuInit": [ctypes.c_uint],
    "cuDeviceGet": [ctypes.POINTER(ctypes.c_int), ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int],
    "cuCtxSetCurrent": [ctypes.c_void_p],
    "cuStreamCreate": [ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint],
    "cuStreamSynchronize": [ctypes.c_void_p],
    "cuStreamDestroy_v2": [ctypes.c_void_p],
    "cuMemAlloc_v2": [ctypes.POINTER(_POINTER), _SIZE],
    "cuMemFree_v2": [_POINTER],
    "cuMemcpyHtoDAsync_v2": [_POINTER, ctypes.c_void_p, _SIZE, ctypes.c_void_p],
    "cuMemcpyDtoHAsync_v2": [ctypes.c_void_p, _POINTER, _SIZE, ctypes.c_void_p],
    "cuGetErrorString": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
}


class Cuda:
    """The primary context of the first GPU, and a stream in it."""

    def __init__(self) -> None:
        """Begin.

        Raises:
            AgentError: there is no driver or no GPU (``unavailable``).
        """
        self._library = _driver()
        self._do("cuInit", 0)
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self._do("cuStreamCreate", ctypes.byref(stream), 1)  # not held up by the default stream
        self.stream = int(stream.value or 0)
        self._sizes: dict[str, int] = {}
        self._buffers: dict[str, int] = {}

    def buffer(self, name: str, size: int) -> int:
        """The address of at least ``size`` bytes that belong to ``name``; what was there may be gone.

        Raises:
            AgentError: the GPU has not enough memory (``memory``).
        """
        if self._sizes.get(name, -1) < size:
            self._free(name)
            address = _POINTER()
            self._do("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
            self._buffers[name], self._sizes[name] = int(address.value), size
        return self._buffers[name]

    def upload(self, address: int, array: Any) -> None:
        """Copy a contiguous array to the GPU, after what is in the stream already."""
        self._do("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self.stream)

    def download(self, array: Any, address: int) -> None:
        """Fill a contiguous array from the GPU, after what is in the stream already."""
        self._do("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self.stream)

    def wait(self) -> None:
        """Until all in the stream is done."""
        code = self._library.cuStreamSynchronize(self.stream)
        if code:
            self._fail("cuStreamSynchronize", code)

    def close(self) -> None:
        """Give stream and memory back."""
        for name in list(self._buffers):
            self._free(name)
        if self.stream:
            self._do("cuStreamDestroy_v2", self.stream)
            self.stream = 0

    def _free(self, name: str) -> None:
        address = self._buffers.pop(name, None)
        self._sizes.pop(name, None)
        if address is not None:
            self._do("cuMemFree_v2", address)

    def _do(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            self._fail(function, code)

    def _fail(self, function: str, code: int) -> None:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"").decode(errors="replace") or "error %d" % code
        if code == _OUT_OF_MEMORY:
            raise AgentError("memory", "the GPU has not enough memory for this (%s)" % said)
        kind = (
            "unavailable" if function in ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain") else "refused"
        )
        raise AgentError(kind, "CUDA: %s failed (%s)" % (function, said))


def _driver() -> Any:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for function, arguments in _ARGUMENTS.items():
            getattr(library, function).argtypes = arguments
        return library
    raise AgentError(
        "unavailable", "there is no driver of an NVIDIA GPU here", "see what is there: edgeconv devices probe"
    )
