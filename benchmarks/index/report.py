"""What compare.py found, as Markdown and as a plot of recall against speed (SVG)."""

import math

COLOURS = {"libinfer": "#c0392b", "libinfer_partitions": "#e59866", "hnswlib": "#2471a3",
           "usearch": "#1e8449", "faiss_hnsw": "#7d3c98", "faiss_ivfpq": "#b9770e"}
TITLES = {"search": "One query a call, one thread", "batch": "All queries in one call, one thread",
          "threads": "All queries in one call, two threads"}
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 360, 64, 44


def rate_text(rate):
    return "never" if rate is None else f"{rate:,.0f}"


def front_table(fronts, at_recall, targets):
    reached = {name: [at_recall([(p["recall"], p["rate"]) for p in points], t) for t in targets]
               for name, points in fronts.items()}
    yield "| queries/s at recall@10 | " + " | ".join(f"{t:g}" for t in targets) + " | highest recall |"
    yield "|---|" + "---|" * (len(targets) + 1)
    for name, rates in reached.items():
        highest = max(p["recall"] for p in fronts[name])
        yield f"| {name} | " + " | ".join(rate_text(r) for r in rates) + f" | {highest:.4f} |"
    if "hnswlib" in reached and "libinfer" in reached:
        ratios = [a / b if a and b else None for a, b in zip(reached["libinfer"], reached["hnswlib"])]
        yield "| libinfer to hnswlib | " + " | ".join(
            "" if r is None else f"**{r:.2f}**" for r in ratios) + " | |"
    yield ""


def tables(results, at_recall, targets):
    s = results["set"]
    yield f"# {s['date']}: {s['name']}"
    yield ""
    yield (f"`benchmarks/index/compare.py`: {s['rows']:,} vectors of {s['dims']} dimensions, {s['metric']}; "
           f"libinfer keeps them as {s['type']}, the others as float32. Engines in turns in one run, medians; between "
           "two points of a front the rate is interpolated by its logarithm. " + s["note"])
    yield ""
    yield "| building, 2 threads | wall, s | CPU, s | anonymous memory, MB |"
    yield "|---|---|---|---|"
    for name, b in results["build"].items():
        yield f"| {name} | {b['wall_s']:.1f} | {b['cpu_s']:.1f} | {b['rss_mb']:.0f} |"
    yield ""
    for cell, title in TITLES.items():
        if cell in results:
            yield f"## {title}"
            yield ""
            yield from front_table(results[cell], at_recall, targets)
    for cell in results:
        if cell.startswith("filter"):
            yield (f"## A {cell} of the rows passes, independent of the vectors; all queries in one "
                   "call, one thread")
            yield ""
            yield from front_table(results[cell], at_recall, targets)
    if results["exact"]:
        yield "## Exact, one thread"
        yield ""
        yield "| | queries/s | recall@10 |"
        yield "|---|---|---|"
        for name, cell in results["exact"].items():
            rates = sorted(cell["rates"])
            yield f"| {name} | {rates[len(rates) // 2]:,.0f} | {cell['recall']:.4f} |"
        yield ""
    if results["change"]:
        yield "## Changes, one thread that asks; a fifth of the rows is deleted and written again"
        yield ""
        yield "| | " + " | ".join(results["change"]["libinfer"]) + " |"
        yield "|---|" + "---|" * len(results["change"]["libinfer"])
        for name, cell in results["change"].items():
            yield f"| {name} | " + " | ".join(
                f"{cell[k]:,.4g}" if k in cell else "" for k in results["change"]["libinfer"]) + " |"
        yield ""


def ticks(low, high):
    step = 10 ** math.floor(low)
    while step <= 10 ** high:
        for m in (1, 2, 5):
            if low <= math.log10(step * m) <= high:
                yield step * m
        step *= 10


def plot(fronts, title):
    """Recall on a scale that spreads what is near 1; rates by their logarithm."""
    shown = {n: sorted((p["recall"], p["rate"]) for p in ps if p["recall"] < 1 and p["recall"] > .5)
             for n, ps in fronts.items()}
    rates = [math.log10(r) for ps in shown.values() for _, r in ps]
    if not rates:
        return ""
    low, high = min(rates) - .05, max(rates) + .05

    def x(recall):
        return LEFT + (WIDTH - LEFT - 12) * min(1, -math.log10(1 - recall + 1e-9) / 3.2)

    def y(rate):
        return 28 + (HEIGHT - BOTTOM - 28) * (high - math.log10(rate)) / (high - low)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="11">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="18" font-size="13">{title}</text>']
    for r in (.5, .8, .9, .95, .98, .99, .995, .999):
        lines.append(f'<path d="M{x(r):.1f} 28V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
                     f'<text x="{x(r):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{r:g}</text>')
    for rate in ticks(low, high):
        lines.append(f'<path d="M{LEFT} {y(rate):.1f}H{WIDTH - 12}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,.0f}</text>')
    for i, (name, points) in enumerate(shown.items()):
        path = "L".join(f"{x(r):.1f} {y(q):.1f}" for r, q in points)
        colour = COLOURS.get(name, "#555")
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(r):.1f}" cy="{y(q):.1f}" r="2.5" fill="{colour}"/>' for r, q in points]
        lines.append(f'<text x="{WIDTH - 120}" y="{44 + 15 * i}" fill="{colour}">{name}</text>')
    lines.append(f'<text x="{(LEFT + WIDTH) // 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                 'recall@10; queries a second upwards</text></svg>')
    return "\n".join(lines) + "\n"


def write(results, stem, at_recall, targets):
    text = list(tables(results, at_recall, targets))
    if "search" in results:
        with open(stem + ".svg", "w", encoding="utf-8") as f:
            f.write(plot(results["search"], f"{results['set']['name']}: one query a call, one thread"))
        text += [f"![Recall against queries a second]({stem.rsplit('/', 1)[-1]}.svg)", ""]
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write("\n".join(text).rstrip() + "\n")
