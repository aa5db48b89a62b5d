"""The library from Python: through examples/ffi/python, and through infer_get_api.

usage: python.py LIBRARY SOURCE_ROOT MODEL"""

import ctypes
import os
import sys

LIBRARY, ROOT, MODEL = sys.argv[1:4]
os.environ["INFER_LIBRARY"] = LIBRARY
sys.path[:0] = [os.path.join(ROOT, "tests", "support"),
                os.path.join(ROOT, "examples", "ffi", "python")]
import infer
from tap import Tap


def generates():
    with infer.Model(MODEL) as model, model.session() as session:
        text = "".join(session.stream("Once upon a time", max_tokens=8, ignore_eos=1))
        assert text, "no text was generated"
        again = "".join(session.stream("Once upon a time", max_tokens=8, ignore_eos=1))
        assert text == again, f"{text!r} became {again!r}"


def stops_by_greedy_length():
    with infer.Model(MODEL) as model, model.session() as session:
        greedy = infer.Sampling()
        request = session.submit("Once", max_tokens=5, ignore_eos=1,
                                 sampling=ctypes.pointer(greedy))
        events = [(e.type, e.token, e.finish) for e in request]
        assert len(events) == 6 and events[-1] == (2, -1, 2), events


def tokenizes():
    with infer.Model(MODEL) as model:
        ids = model.encode("a small dog")
        assert len(ids) >= 2, ids
        assert "small dog" in model.decode(ids), model.decode(ids)


def chats():
    with infer.Model(MODEL) as model, model.session() as session:
        answer = "".join(session.stream(messages=[("user", "What is 2 plus 3?")], max_tokens=20))
        assert answer.strip(), "no answer"


def survives_any_order():
    model = infer.Model(MODEL)
    session = model.session()
    request = session.submit("Once", max_tokens=4, ignore_eos=1)
    model.close()
    assert len(list(request)) == 5
    session.close()
    request.close()


def says_what_is_wrong():
    try:
        infer.Model("/nowhere/model.gguf")
    except infer.Error as error:
        assert error.status == -3, error.status
        assert "/nowhere/model.gguf" in str(error), error
    else:
        raise AssertionError("a missing file was loaded")


def table_of_functions():
    """The head of infer_api: enough to load a model through the table alone."""
    class Api(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t), ("api_version", ctypes.c_uint32),
                    ("last_error", ctypes.CFUNCTYPE(ctypes.c_char_p)),
                    ("status_name", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int32)),
                    ("status_retryable", ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)),
                    ("version", ctypes.CFUNCTYPE(ctypes.c_uint32))]
    lib = ctypes.CDLL(LIBRARY)
    lib.infer_get_api.restype = ctypes.POINTER(Api)
    lib.infer_get_api.argtypes = [ctypes.c_uint32]
    api = lib.infer_get_api(1).contents
    assert api.struct_size > ctypes.sizeof(Api) and api.api_version >= 1
    assert api.version() == lib.infer_version()
    assert api.status_name(-3) == b"INFER_ERR_NOT_FOUND"
    assert api.status_retryable(-2) == 1 and api.status_retryable(-1) == 0
    assert not lib.infer_get_api(1000000), "a table of the far future was given"


def main():
    tap = Tap()
    for case in (generates, stops_by_greedy_length, tokenizes, chats, survives_any_order,
                 says_what_is_wrong, table_of_functions):
        tap.run("python: " + case.__name__.replace("_", " "), case)
    tap.done()


main()
