"""What is in a checkpoint: kept beside it as JSON, to be compared before it is read."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import adamx
from adamx._base import describe
from adamx._fields import NamedTupleKey
from adamx.interop._checksum import checksums_of
from adamx.interop._states import (
    field_of,
    in_short,
    leaves_of,
    refuse,
    unlike,
    where,
)

FORMAT = 1
NOTHING = "nothing"

# By field, such as "opt_state[0].mu": the class of its state as "of", and "arrays":
# by path in it, the "type" of each and, of what is saved, the "checksum".
Fields = dict[str, dict[str, Any]]


class Row(NamedTuple):
    """An array of a tree."""

    field: str
    inner: str  # its path in the field
    of: str  # the class of the state that has the field
    array: Any


def rows_of(items: dict[str, Any]) -> list[Row]:
    """The arrays of trees; where no state has them, the field is the whole tree."""
    rows = []
    for item, tree in items.items():
        for path, x in leaves_of(tree):
            named = [i for i, k in enumerate(path) if isinstance(k, NamedTupleKey)]
            end = named[-1] + 1 if named else 0
            field, inner = item + where(path[:end]), where(path[end:])
            rows.append(Row(field, inner, field_of(path)[0], x))
    return rows


def fields_of(rows: list[Row]) -> Fields:
    """The fields without checksums."""
    fields: Fields = {}
    for row in rows:
        field = fields.setdefault(row.field, {"of": row.of, "arrays": {}})
        field["arrays"][row.inner] = {"type": describe(row.array)}
    return fields


def description(items: dict[str, Any]) -> dict[str, Any]:
    """What lies beside the trees of a checkpoint, which are given by name."""
    rows = rows_of(items)
    fields = fields_of(rows)
    for row, checksum in zip(rows, checksums_of([x.array for x in rows]), strict=True):
        fields[row.field]["arrays"][row.inner]["checksum"] = checksum
    return {"format": FORMAT, "adamx": adamx.__version__, "fields": fields}


def check(who: str, saved: Any, items: dict[str, Any], do: str) -> None:
    """Raises one error with all in which a checkpoint differs from trees of shapes.

    `do` says what to do if this is no description at all.
    """
    try:
        version, number, theirs = (saved[x] for x in ("adamx", "format", "fields"))
        problems = (
            differences(fields_of(rows_of(items)), theirs) if number == FORMAT else []
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{who}: expected a description by adamx, got something else "
            f"({in_short(error)}); {do}."
        ) from error
    if number != FORMAT:
        raise ValueError(
            f"{who}: expected format {FORMAT}, got {number}; read it with adamx "
            f"{version}, which wrote it."
        )
    refuse(
        who,
        problems,
        f"give the tx and params of the run that was saved, with adamx {version}",
    )


def check_content(who: str, saved: Any, items: dict[str, Any], do: str) -> None:
    """Raises unless arrays have the types and the bits that were saved."""
    rows = rows_of(items)
    bad = []
    for row, checksum in zip(rows, checksums_of([x.array for x in rows]), strict=True):
        want = saved["fields"][row.field]["arrays"][row.inner]
        if want != {"type": describe(row.array), "checksum": checksum}:
            bad.append(row.field + row.inner)
    if bad:
        raise ValueError(
            f"{who}: expected the numbers that were saved, got others at "
            f"{and_more(bad)}; {do}."
        )


@contextlib.contextmanager
def reading(expected: str, do: str) -> Iterator[None]:
    """Makes one line of whatever other libraries raise for what they cannot read."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{expected}, which is damaged or something else ({in_short(error)}); {do}."
        ) from error


def differences(ours: Fields, theirs: Fields) -> list[str]:
    """What does not match, a line for each kind of it in a field."""
    problems = []
    names = dict.fromkeys([*ours, *theirs])
    missing = [name for name in ours if name not in theirs]
    for name in missing:
        found = twin(name, ours, theirs, [x for x in names if x not in ours])
        if found:
            problems.append(f"expected {name}, got {found} of the same shapes")
            del names[name], names[found]
    for name in names:
        field, other = ours.get(name), theirs.get(name)
        if field and other and field["of"] != other["of"]:
            place = name.rpartition(".")[0]
            problems.append(unlike(f"a {field['of']}", f"a {other['of']}", place))
        want, got = types(field), types(other)
        kinds: dict[Any, list[tuple[str, str, str]]] = {}
        for inner in dict.fromkeys([*want, *got]):
            pair = want.get(inner, NOTHING), got.get(inner, NOTHING)
            if pair[0] != pair[1]:
                kind = tuple(x.partition("[")[0] for x in pair)
                kinds.setdefault(kind, []).append((*pair, name + inner))
        for rows in kinds.values():
            places = and_more([place for _, _, place in rows])
            problems.append(unlike(rows[0][0], rows[0][1], places))
    return list(dict.fromkeys(problems))


def twin(name: str, ours: Fields, theirs: Fields, among: list[str]) -> str | None:
    """A field with the same arrays under another name, the last part alike if any."""
    same = [x for x in among if types(theirs[x]) == types(ours[name])]
    last = name.rpartition(".")[2]
    return max(same, key=lambda x: x.rpartition(".")[2] == last, default=None)


def types(field: dict[str, Any] | None) -> dict[str, str]:
    """The types of the arrays of a field, by path in it."""
    arrays = field["arrays"] if field else {}
    return {path: row["type"] for path, row in arrays.items()}


def and_more(places: list[str]) -> str:
    """The first of some places, and how many more there are."""
    return places[0] + (f" and {len(places) - 1} more" if len(places) > 1 else "")
