"""Protocol buffers in their text form, read without a schema.

The grammar is that of the Protocol Buffers documentation ("Text Format Language Specification"). Without a
schema a name alone does not tell whether a field is repeated, so every field is a list here, and an enum's
name stays a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgeconv.errors import InvalidModelError

DEEPEST = 100
"""Levels of nesting that are read; real files have about ten."""
LARGEST = 64 << 20
"""Bytes of the largest file that is read."""


class Symbol(str):
    """An unquoted word: the name of an enum's value, or ``true`` and ``false``."""

    __slots__ = ()


Scalar = int | float | str
"""Strings are text where they are UTF-8 and keep other bytes as lone surrogates; a word is a Symbol."""


@dataclass(slots=True)
class Message:
    """The fields of one message: name to all its values, in the order of the file."""

    fields: dict[str, list[Scalar | Message]] = field(default_factory=dict)

    def messages(self, name: str) -> list[Message]:
        """The values of a field that are messages."""
        return [value for value in self.fields.get(name, []) if isinstance(value, Message)]

    def message(self, name: str) -> Message | None:
        """The last value of a field that is a message, as a later one replaces an earlier."""
        found = self.messages(name)
        return found[-1] if found else None

    def at(self, *names: str) -> Message | None:
        """The message at the end of a path of names; ``None`` where the path ends before."""
        found: Message | None = self
        for name in names:
            if found is None:
                return None
            found = found.message(name)
        return found

    def scalar(self, name: str) -> Scalar | None:
        """The last value of a field that is no message."""
        found = [value for value in self.fields.get(name, []) if not isinstance(value, Message)]
        return found[-1] if found else None

    def number(self, name: str) -> float | None:
        """A number; ``None`` where there is none."""
        value = self.scalar(name)
        if isinstance(value, Symbol):
            return {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}.get(value.lower())
        return float(value) if isinstance(value, (int, float)) else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """All numbers of a repeated field."""
        return tuple(float(v) for v in self.fields.get(name, []) if isinstance(v, (int, float)))

    def integer(self, name: str) -> int | None:
        """A whole number; ``None`` where there is none."""
        value = self.scalar(name)
        return value if isinstance(value, int) else None

    def text(self, name: str) -> str | None:
        """A string or an enum's name; ``None`` where there is none."""
        value = self.scalar(name)
        return str(value) if isinstance(value, str) else None

    def flag(self, name: str, default: bool = False) -> bool:
        """``true``, ``True``, ``t`` and 1, as the language has it; ``default`` where nothing is said."""
        value = self.scalar(name)
        if value is None:
            return default
        return value in ("true", "True", "t", 1)


_TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n\f\v]|\#[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![A-Za-z_0-9.]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[-{}<>\[\]:;,./%])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|u(?P<four>[0-9a-fA-F]{4})"
    r"|U(?P<eight>[0-9a-fA-F]{8})|(?P<letter>.))",
    re.DOTALL,
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def read_text_proto(path: Path) -> Message:
    """The message in a file.

    Raises:
        InvalidModelError: missing, too large, not text, or not of the language; says the line.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidModelError("the file is too large for a configuration", where=str(path))
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidModelError(
            "the file cannot be read", where=str(path), why=error.strerror or str(error)
        ) from error
    return parse_text_proto(text, str(path))


def parse_text_proto(text: str, where: str = "") -> Message:
    """The message that a text spells out.

    Args:
        text: in the text form of protocol buffers.
        where: name of the file, for errors.

    Raises:
        InvalidModelError: not of the language; says the line.
    """
    return _Parser(text, where).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._tokens = self._tokenise()
        self._token = next(self._tokens)

    def whole(self) -> Message:
        message = self._fields(None, 0)
        if self._token.kind != "end":
            raise self._refused(f"'{self._token.text}' closes nothing")
        return message

    def _tokenise(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                raise self._refused(f"'{self._text[position]}' is not understood", position)
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match.group(), position)
            position = match.end()
        while True:
            yield _Token("end", "the end of the file", position)

    def _fields(self, closing: str | None, depth: int) -> Message:
        if depth > DEEPEST:
            raise self._refused(f"messages are nested more than {DEEPEST} levels deep")
        message = Message()
        while self._token.kind != "end" and self._token.text not in ("}", ">"):
            name = self._name()
            values = message.fields.setdefault(name, [])
            colon = self._skip(":")
            if self._token.text == "[":
                if not colon:
                    raise self._refused(f"a colon is missing behind '{name}'")
                values.extend(self._list(depth))
            elif self._token.text in ("{", "<"):
                values.append(self._message(depth))
            elif colon:
                values.append(self._scalar())
            else:
                raise self._refused(f"a value is missing behind '{name}', before {self._shown()}")
            if not self._skip(";"):
                self._skip(",")
        if closing is not None:
            if self._token.text != closing or self._token.kind != "mark":
                raise self._refused(f"'{closing}' is missing before {self._shown()}")
            self._next()
        return message

    def _message(self, depth: int) -> Message:
        closing = "}" if self._token.text == "{" else ">"
        self._next()
        return self._fields(closing, depth + 1)

    def _list(self, depth: int) -> list[Scalar | Message]:
        values: list[Scalar | Message] = []
        self._next()
        while not self._skip("]"):
            if values and not self._skip(","):
                raise self._refused(f"',' or ']' is missing before {self._shown()}")
            values.append(self._message(depth) if self._token.text in ("{", "<") else self._scalar())
        return values

    def _name(self) -> str:
        token = self._token
        if token.kind == "word":
            self._next()
            return token.text
        if self._skip("["):
            # An extension, or the type of an Any: [package.name] or [host/package.name].
            parts: list[str] = []
            while not self._skip("]"):
                if self._token.kind not in ("word", "mark", "number") or self._token.text in ("{", "}", "["):
                    raise self._refused(f"']' is missing before {self._shown()}")
                parts.append(self._next().text)
            return f"[{''.join(parts)}]"
        raise self._refused(f"the name of a field is expected, not {self._shown()}")

    def _scalar(self) -> Scalar:
        token = self._next()
        if token.kind == "string":
            text = _unescaped(token.text[1:-1])
            while self._token.kind == "string":
                text += _unescaped(self._next().text[1:-1])
            return _joined(text)
        negative = token.text == "-"
        if negative:
            token = self._next()
        if token.kind == "number":
            number = _number(token.text)
            return -number if negative else number
        if token.kind == "word" and not negative:
            return Symbol(token.text)
        if token.kind == "word" and token.text.lower() in ("inf", "infinity", "nan"):
            return -float(token.text)
        raise self._refused(f"a value is expected, not '{token.text}'", token.at)

    def _skip(self, text: str) -> bool:
        if self._token.kind == "mark" and self._token.text == text:
            self._next()
            return True
        return False

    def _next(self) -> _Token:
        token, self._token = self._token, next(self._tokens)
        return token

    def _shown(self) -> str:
        return self._token.text if self._token.kind == "end" else f"'{self._token.text}'"

    def _refused(self, what: str, at: int | None = None) -> InvalidModelError:
        position = self._token.at if at is None and hasattr(self, "_token") else at or 0
        line = self._text.count("\n", 0, position) + 1
        return InvalidModelError(
            what,
            where=f"{self._where}, line {line}" if self._where else f"line {line}",
            why="it is not the text form of a protocol buffer",
            hint="check that this is the file, and copy it again",
        )


def _number(text: str) -> int | float:
    if text[:2].lower() == "0x":
        return int(text, 16)
    if re.fullmatch(r"0[0-7]+", text):
        return int(text, 8)
    if text.isdecimal():
        # Longer ones are no integer that a protocol buffer could hold.
        return int(text) if len(text) <= 20 else float(text)
    return float(text.rstrip("fF"))


def _unescaped(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        for kind, base in (("hex", 16), ("octal", 8)):
            if match[kind] is not None:
                value = int(match[kind], base) & 0xFF
                return chr(value) if value < 0x80 else chr(0xDC00 + value)
        for kind in ("four", "eight"):
            if match[kind] is not None:
                code = int(match[kind], 16)
                return chr(code) if code <= 0x10FFFF else "\ufffd"
        return _LETTERS.get(match["letter"], match["letter"])

    return _ESCAPE.sub(plain, text)


def _joined(text: str) -> str:
    """Bytes written one by one as escapes, put together to the characters that they spell."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text
