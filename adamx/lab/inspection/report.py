"""An inspection as text and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adamx.lab.inspection.fields import POSITIVE, SIGNED, Field
from adamx.lab.inspection.health import share
from adamx.lab.inspection.measure import Numbers
from adamx.lab.plots.style import OTHERS, legend
from adamx.lab.table import NONE, grid

if TYPE_CHECKING:
    from adamx.lab.inspection import Inspection

BAR = 40  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉"
TITLES = (
    *("field", "dtype", "entries", "bytes", "min |x|", "median", "max |x|"),
    *("zero", "subnormal", "infinite", "NaN"),
)


def render(inspection: Inspection) -> str:
    """Writes sizes, numbers, codes, histograms and health."""
    rows = [list(TITLES), *map(row, inspection.fields)]
    blocks = [head(inspection), grid(rows), codes(inspection)]
    blocks += [
        bars(field.place, numbers)
        for field, numbers in spread(inspection)
        if field.name in SIGNED | POSITIVE
    ]
    blocks.append(health(inspection))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def head(inspection: Inspection) -> list[str]:
    """Says what there is in all."""
    lines = [f"{inspection.source}: {inspection.nbytes:,} bytes in arrays"]
    per_parameter = inspection.state_bytes_per_parameter
    if per_parameter is None:
        lines.append("no field of an optimizer that is known here")
    else:
        lines.append(
            f"{inspection.parameters:,} parameters; {per_parameter:.2f} bytes of "
            "optimizer state for each"
        )
    lines += [
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value:,}"
        for name, value in inspection.scalars.items()
    ]
    return lines


def row(field: Field) -> list[str]:
    """Writes a field as cells."""
    name = field.place or "(no name)"
    cells = [name, ", ".join(field.dtypes), f"{field.entries:,}", f"{field.nbytes:,}"]
    numbers = field.numbers
    if numbers is None:
        return cells + [NONE] * (len(TITLES) - len(cells))
    if numbers.median is None:
        cells += [NONE] * 3
    else:
        three = (numbers.smallest, numbers.median, numbers.largest)
        cells += [f"{x:.2g}" for x in three]
    counts = numbers.zeros, numbers.subnormals, numbers.infinities, numbers.nans
    return cells + [share(count, numbers.entries) for count in counts]


def codes(inspection: Inspection) -> list[str]:
    """Says how codes are used."""
    return [
        f"{field.place}, codes: {field.codes['top']:.2%} at the largest number, "
        f"{field.codes['bottom']:.2%} at the smallest; "
        f"{field.codes['zero_scales']:.2%} of the groups are 0, "
        f"{field.codes['bad_scales']:.2%} have no finite scale (the worst array)"
        for field in inspection.fields
        if field.codes
    ]


def bars(place: str, numbers: Numbers) -> list[str]:
    """Draws how |x| is spread over decades, a line for each."""
    lines, most = [f"{place}, |x| from"], max(numbers.decades.values())
    for decade, count in numbers.decades.items():
        whole, rest = divmod(round(8 * BAR * count / most), 8)
        bar = "█" * whole + (EIGHTHS[rest] if rest else "")
        part = share(count, numbers.entries)
        lines.append(f"  1e{decade:+03d}  {bar.ljust(BAR)}  {part}")
    return lines


def health(inspection: Inspection) -> list[str]:
    """Lists what is not as it should be."""
    if not inspection.findings:
        return ["Health: nothing was found that is not as it should be."]
    return ["Health:", *(f"- {finding}" for finding in inspection.findings)]


def histograms(inspection: Inspection, ax):
    """Draws the share of each decade of |x|, a line for each field."""
    for i, (field, numbers) in enumerate(spread(inspection)):
        decades = [*numbers.decades, max(numbers.decades) + 1]
        ax.stairs(
            [count / numbers.entries for count in numbers.decades.values()],
            [10.0**decade for decade in decades],
            label=field.place or "(no name)",
            color=OTHERS[i % len(OTHERS)],
            linestyle=("-", "--", ":")[i // len(OTHERS) % 3],
            linewidth=1.6,
        )
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("|x|")
    ax.set_ylabel("share of the entries, for each decade")
    ax.set_title(f"{inspection.source}: sizes of numbers")
    legend(ax, "field")
    return ax


def spread(inspection: Inspection) -> list[tuple[Field, Numbers]]:
    """The fields with numbers that are finite and not 0."""
    pairs = ((field, field.numbers) for field in inspection.fields)
    return [(field, n) for field, n in pairs if n is not None and n.decades]
