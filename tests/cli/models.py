"""infer template and infer models: what they print, and what they say of what they refuse.

usage: models.py SOURCE_ROOT INFER_COMMAND MODEL"""

import json
import os
import tempfile

from command import FAILED, MODEL, OK, ROOT, USAGE, Tap, ask, data, infer, refuse, succeed


def template_of_model():
    context = {"messages": [{"role": "user", "content": "Hé"}]}
    want = "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n"
    args = ("template", "--model", MODEL, "--context", "-")
    assert succeed(*args, stdin=json.dumps(context).encode()).decode() == want
    assert ask(*args, stdin=json.dumps(context).encode()) == {"text": want}
    context["add_generation_prompt"] = False
    assert succeed(*args, stdin=json.dumps(context).encode()).decode() == want[:-22]
    refuse(FAILED, "context: line 1", *args, stdin=b"{")
    refuse(FAILED, "no messages", *args, stdin=b"{}")


def template_refuses():
    args = ("template", "--context", "-", "--template")
    with tempfile.NamedTemporaryFile(mode="w") as file:
        file.write("{{ raise_exception('roles must ' ~ how) }}")
        file.flush()
        refuse(FAILED, "roles must alternate", *args, file.name, stdin=b'{"how": "alternate"}')
        file.seek(0)
        file.write("a\n{% include 'b' %}                        ")
        file.flush()
        refuse(FAILED, "line 2", *args, file.name, "--json", stdin=b"{}")
    refuse(FAILED, "/nowhere.jinja", *args, "/nowhere.jinja", stdin=b"{}")
    refuse(USAGE, "one of --model and --template", *args[:3], stdin=b"{}")
    refuse(USAGE, "one of --model and --template", *args, "x", "--model", MODEL, stdin=b"{}")


def template_renders_as_recorded():
    """Every twelfth of the recorded renderings; tests/conformance has all of them."""
    with open(data("templates", "golden_contexts.json"), encoding="utf-8") as f:
        contexts = json.load(f)
    with open(data("templates", "golden_renders.json"), encoding="utf-8") as f:
        renders = json.load(f)
    cases = [(name, which, result) for name, of in renders.items() for which, result in of.items()]
    refused = [case for case in cases if "output" not in case[2]]
    for name, which, result in cases[::12] + refused[::4]:
        context = {**contexts["contexts"][which], "strftime_now": contexts["strftime_now"]}
        args = ("template", "--context", "-", "--template", data("templates", "templates", name))
        given = json.dumps(context).encode()
        if "output" in result:
            assert succeed(*args, stdin=given).decode() == result["output"], (name, which)
        else:
            refuse(FAILED, "", *args, stdin=given)


def link(source, *path):
    full = os.path.join(*path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    os.symlink(os.path.abspath(source), full)
    return full


def models_of_folders():
    size = os.path.getsize(MODEL)
    with tempfile.TemporaryDirectory() as top:
        link(MODEL, top, "a", "deep", "whole.gguf")
        link(MODEL, top, "a", "split-00001-of-00002.gguf")
        link(MODEL, top, "a", "split-00002-of-00002.gguf")
        link(MODEL, top, "a", ".hidden", "x.gguf")
        link(MODEL, top, "a", "model.bin")
        os.symlink(top, os.path.join(top, "a", "circle"))
        link(os.path.join(ROOT, "README.md"), top, "b", "broken\x1b.gguf")
        link(MODEL, top, "b", "lonely-00002-of-00003.gguf")
        got = ask("models", os.path.join(top, "a") + "/", os.path.join(top, "b"))
        assert list(got) == ["available_bytes", "kv_tokens", "models"], list(got)
        names = [os.path.relpath(m["name"], top) for m in got["models"]]
        assert names == ["a/deep/whole.gguf", "a/split-00001-of-00002.gguf", "b/broken\x1b.gguf",
                         "b/lonely-00002-of-00003.gguf"], names
        whole, split, broken, _ = got["models"]
        info = ask("inspect", "--model", MODEL, "--kv-tokens", "512")
        assert whole["state"] == "ok" and whole["reason"] is None, whole
        assert whole["architecture"] == "llama" and whole["weight_type"] == "Q8_0", whole
        assert whole["n_parameters"] == info["n_parameters"]
        assert whole["n_context"] == info["n_context"] and whole["bytes"] == size
        assert abs(whole["memory_bytes"] - info["estimate"]["total_bytes"]) < size / 20, whole
        assert whole["fits"] == (whole["memory_bytes"] <= got["available_bytes"])
        assert split["bytes"] == 2 * size
        assert broken["state"] == "broken" and "GGUF" in broken["reason"], broken
        fewer = ask("models", os.path.join(top, "a", "deep"), "--kv-tokens", "64")["models"][0]
        assert fewer["memory_bytes"] < whole["memory_bytes"]
        shown = succeed("models", os.path.join(top, "b")).decode()
        assert "broken?.gguf" in shown and "\x1b" not in shown, shown
        assert ask("models", os.path.join(top, "a", "deep", "whole.gguf"))["models"][0] == whole
        refuse(FAILED, "/nowhere", "models", "/nowhere", "--json")


def models_of_cache():
    with tempfile.TemporaryDirectory() as home:
        hub = os.path.join(home, "hub")
        where = {"HF_HOME": home, "HF_HUB_CACHE": "", "XDG_CACHE_HOME": "/nowhere"}

        def listing(**env):
            status, out, err = infer("models", "--json", env={**where, **env})
            assert status == OK and err == "", err
            return [m["name"] for m in json.loads(out)["models"]]
        assert listing() == []
        repo = os.path.join(hub, "models--org--some-model")
        for revision in ("0123", "4567"):
            link(MODEL, repo, "snapshots", revision, "q8_0.gguf")
        os.makedirs(os.path.join(repo, "refs"))
        for name in ("main", "v1"):
            with open(os.path.join(repo, "refs", name), "w", encoding="utf-8") as f:
                f.write("4567")
        link(MODEL, hub, "models--single", "snapshots", "89ab", "x.gguf")
        want = ["org/some-model@0123/q8_0.gguf", "org/some-model@main/q8_0.gguf",
                "single@89ab/x.gguf"]
        assert listing() == want, listing()
        assert listing(HF_HOME="/nowhere", HF_HUB_CACHE=hub) == want
        os.symlink(hub, os.path.join(home, "huggingface"))
        assert listing(HF_HOME="/nowhere") == []


def main():
    tap = Tap()
    for case in (template_of_model, template_refuses, template_renders_as_recorded,
                 models_of_folders, models_of_cache):
        tap.run(case.__name__.replace("_", " "), case)
    tap.done()


main()
