#!/usr/bin/env python3
"""docs/mpi.md's table of predicted efficiencies, and its picture docs/images/mpi.svg."""
import json

# Each: name, seconds of compute a step and rank, bytes of gradients, buckets.
MODELS = [("GPT of 0.8M, 12 x 64 tokens a rank", 0.0226, 806144 * 4, 4), ("GPT of 124M, 4 x 256 tokens a rank", 4.19, 124e6 * 4, 17)]
# Gb/s, and assumed seconds a message takes to the next rank.
LINKS = [(10, 30e-6), (100, 10e-6), (400, 5e-6)]
NODES = [2**i for i in range(1, 10)]
# What scripts/measure_mpi.sh has printed: ranks, Gb/s (0: no limit), elements of a bucket (0: the usual), seconds of a step.
MEASURED = [json.loads(line) for line in open("docs/mpi.json")]
WHOLE = 806144  # one bucket for all: nothing can leave before backward has ended


def sending(nodes, size, buckets, gbit, latency):
    """Ring all-reduce of buckets, one after the other."""
    return 2 * (nodes - 1) / nodes * size * 8 / (gbit * 1e9) + 2 * (nodes - 1) * buckets * latency


def efficiency(nodes, compute, size, buckets, gbit, latency, hidden=0.0):
    wait = max(0.0, sending(nodes, size, buckets, gbit, latency) - hidden * compute)
    return compute / (compute + wait)


def main():
    x = lambda n, left: left + 60 + 300 * (n.bit_length() - 1) / 9
    y = lambda e: 280 - 230 * e
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" width="840" height="350" font-family="sans-serif" font-size="12">',
           '<rect width="840" height="350" fill="white"/>']
    for i, (name, compute, size, buckets) in enumerate(MODELS):
        left = 420 * i
        svg.append(f'<text x="{left + 60}" y="28" font-size="14">{name}</text>')
        for e in (0, 0.25, 0.5, 0.75, 1):
            svg.append(f'<line x1="{left + 60}" x2="{left + 360}" y1="{y(e)}" y2="{y(e)}" stroke="#ddd"/>')
            svg.append(f'<text x="{left + 54}" y="{y(e) + 4}" text-anchor="end">{e:.0%}</text>')
        for n in [1] + NODES:
            svg.append(f'<text x="{x(n, left)}" y="298" text-anchor="middle">{n}</text>')
        svg.append(f'<text x="{left + 210}" y="318" text-anchor="middle">ranks, each on a machine of its own</text>')
        print(f"{name}\n{'ranks':>14}" + "".join(f"{n:>7}" for n in NODES))
        lines = list(zip(LINKS, ("#c0392b", "#2471a3", "#1e8449")))
        if i == 0:
            lines[:0] = [((0.3, 50e-6), "#a04000"), ((1, 50e-6), "#7d3c98")]
        for k, ((gbit, latency), colour) in enumerate(lines):
            for hidden, dash in ((0.0, ""), (2 / 3, ' stroke-dasharray="4 3"')):
                es = [efficiency(n, compute, size, buckets, gbit, latency, hidden) for n in NODES]
                points = " ".join(f"{x(n, left):.1f},{y(e):.1f}" for n, e in zip([1] + NODES, [1.0] + es))
                svg.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
                how = "hidden" if hidden else "bare"
                print(f"{gbit:>4} Gb/s {how:>6}" + "".join(f"{e:>7.1%}" for e in es))
            svg.append(f'<text x="{left + 70 + 72 * k}" y="338" fill="{colour}">{gbit} Gb/s</text>')
    # Measured: the step with a limited link beside that of as many ranks without a limit.
    free = {m["ranks"]: m["step_seconds"] for m in MEASURED if m["gbit"] == 0 and m["bucket"] == 0}
    colours = {0.3: "#a04000", 1: "#7d3c98"}
    print("measured, beside the model with the step without a limit as compute, bare and hidden")
    for m in MEASURED:
        n, gbit, bucket = m["ranks"], m["gbit"], m["bucket"]
        if gbit == 0 or n not in free:
            continue
        # One bucket is a ring, not filled: none of it is hidden.
        fill = "white" if bucket >= WHOLE else colours[gbit]
        e = free[n] / m["step_seconds"]
        svg.append(f'<circle cx="{x(n, 0)}" cy="{y(e):.1f}" r="4" fill="{fill}" stroke="{colours[gbit]}" stroke-width="2"/>')
        bare, hidden = (efficiency(n, free[n], MODELS[0][2], 4, gbit, 50e-6, h) for h in (0, 2 / 3))
        print(f"{n} ranks, {gbit} Gb/s, bucket {bucket or 'usual'}: {m['step_seconds'] * 1e3:.1f} ms, {e:.1%}; {bare:.1%} to {hidden:.1%}")
    svg.append("</svg>")
    with open("docs/images/mpi.svg", "w") as f:
        f.write("\n".join(svg) + "\n")


main()
