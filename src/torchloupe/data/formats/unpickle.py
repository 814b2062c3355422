"""Unpickling the official CIFAR batches, and nothing else.

A pickle is a program. The batches need four names: numpy's `_reconstruct`, `ndarray` and `dtype`,
and, when Python 3 wrote them, `_codecs.encode`. Each is stood in for by a small class here, so
that no code of numpy or the standard library runs on what the file says.
"""

import io
import pickle
from typing import Any, NoReturn

import numpy as np
from jaxtyping import UInt8

from torchloupe.errors import DataError


class _Inert:
    """Base of the stand-ins: no instance dictionary, and no state unless a class takes it.

    `__setstate__` on the class also stops a pickle from setting attributes of the class itself.
    """

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"unexpected state for {type(self).__name__}")


class _Kind(_Inert):
    """Stands in for `numpy.dtype`: unsigned bytes only."""

    __slots__ = ()

    def __new__(cls, code: object, *flags: object) -> "_Kind":
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {code!r} instead of bytes")
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Byte order and flags mean nothing for single bytes."""


class _Array(_Inert):
    """Stands in for `numpy.ndarray`; its pixels come with its state."""

    __slots__ = ("pixels",)

    pixels: UInt8[np.ndarray, "..."]

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple(shape), _Kind(), bool() | int() as fortran, bytes(raw)):
                sizes = tuple(int(size) for size in shape)
                self.pixels = np.frombuffer(raw, np.uint8).reshape(sizes, order="F" if fortran else "C")
            case _:
                raise pickle.UnpicklingError("an array in a form that the official batches don't have")


class _Reconstruct(_Inert):
    """Stands in for numpy's `_reconstruct(ndarray, (0,), b"b")`: an array that waits for its state."""

    __slots__ = ()

    def __new__(cls, kind: object, *empty: object) -> "_Array":  # type: ignore[misc]
        if kind is not _Array:
            raise pickle.UnpicklingError("an array of a class that the official batches don't have")
        return _Array()


class _Encode(_Inert):
    """Stands in for `_codecs.encode(text, "latin1")`, by which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
        return text.encode("latin1")


ADMITTED: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        found = ADMITTED.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which the official batches don't hold")
        return found

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside itself")


def unpickle(data: bytes, what: str) -> dict[str, Any]:
    """Read one pickled batch: text keys, `data` as a uint8 array; byte strings become text.

    Raises:
        DataError: the pickle is damaged, or asks for anything but what a batch is made of.

    >>> unpickle(pickle.dumps({b"labels": [1, 2]}, protocol=2), "data_batch_1")
    {'labels': [1, 2]}
    >>> unpickle(pickle.dumps(print), "data_batch_1")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: cannot read 'data_batch_1': it asks for builtins.print, which the official ...
    """
    try:
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"a {type(found).__name__} instead of a dictionary")
        return {str(text(key)): plain(value) for key, value in found.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot read '{what}': {reason}. Fetch the archive again, from a source you trust.") from error


def text(value: object) -> object:
    """Turn a byte string of Python 2 into text.

    >>> text(b"cat"), text(3)
    ('cat', 3)
    """
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def plain(value: object) -> object:
    """Turn the values of a batch into arrays, lists of text and lists of numbers."""
    if isinstance(value, _Array):
        return value.pixels
    if isinstance(value, list):
        return [text(item) for item in value]
    return text(value)
