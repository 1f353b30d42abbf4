"""`cls_labels.npy`, the labels format of other weakly supervised code: a pickled dict of multi-hot vectors.

A pickle can run any code, so this reader follows only harmless opcodes, and replaces what they ask for by name with
stand-ins that hold numbers.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clipes.ids import is_background

from .sample import AnyPath, DatasetError, LabelRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VOC_NUMBER = re.compile(r"\d{4}\d{6}")  # IRN writes 2007_000027 as the number 2007000027
_CODES = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
    "PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
)


def read_class_labels(path: AnyPath, class_names: Sequence[str] | None) -> Iterator[LabelRow]:
    """Yield the rows of a `cls_labels.npy`: a dict from an image's id to a vector (K,) of 0 and 1, K the classes.

    Where `class_names` begins with the background, vectors may have a number for it, which is left out.
    A whole number of ten digits is a VOC id without its underscore, as IRN writes them. The file is read into memory.
    Raises FileNotFoundError; DatasetError without `class_names`, for another K, and for anything else in the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; a labels file is .csv, .jsonl or .npy")
    if class_names is None:
        raise DatasetError(f"{path}: its labels are indices of classes, but no classes are given; give them")
    for key, value in _read(path).items():
        image = str(key)
        if isinstance(key, int) and _VOC_NUMBER.fullmatch(image):
            image = f"{image[:4]}_{image[4:]}"
        where = f"{path}, {image!r}"
        yield LabelRow(image, _names(value, class_names, where), where)


def _names(value: Any, class_names: Sequence[str], where: str) -> tuple[str, ...]:
    import numpy as np

    vector = value.values() if isinstance(value, _Array) else value
    if isinstance(vector, list) and all(isinstance(number, int | float) for number in vector):
        vector = np.array(vector, dtype=float)
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or not np.isin(vector, (0, 1)).all():
        raise DatasetError(f"{where}: not a vector of 0 and 1, one for each class")
    if len(vector) == len(class_names) - 1 and is_background(class_names[0]):
        class_names = class_names[1:]
    if len(vector) != len(class_names):
        raise DatasetError(
            f"{where}: {len(vector)} numbers for {len(class_names)} classes; give the file's own classes"
        )
    rows = zip(class_names, vector, strict=True)
    return tuple(name for name, present in rows if present and not is_background(name))


def _read(path: Path) -> dict[int | str, Any]:
    from numpy.lib import format as npy

    try:
        with open(path, "rb") as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(file)
            if shape != () or not dtype.hasobject:
                raise DatasetError(f"an array {shape} of {dtype}, not a dict of labels")
            array = _Unpickler(io.BytesIO(file.read())).load()
        content = array.state if isinstance(array, _Array) else None
        if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
            raise DatasetError("not a dict of labels")
        if not content[0]:
            raise DatasetError("no image in it")
    except Exception as error:  # hostile bytes raise nearly anything
        cause = str(error) if isinstance(error, DatasetError) else f"{type(error).__name__}: {error}"
        raise DatasetError(f"{path}: not a cls_labels.npy: {cause}") from error
    return content[0]


class _Dtype:
    """A dtype of numbers, or of objects, from its pickle."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|U\d{1,4}|O8?", code):
            raise DatasetError(f"its values are of type {code if isinstance(code, str) else type(code).__name__!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order if order in ("<", ">") else "="

    def numpy(self) -> np.dtype[Any]:
        import numpy as np

        return np.dtype(self.order + self.code)


class _Array:
    """An array from its pickle: a list of one object, or bytes that :meth:`values` turns into numbers."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, _, self.state = state

    def values(self) -> NDArray[Any] | None:
        """Return the numbers; None where the pickle holds none."""
        import numpy as np

        data = self.state.encode("latin-1") if isinstance(self.state, str) else self.state
        if not isinstance(data, bytes) or not isinstance(self.dtype, _Dtype) or self.dtype.code[0] not in "biuf":
            return None
        if not isinstance(self.shape, tuple) or len(self.shape) != 1 or not isinstance(self.shape[0], int):
            return None
        dtype = self.dtype.numpy()
        return np.frombuffer(data, dtype) if len(data) == math.prod(self.shape) * dtype.itemsize else None


def _scalar(dtype: Any, data: Any) -> int | str:
    """A numpy scalar that is a key: a whole number or a string."""
    import numpy as np

    if not isinstance(dtype, _Dtype) or dtype.code[0] not in "iuU" or not isinstance(data, str | bytes):
        raise DatasetError("a key is neither a string nor a whole number")
    if dtype.code[0] == "U":
        dtype.code = f"U{len(data) // 4}"
    (value,) = np.frombuffer(data.encode("latin-1") if isinstance(data, str) else data, dtype.numpy()).tolist()
    return str(value) if dtype.code[0] == "U" else int(value)


def _bytes(text: Any, encoding: Any) -> bytes:
    """Return the bytes of pickle protocol 2, which encodes them as text of the letters 0 to 255."""
    if not isinstance(text, str) or encoding != "latin1":
        raise DatasetError("it asks for _codecs.encode of something else than bytes")
    return text.encode("latin-1")


_STAND_INS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.ndarray": "numpy.ndarray",  # only passed to _reconstruct
    "numpy.dtype": _Dtype,
    "_codecs.encode": _bytes,
}


class _Unpickler(pickle._Unpickler):  # the one in Python, because a single byte can make the one in C take all memory
    """Follows the opcodes that data needs, and calls nothing but the stand-ins."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        ord(getattr(pickle, name)): pickle._Unpickler.dispatch[ord(getattr(pickle, name))] for name in _CODES.split()
    }

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for what the pickle names; DatasetError for any other name."""
        asked = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if asked not in _STAND_INS:
            raise DatasetError(f"it asks for {asked[:80]!r}, which no labels need; do not trust this file")
        return _STAND_INS[asked]

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        if not callable(self.stack[-1]) or not isinstance(arguments, tuple):
            raise DatasetError("it calls something that is not a function")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise DatasetError("it changes something that is not an array")
        self.stack[-1].__setstate__(state)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        keys = items[::2]
        if not all(isinstance(key, int | str) for key in keys):  # hashing deeply nested tuples would end Python
            raise DatasetError("a key is neither a string nor a whole number")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }
