"""What benchmarks/compare.py found, as Markdown and as a bar chart.

The results are a dictionary that JSON keeps:
    {"models": {NAME: what compare_models.describe() says},
     "cells": {"LEVEL/MODEL/CELL": {"time": TEXT, "machine": TEXT, "limits": {...}, "threads": N,
                                    "kv_bytes": N, "tokens": N,
                                    "engines": {NAME: {"about": {...}, "samples": [...]}
                                                      or {"error": TEXT}}}}}
A sample is what an engine answered, with the steal and the work of others meanwhile. A cell that is
measured again is replaced as a whole, so that figures set against each other are of one run."""

import statistics
from html import escape

import compare_models

OURS = "libinfer"
CELLS = ["prefill@512", "decode@0", "decode@2048", "decode@8192", "batch@4", "batch@8", "batch@16",
         "batch@64", "load", "memory"]
LEVELS = ["default", "avx512", "avx2"]
BATCH_PROMPT = 64
DISTURBED = 5.0  # percent of the processors' time; rows beyond are marked
COLOURS = [("#2563a8", "#6aa9f0"), ("#c2571a", "#f0955a"), ("#4d7c2b", "#93c765"),
           ("#7b4b94", "#c39bd8"), ("#6b6b6b", "#b0b0b0")]  # on light, on dark


def merge(results, more):
    """`results` with the cells of `more`, where these are newer."""
    models = {**results.get("models", {}), **more.get("models", {})}
    cells = dict(results.get("cells", {}))
    for key, cell in more.get("cells", {}).items():
        if key not in cells or cells[key]["time"] <= cell["time"]:
            cells[key] = cell
    return {"models": models, "cells": cells}


def title_of(cell):
    kind, _, n = cell.partition("@")
    return {"prefill": f"prefill of {n} tokens, tokens/s",
            "decode": f"decode at depth {int(n or 0):,}, tokens/s",
            "batch": f"decode of {n} at once, tokens/s in all",
            "load": "load to first token, ms", "memory": "peak resident memory, MiB"}[kind]


def scale_of(cell):
    """What a value is multiplied by in tables, and whether less is better."""
    return {"load": (1e3, True), "memory": (1 / 2**20, True)}.get(cell, (1.0, False))


def median_of(engine):
    values = [sample["value"] for sample in engine.get("samples", [])]
    return statistics.median(values) if values else None


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure(engine, cell):
    """Median and spread, or why there is none."""
    if "samples" not in engine:
        return engine.get("error", "not measured")
    scale, _ = scale_of(cell)
    values = sorted(scale * sample["value"] for sample in engine["samples"])
    text = number(statistics.median(values))
    if len(values) > 1:
        text += f" ({number(values[0])} to {number(values[-1])})"
    last = engine["samples"][-1]
    if cell == "memory":
        text += (f" ({number(scale * last['anonymous'])} anonymous, "
                 f"{number(scale * last['file'])} of files)")
    return text


def ratio(cell, name):
    """How many times better than the faster peer; None without a peer."""
    ours = median_of(cell["engines"].get(OURS, {}))
    peers = [median_of(engine) for peer, engine in cell["engines"].items() if peer != OURS]
    peers = [value for value in peers if value]
    if not ours or not peers:
        return None
    return min(peers) / ours if scale_of(name)[1] else ours / max(peers)


def share(cell, name, model):
    """Our part of what the machine gives: of bandwidth in decode, of arithmetic in prefill."""
    ours = median_of(cell["engines"].get(OURS, {}))
    limits = cell.get("limits")
    if not ours or not limits or name in ("load", "memory"):
        return None
    kind, _, n = name.partition("@")
    if kind == "prefill":
        rates = [limits["f32_gflops"], limits["bf16_gflops"] or 0] if model["float"] \
            else [limits["int8_gops"]]
        return ours * compare_models.token_operations(model) * 1e-9 / max(rates)
    seqs, depth = (1, int(n)) if kind == "decode" else (int(n), BATCH_PROMPT)
    read = compare_models.step_bytes(model, seqs, depth + cell["tokens"] / 2, cell["kv_bytes"])
    return ours / seqs * read * 1e-9 / max(limits["read_gbs"].values())


def most_of(cell, what):
    """The highest share that any sample saw of steal or of others."""
    return max((sample[what] for engine in cell["engines"].values()
                for sample in engine.get("samples", [])), default=0.0)


def split_key(key):
    level, model, cell = key.split("/")
    return level, model, cell


def engines_of(results):
    found = []
    for cell in results["cells"].values():
        found += [name for name in cell["engines"] if name not in found]
    return [OURS] * (OURS in found) + [name for name in found if name != OURS]


def cells_of(results, level, model):
    prefix = f"{level}/{model}/"
    present = {key[len(prefix):] for key in results["cells"] if key.startswith(prefix)}
    order = CELLS + sorted(present - set(CELLS))
    return [(name, results["cells"][prefix + name]) for name in order if name in present]


def levels_and_models(results):
    keys = [split_key(key) for key in results["cells"]]
    names = list(compare_models.MODELS) + sorted({model for _, model, _ in keys})
    for level in LEVELS:
        models = {model for l, model, _ in keys if l == level}
        if models:
            yield level, [name for name in dict.fromkeys(names) if name in models]


def table(results, level, model):
    rows = cells_of(results, level, model)
    engines = [name for name in engines_of(results)
               if any(name in cell["engines"] for _, cell in rows)]
    heads = ["", *engines, "to the better peer", "of the limit", "steal", "others"]
    lines = ["| " + " | ".join(heads) + " |",
             "|---" * len(heads) + "|"]
    for name, cell in rows:
        figures = [figure(cell["engines"].get(engine, {}), name) for engine in engines]
        times, part = ratio(cell, name), share(cell, name, results["models"][model])
        shares = [most_of(cell, what) for what in ("steal", "others")]
        lines.append("| " + " | ".join([
            title_of(name), *figures, f"{times:.2f}" if times else "",
            f"{100 * part:.0f} %" if part else "",
            *(f"{'~ ' * (percent > DISTURBED)}{percent:.1f} %" for percent in shares)]) + " |")
    return lines


def limits_line(cell):
    limits = cell["limits"]
    reads = ", ".join(f"{rate:.1f} in {n}" for n, rate in limits["read_gbs"].items())
    bf16 = f", bf16 {number(limits['bf16_gflops'])} GFLOP/s" if limits["bf16_gflops"] else ""
    return (f"Limits before it ({limits['level']}, {limits['threads']} threads): reads {reads} "
            f"streams a thread, GB/s; f32 {number(limits['f32_gflops'])} GFLOP/s, int8 "
            f"{number(limits['int8_gops'])} GOP/s{bf16}.")


def about_engines(results):
    lines = []
    for name in engines_of(results):
        seen = dict.fromkeys(
            (level, engine["about"].get("version", ""), engine["about"].get("kernels", ""))
            for level in LEVELS for key, cell in results["cells"].items()
            if split_key(key)[0] == level
            for engine in [cell["engines"].get(name, {})] if "about" in engine)
        for level, version, kernels in seen:
            lines.append(f"| {name} | {level} | {version} | {kernels} |")
    return lines


def markdown(results, title, charts):
    """The report. `charts` names the pictures by level."""
    machines = dict.fromkeys(cell["machine"] for cell in results["cells"].values())
    lines = [f"# {title}", "", "`benchmarks/engine compare`, engines in turns on the same files "
             "of random weights. " + " ".join(machines), "",
             "Medians, in brackets least to most. *To the better peer* is above 1 where libinfer is "
             "faster, or needs less. *Of the limit*: of decode, the bytes of weights and cache that "
             "a step reads, against the most that the machine reads in its best number of streams; "
             "of prefill, the operations of the layers' matrices, against the peak of the "
             "arithmetic for the weights' type. *Steal* and *others*: the most of the processors' "
             "time that the host, and other programs, took during a sample; marked ~ where above "
             f"{DISTURBED:.0f} %: such rows compare how engines bear it, not how fast they are.", "",
             "| engine | level | version | instructions |", "|---|---|---|---|",
             *about_engines(results)]
    for level, models in levels_and_models(results):
        if level in charts:
            lines += ["", f"![Bars of the medians, level {level}]({charts[level]})"]
        for model in models:
            gigabytes = results["models"][model]["file_bytes"] * 1e-9
            first = cells_of(results, level, model)[0][1]
            suffix = "" if level == "default" else f", {level}"
            lines += ["", f"## {model}{suffix}", "", f"{gigabytes:.2f} GB. {limits_line(first)}", "",
                      *table(results, level, model)]
    return "\n".join(lines) + "\n"


# --- the chart ---

BAR, GAP, HEAD, LABEL, WIDTH, COLUMNS = 13, 9, 34, 110, 560, 2
STYLE = """<style>
text { font: 12px sans-serif; fill: #1f2328 }
.title { font-weight: bold } .small { font-size: 10px }
.page { fill: #ffffff } .axis { stroke: #8b949e }
%s
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .page { fill: #0d1117 }
%s }
</style>"""


def panel(results, level, cell, models, engines, x, y):
    """One cell's bars, a group a model. Returns the elements and the height."""
    scale, _ = scale_of(cell)
    groups = [(model, [(i, median_of(found["engines"].get(engine, {})))
                       for i, engine in enumerate(engines)])
              for model in models
              for found in [results["cells"].get(f"{level}/{model}/{cell}")] if found]
    groups = [(model, [(i, scale * value) for i, value in bars if value]) for model, bars in groups]
    groups = [(model, bars) for model, bars in groups if bars]
    if not groups:
        return [], 0
    most = max(value for _, bars in groups for _, value in bars)
    room = WIDTH - LABEL - 70
    out = [f'<text class="title" x="{x}" y="{y + 16}">{escape(title_of(cell))}</text>']
    at = y + HEAD - 8
    for model, bars in groups:
        height = BAR * len(bars)
        out.append(f'<text x="{x + LABEL - 6}" y="{at + height / 2 + 4:.1f}" text-anchor="end">'
                   f'{escape(model)}</text>')
        for i, value in bars:
            length = max(1.0, room * value / most)
            out.append(f'<rect class="e{i}" x="{x + LABEL}" y="{at}" width="{length:.1f}" '
                       f'height="{BAR - 2}"><title>{escape(engines[i])}: {number(value)}</title>'
                       f'</rect><text class="small" x="{x + LABEL + length + 4:.1f}" '
                       f'y="{at + BAR - 4}">{number(value)}</text>')
            at += BAR
        at += GAP
    out.append(f'<line class="axis" x1="{x + LABEL}" y1="{y + HEAD - 12}" x2="{x + LABEL}" '
               f'y2="{at - GAP + 2}"/>')
    return out, at - y + 8


def svg(results, level):
    """The medians of one level as bars; '' where there are none."""
    models = dict(levels_and_models(results)).get(level, [])
    engines = [name for name in engines_of(results)][:len(COLOURS)]
    names = [name for model in models for name, _ in cells_of(results, level, model)]
    names = sorted(set(names), key=lambda n: (CELLS.index(n) if n in CELLS else len(CELLS), n))
    out, heights = [], [44] * COLUMNS
    for name in names:
        column = heights.index(min(heights))
        elements, height = panel(results, level, name, models, engines, 16 + column * WIDTH,
                                 heights[column])
        out += elements
        heights[column] += height
    if not out:
        return ""
    legend, x = [], 16
    for i, name in enumerate(engines):
        legend.append(f'<rect class="e{i}" x="{x}" y="14" width="12" height="12"/>'
                      f'<text x="{x + 18}" y="24">{escape(name)}</text>')
        x += 50 + 7 * len(name)
    light = " ".join(f".e{i} {{ fill: {COLOURS[i][0]} }}" for i in range(len(engines)))
    dark = " ".join(f".e{i} {{ fill: {COLOURS[i][1]} }}" for i in range(len(engines)))
    width, height = WIDTH * COLUMNS + 16, max(heights) + 8
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>Medians, level {escape(level)}</title>", STYLE % (light, dark),
        f'<rect class="page" width="{width}" height="{height}"/>', *legend, *out, "</svg>"]) + "\n"
