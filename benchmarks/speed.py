"""The README's table of speed, from the figures in results/."""

import json
from pathlib import Path


def table(results: Path) -> str:
    """Markdown, one row for each tree, model and table."""
    found = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    rows = []
    for r in found["step_time"]["steps"]:
        name = f"{r['tree']}: {million(r['parameters'])} in {r['leaves']:,}"
        share = r["limit, ms"] / r["fused, ms"]
        ratios = [r["fused / optax"], r["fused / torch"], r["chain / optax"]]
        ratios += [r["fused, 8 bits / optax"]]
        rows.append([name, r["fused, ms"], percent(share), *ratios])
    for r in found["training_time"]["training"]:
        ratios = [r["fused / optax"], "", r["chain / optax"], ""]
        rows.append([f"training, {r['model']}", r["fused, ms"], "", *ratios])
    for name, r in found["rows"].items():
        if isinstance(r, dict) and "adamx, ms" in r:
            row = [f"rows, {name}", r["adamx, ms"], "", r["optax"], r["torch"], "", ""]
            rows.append(row)
    head = (
        "parameters in leaves | fused or rows, ms | of bandwidth | / Optax | / PyTorch"
    )
    lines = [
        f"| {head} | chain / Optax | fused, 8 bits / Optax |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows)])


def million(n: int) -> str:
    """A number of parameters."""
    return f"{n / 1e6:.3g} million"


def percent(x: float) -> str:
    """A share."""
    return f"{100 * x:.0f} %"


def cell(x: str | float) -> str:
    """A cell."""
    return x if isinstance(x, str) else f"{x:.3g}"
