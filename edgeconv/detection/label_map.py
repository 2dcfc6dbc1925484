"""Names of classes: ``label_map.pbtxt`` of the Object Detection API, or one name a line."""

from __future__ import annotations

from pathlib import Path

from edgeconv.detection.text_format import LARGEST, Message, parse_text_proto
from edgeconv.errors import InvalidModelError

_BACKGROUND = "background"
_MOST = 1 << 20


def read_labels(path: Path) -> tuple[str, ...]:
    """The names of classes by their number: entry 0 is that of class 0.

    In a label map the numbers begin at 1, 0 being the background, and may have gaps; entries that nobody
    named are called ``background`` (0) and ``unnamed N``. A plain text file has one name a line, from 0 on.

    Raises:
        InvalidModelError: cannot be read, has no names, or gives one number to two classes.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidModelError("the file is too large for a list of labels", where=str(path))
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidModelError(
            "the labels cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            hint="name the file with --label-map",
        ) from error
    if "{" not in text:
        names = [line.strip() for line in text.splitlines()]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise InvalidModelError("the file has no labels", where=str(path))
        return tuple(names)
    return labels_of(parse_text_proto(text, str(path)), str(path))


def labels_of(label_map: Message, where: str = "") -> tuple[str, ...]:
    """The names of a label map that was read; see :func:`read_labels`."""
    names: dict[int, str] = {}
    for item in label_map.messages("item"):
        number = item.integer("id")
        # What a person reads is in display_name; name is an identifier (/m/01g317), where both are there.
        name = item.text("display_name") or item.text("name")
        if number is None or name is None or not 0 <= number < _MOST:
            raise InvalidModelError("an item of the label map lacks its id or name", where=where)
        if names.setdefault(number, name) != name:
            raise InvalidModelError(
                f"the label map gives the number {number} to '{names[number]}' and to '{name}'", where=where
            )
    if not names:
        raise InvalidModelError("the label map has no items", where=where)
    return tuple(
        names.get(number, _BACKGROUND if number == 0 else f"unnamed {number}")
        for number in range(max(names) + 1)
    )
