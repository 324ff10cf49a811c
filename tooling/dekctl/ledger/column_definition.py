"""A strict grammar of the definition of one column of MariaDB or MySQL that holds keys.

What ``SHOW CREATE TABLE`` said of the plaintext column before it was dropped comes back from the
ledger. It becomes part of an ALTER TABLE only if it is a definition by this grammar.
"""

from __future__ import annotations

import re

KINDS = (
    "BYTEA|(?:TINY|MEDIUM|LONG)?BLOB|(?:VAR)?BINARY|(?:TINY|MEDIUM|LONG)?TEXT|CITEXT|CLOB|"
    "N?(?:VAR)?CHAR|CHARACTER(?: VARYING)?"
)
"""The databases' own types of columns that may hold keys, as a regular expression."""

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^'\\\0]|''|\\[^'])*')              # closes here in every sql_mode
    |(?P<name>`(?:[^`\0]|``)+`)
    |(?P<comment>/\*M?![0-9]{5,6}\ (?:COMPRESSED(?:=\w+)?|INVISIBLE)\s*\*/)
    |(?P<number>0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op><=>|<>|<=|>=|!=|\|\||&&|[=<>+*%(),]|-(?!-)|/(?!\*))
    )""",
    re.VERBOSE,
)
_EXPRESSION_WORDS = """
and or not xor is null in between like regexp rlike true false case when then else end as binary
char length octet_length char_length character_length bit_length lower upper lcase ucase hex
unhex trim ltrim rtrim left right substr substring concat coalesce if ifnull nullif mod div cast
convert using collate uuid to_base64 from_base64 json_valid utf8mb4 utf8mb3 utf8 latin1 ascii
charset _utf8mb4 _utf8mb3 _utf8 _latin1 _ascii _binary utf8mb4_bin latin1_bin ascii_bin
utf8mb4_general_ci
"""
_ALLOWED = frozenset(_EXPRESSION_WORDS.split())
_ATTRIBUTES = re.compile(
    r"(?: w:CHARACTER w:SET w:\w+| w:COLLATE w:\w+| w:NOT w:NULL| w:NULL| w:INVISIBLE| comment"
    r"| w:COMMENT string| w:DEFAULT (?:string|number|w:NULL|w:uuid group|group|op:- number)"
    r"| w:CHECK group)*",
    re.IGNORECASE,
)


def is_definition(text: str) -> bool:
    """Whether a text is the definition of one column of MariaDB or MySQL, for keys, and no more.

    Of expressions (in CHECK and DEFAULT) only a few functions are known. A definition that this
    does not know cannot be restored.
    """
    tokens = _tokens(text)
    if tokens is None:
        return False
    shape: list[str] = []
    depth = 0
    for i, (kind, value) in enumerate(tokens):
        if value == "(":
            depth += 1
            if depth == 1:
                shape.append("group")
        elif value == ")":
            depth -= 1
            if depth < 0:
                return False
        elif depth and not _is_expression(kind, value, tokens[i + 1 : i + 2]):
            return False
        elif not depth:
            shape.append(
                f"w:{value}" if kind == "word" else f"op:{value}" if kind == "op" else kind
            )
    if depth or not shape or not re.fullmatch(f"w:(?:{KINDS})", shape[0], re.IGNORECASE):
        return False
    rest = shape[2:] if shape[1:2] == ["group"] else shape[1:]
    return _ATTRIBUTES.fullmatch("".join(f" {part}" for part in rest)) is not None


def _is_expression(kind: str, value: str, following: list[tuple[str, str]]) -> bool:
    if kind == "word":
        return value.lower() in _ALLOWED
    is_call = following == [("op", "(")]
    return kind != "comment" and not (kind == "name" and is_call)


def _tokens(text: str) -> list[tuple[str, str]] | None:
    """The tokens of a definition; None where a part is none."""
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            return None
        tokens.append((found.lastgroup, found[found.lastgroup]))
        position = found.end()
    return tokens
