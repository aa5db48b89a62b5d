"""libinfer from Python, by ctypes alone: copy this file into your program.

    model = Model("model.gguf")
    for text in model.session().stream("Once upon a time", max_tokens=40):
        print(text, end="", flush=True)
"""

import ctypes as C
import os

OK, DONE = 0, 2
FINISH_NAMES = ["none", "stop", "length", "context", "cancelled", "error"]


class Error(Exception):
    """A call failed: `status` is negative, the text is libinfer's sentence."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


class _Sized(C.Structure):
    """Structs that begin with their own size; every field not given is 0, the default."""

    def __init__(self, **fields):
        super().__init__(struct_size=C.sizeof(self), **fields)


class Message(C.Structure):
    _fields_ = [("role", C.c_char_p), ("content", C.c_char_p), ("reserved", C.c_uint64 * 2)]


class Sampling(_Sized):
    _fields_ = [("struct_size", C.c_size_t), ("logit_bias", C.c_void_p),
                ("n_logit_bias", C.c_size_t), ("repetition_penalty", C.c_float),
                ("frequency_penalty", C.c_float), ("presence_penalty", C.c_float),
                ("penalty_last_n", C.c_int32), ("temperature", C.c_float), ("top_k", C.c_int32),
                ("top_p", C.c_float), ("min_p", C.c_float), ("seed", C.c_uint64)]


class RequestOptions(_Sized):
    _fields_ = [("struct_size", C.c_size_t), ("prompt", C.c_char_p), ("prompt_size", C.c_size_t),
                ("tokens", C.POINTER(C.c_int32)), ("n_tokens", C.c_size_t),
                ("messages", C.POINTER(Message)), ("n_messages", C.c_size_t),
                ("sampling", C.POINTER(Sampling)), ("stop", C.POINTER(C.c_char_p)),
                ("n_stop", C.c_size_t), ("max_tokens", C.c_int64), ("prefill_only", C.c_int32),
                ("ignore_eos", C.c_int32), ("parse_special", C.c_int32), ("logprobs", C.c_int32),
                ("n_top_logprobs", C.c_int32), ("prompt_logprobs", C.c_int32),
                ("want_logits", C.c_int32)]


class Event(_Sized):
    _fields_ = [("struct_size", C.c_size_t), ("text", C.POINTER(C.c_char)),
                ("text_size", C.c_size_t), ("top", C.c_void_p), ("n_top", C.c_size_t),
                ("logits", C.POINTER(C.c_float)), ("n_logits", C.c_size_t), ("type", C.c_int32),
                ("token", C.c_int32), ("logprob", C.c_float), ("finish", C.c_int32)]


def _load_library():
    """INFER_LIBRARY names the file; otherwise the system's is taken."""
    lib = C.CDLL(os.environ.get("INFER_LIBRARY", "libinfer.so.0"))
    handle, options, size = C.POINTER(C.c_void_p), C.c_void_p, C.POINTER(C.c_size_t)
    signatures = {
        "last_error": (C.c_char_p, []),
        "version": (C.c_uint32, []),
        "model_load": (C.c_int32, [handle, C.c_char_p, options]),
        "model_destroy": (None, [handle]),
        "model_tokenizer": (C.c_void_p, [C.c_void_p]),
        "tokenizer_encode": (C.c_int32, [C.c_void_p, C.c_char_p, C.c_size_t, options,
                                         C.POINTER(C.c_int32), size]),
        "tokenizer_decode": (C.c_int32, [C.c_void_p, C.POINTER(C.c_int32), C.c_size_t, options,
                                         C.c_char_p, size]),
        "session_create": (C.c_int32, [handle, C.c_void_p, options]),
        "session_destroy": (None, [handle]),
        "session_submit": (C.c_int32, [handle, C.c_void_p, C.POINTER(RequestOptions)]),
        "request_next": (C.c_int32, [C.c_void_p, C.POINTER(Event)]),
        "request_cancel": (None, [C.c_void_p]),
        "request_destroy": (None, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, "infer_" + name)
        function.restype, function.argtypes = result, arguments
    return lib


_lib = _load_library()


def check(status):
    """Raises for a negative status; returns it otherwise."""
    if status < 0:
        raise Error(status, _lib.infer_last_error().decode())
    return status


class _Handle:
    """Owns one libinfer handle. Destroying in any order is legal, so the collector may."""

    _destroy = None

    def __init__(self):
        self.pointer = C.c_void_p()

    def close(self):
        self._destroy(C.byref(self.pointer))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if self.pointer:
            self.close()


class Model(_Handle):
    _destroy = _lib.infer_model_destroy

    def __init__(self, path):
        super().__init__()
        check(_lib.infer_model_load(C.byref(self.pointer), os.fsencode(path), None))
        self._tokenizer = _lib.infer_model_tokenizer(self.pointer)

    def session(self):
        return Session(self)

    def encode(self, text):
        data, n = text.encode(), C.c_size_t()
        check(_lib.infer_tokenizer_encode(self._tokenizer, data, len(data), None, None,
                                          C.byref(n)))
        ids = (C.c_int32 * n.value)()
        check(_lib.infer_tokenizer_encode(self._tokenizer, data, len(data), None, ids,
                                          C.byref(n)))
        return list(ids)

    def decode(self, tokens):
        ids, n = (C.c_int32 * len(tokens))(*tokens), C.c_size_t()
        check(_lib.infer_tokenizer_decode(self._tokenizer, ids, len(ids), None, None, C.byref(n)))
        text = C.create_string_buffer(n.value + 1)
        check(_lib.infer_tokenizer_decode(self._tokenizer, ids, len(ids), None, text, C.byref(n)))
        return text.raw[:n.value].decode()


class Session(_Handle):
    _destroy = _lib.infer_session_destroy

    def __init__(self, model):
        super().__init__()
        check(_lib.infer_session_create(C.byref(self.pointer), model.pointer, None))

    def submit(self, prompt=None, messages=None, **options):
        """A request from a prompt, or from messages as (role, content) pairs."""
        fields = RequestOptions(**options)
        if messages is not None:
            turns = [Message(role.encode(), content.encode()) for role, content in messages]
            fields.messages = (Message * len(turns))(*turns)
            fields.n_messages = len(turns)
        else:
            data = prompt.encode()
            fields.prompt, fields.prompt_size = data, len(data)
        request = Request()
        check(_lib.infer_session_submit(C.byref(request.pointer), self.pointer,
                                        C.byref(fields)))
        return request

    def stream(self, prompt=None, messages=None, **options):
        """Yields pieces of text as they become certain."""
        with self.submit(prompt, messages, **options) as request:
            for event in request:
                if event.text_size:
                    yield event.text[:event.text_size].decode()


class Request(_Handle):
    _destroy = _lib.infer_request_destroy

    def __iter__(self):
        event = Event()
        while check(_lib.infer_request_next(self.pointer, C.byref(event))) != DONE:
            yield event

    def cancel(self):
        _lib.infer_request_cancel(self.pointer)
