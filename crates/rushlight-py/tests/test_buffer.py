"""The buffer protocol: what a reader asks for, it gets as the protocol says, or a BufferError."""

import ctypes
import gc
import sys
import weakref

import numpy as np
import pytest

import rushlight as rl

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the stable interface has no buffers before 3.11")

SIMPLE, WRITABLE, FORMAT, ND, STRIDES = 0, 0x1, 0x4, 0x8, 0x18
C, F, ANY = 0x38, 0x58, 0x98
FULL_RO = 0x11C


class Buffer(ctypes.Structure):
    """``Py_buffer``"""

    _fields_ = [
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)), ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)), ("internal", ctypes.c_void_p),
    ]


def ask(obj, flags):
    """What a reader with these flags sees, as a dict."""
    view = Buffer()
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int]
    get(obj, view, flags)
    try:
        numbers = lambda p: [p[i] for i in range(view.ndim)] if p else None
        return {
            "bytes": ctypes.string_at(view.buf, view.len) if not view.strides else None, "len": view.len,
            "itemsize": view.itemsize, "readonly": view.readonly, "ndim": view.ndim, "format": view.format,
            "shape": numbers(view.shape), "strides": numbers(view.strides), "suboffsets": bool(view.suboffsets),
        }
    finally:
        release = ctypes.pythonapi.PyBuffer_Release
        release.argtypes = [ctypes.POINTER(Buffer)]
        release(view)


DTYPES = ["float32", "float64", "float16", "int64", "uint8", "bool"]


def pair(dtype, shape=(3, 4)):
    array = (np.arange(np.prod(shape)) % 7).reshape(shape).astype(dtype)
    array.flags.writeable = False
    return rl.tensor(array), array


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_as_numpy_gives_it(dtype):
    t, array = pair(dtype)
    view, expected = memoryview(t), memoryview(array)
    for name in ("format", "itemsize", "ndim", "shape", "strides", "nbytes", "readonly", "c_contiguous", "f_contiguous"):
        assert getattr(view, name) == getattr(expected, name), name
    assert view.tobytes() == array.tobytes() == bytes(t)
    if dtype != "float16":
        assert view.tolist() == array.tolist() == t.tolist()
    back = np.asarray(t)
    assert back.dtype == array.dtype and not back.flags.writeable and (back == array).all()


VIEWS = {
    "transposed": lambda x: x.T, "column": lambda x: x[:, 1], "every_other": lambda x: x[::2, 1:], "row": lambda x: x[1],
    "element": lambda x: x[1, 2], "empty_rows": lambda x: x[:0], "empty_columns": lambda x: x[:, 2:2],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VIEWS)
def test_views_are_strides_over_the_same_memory(name, dtype):
    t, array = pair(dtype)
    expected = VIEWS[name](array)
    view = VIEWS[name](t)
    got = memoryview(view)
    assert got.shape == expected.shape and got.tobytes() == expected.tobytes()
    if expected.size:
        if expected.ndim:
            assert got.strides == expected.strides
        if isinstance(expected, np.ndarray):
            distance = np.asarray(got).ctypes.data - np.asarray(t).ctypes.data
            assert distance == expected.ctypes.data - array.ctypes.data
    assert bytes(view) == expected.tobytes()


def test_broadcasts_have_stride_0_and_flips_negative_ones():
    x = rl.arange(3).expand(4, 3)
    view = memoryview(x)
    assert view.shape == (4, 3) and view.strides == (0, 8) and view.nbytes == 96 and view.tolist() == [[0, 1, 2]] * 4
    backwards = rl.arange(5)[::-1]
    assert memoryview(backwards).tolist() == [4, 3, 2, 1, 0] and memoryview(backwards).strides == (-8,)
    assert np.asarray(backwards).tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("name", [*VIEWS, "whole", "cube", "cube_transposed", "one_row"])
@pytest.mark.parametrize("flags", [SIMPLE, FORMAT, ND, ND | FORMAT, STRIDES, STRIDES | FORMAT, C, F, ANY, C | FORMAT,
                                   F | FORMAT, FULL_RO, WRITABLE, WRITABLE | STRIDES, FULL_RO | WRITABLE])
def test_flags_are_honoured_or_refused_as_by_numpy(name, flags):
    shape = (3, 4) if name in VIEWS or name == "whole" else (1, 4) if name == "one_row" else (2, 3, 4)
    t, array = pair("int64", shape)
    f = VIEWS.get(name) or ((lambda x: x.T) if name == "cube_transposed" else lambda x: x)
    t, array = f(t), f(array)
    if not isinstance(array, np.ndarray):
        array = np.asarray(array)
        array.flags.writeable = False

    def seen(obj):
        try:
            return ask(obj, flags)
        except (BufferError, ValueError) as error:
            # NumPy raises ValueError; the protocol says BufferError.
            assert obj is array or isinstance(error, BufferError)
            return None

    got, expected = seen(t), seen(array)
    if flags & FORMAT and not flags & ND:
        # As memoryview does; NumPy gives a format nonetheless.
        assert got is None
        return
    assert (got is None) == (expected is None)
    if got is None:
        return
    assert got["len"] == array.nbytes and got["itemsize"] == 8 and got["readonly"] == 1 and not got["suboffsets"]
    assert got["format"] == (b"l" if flags & FORMAT else None) or sys.platform == "win32"
    if flags & ND:
        assert got["ndim"] == array.ndim and (got["shape"] or []) == list(array.shape)
        assert (got["shape"] is None) == (array.ndim == 0)
    else:
        assert got["shape"] is None and got["ndim"] == 1
    if flags & STRIDES == STRIDES and array.size and array.ndim:
        assert [s for s, n in zip(got["strides"], array.shape) if n > 1] == [s for s, n in zip(array.strides, array.shape) if n > 1]
    elif flags & STRIDES != STRIDES:
        assert got["strides"] is None and got["bytes"] == array.tobytes()


def test_what_cannot_be_exported_says_what_to_do():
    with pytest.raises(BufferError, match="requires grad; use detach"):
        memoryview(rl.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="bfloat16; use float"):
        memoryview(rl.ones(2, dtype=rl.bfloat16))
    with pytest.raises(BufferError, match="read only"):
        ask(rl.ones(2), WRITABLE)
    with pytest.raises(TypeError):
        (ctypes.c_char * 4).from_buffer(rl.ones(2))
    with pytest.raises(TypeError, match="read-only"):
        memoryview(rl.ones(2))[0] = 1.0
    with pytest.raises((ValueError, TypeError)):
        np.asarray(rl.ones(2, requires_grad=True))
    assert memoryview(rl.ones(2, requires_grad=True).detach()).tolist() == [1, 1]


def test_an_export_keeps_its_values_and_memory_alive():
    t = rl.tensor([1.0, 2.0, 3.0])
    before = memoryview(t)
    t[0] = 9.0
    t += 1
    assert before.tolist() == [1, 2, 3] and memoryview(t).tolist() == [10, 3, 4]
    seen = weakref.ref(t)
    view = memoryview(t)
    del t, before
    gc.collect()
    assert seen() is not None, "the view holds its tensor"
    rl.zeros(3).add_(5)
    assert view.tolist() == [10, 3, 4]
    view.release()
    gc.collect()
    assert seen() is None, "and lets it go"


def test_released_memory_is_used_again():
    resource = pytest.importorskip("resource")
    before = None
    for step in range(60):
        t = rl.zeros(1 << 20)
        views = [memoryview(t)[1:], memoryview(t.reshape(1024, 1024).T)]
        assert views[0][5] == 0
        if step == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # 50 tensors of 4 MiB that stayed would be 200 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_write_is_in_place_again_once_the_view_is_gone():
    t = rl.zeros(4)
    place = np.asarray(t).ctypes.data
    gc.collect()
    t[0] = 1.0
    assert np.asarray(t).ctypes.data == place
    held = memoryview(t)
    t[1] = 2.0
    assert np.asarray(t).ctypes.data != place and held.tolist() == [1, 0, 0, 0] and t.tolist() == [1, 2, 0, 0]


def test_tensors_without_dims_or_elements():
    one = memoryview(rl.tensor(7))
    assert one.shape == () and one.ndim == 0 and one.tolist() == 7 and bytes(one) == (7).to_bytes(8, sys.byteorder)
    assert bytes(rl.tensor(7)) == bytes(one), "not seven zeros"
    none = memoryview(rl.zeros(0, 3))
    assert none.shape == (0, 3) and none.nbytes == 0 and bytes(none) == b"" == bytes(rl.zeros(0, 3))
    assert bytes(rl.tensor([1.0, 2.0], dtype=rl.bfloat16)) == b"\x80\x3f\x00\x40"


def test_readers_of_bytes_read_it(tmp_path):
    t, array = pair("float32")
    (tmp_path / "x").write_bytes(t)
    assert (tmp_path / "x").read_bytes() == array.tobytes()
    assert bytearray(t) == array.tobytes()
    assert np.frombuffer(t, dtype=np.float32).tolist() == array.ravel().tolist()
