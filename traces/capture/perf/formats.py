# SPDX-License-Identifier: GPL-2.0-only
"""How the tracepoints of a perf.data read as text: from the formats that the kernel gave and perf
keeps in the file, to what native/perf_text.cpp takes."""

from __future__ import annotations

import ast
import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# The file's header, as in perf's documentation: magic, its size, that of an attribute, three
# sections (offset, size) of which the second is the data, and a bit per feature. Behind the data
# follows a section for each feature that is there, in their order.
_HEADER: Final = struct.Struct("<8s 2Q 2Q 2Q 2Q 4Q")
_SECTION: Final = struct.Struct("<2Q")
_MAGIC: Final = b"PERFILE2"
_HEADER_TRACING_DATA: Final = 1

_FORMAT: Final = re.compile(
    r'name: \w+\nID: (?P<id>\d+)\nformat:\n(?P<fields>[^"]*?)print fmt: "(?P<text>[^"\\\t]*)"'
    r"(?:, (?P<arguments>.*))?$",
    re.MULTILINE,
)
_FIELD: Final = re.compile(
    r"\tfield:(?P<type>[^;]*?)(?P<name>\w+)(?:\[(?P<items>\d+)\])?;"
    r"\toffset:(?P<offset>\d+);\tsize:(?P<size>\d+);"
)
_CONVERSION: Final = re.compile(r"(%(?:hh|h|ll|l|z)?[dux]|%s|%p[sS]?(?!\w))")
_SIZES: Final = {"hh": 1, "h": 2, "": 4, "l": 8, "ll": 8, "z": 8}
_ARGUMENT: Final = re.compile(
    r'(?:REC->(?P<truth>\w+) \? "true" : "false"'
    r'|\(REC->(?P<flags>\w+)\) \? __print_flags\(REC->\w+, "\|", (?P<names>\{.*?\}) \) : "none"'
    r"|__get_str\((?P<string>\w+)\)"
    r"|(?:\(void \*\))?REC->(?P<field>\w+)(?:\[(?P<item>\d+)\])?)(?:, |$)"
)
_FLAG: Final = re.compile(r'\{ ?([^",]*), "(\w+)"\}')
_CAST: Final = re.compile(r"\( ?(?:unsigned long|gfp_t) ?\)|(?<=\d)UL\b")


class _UnknownFormatError(Exception):
    """A format has something that the filter does not print."""


def filter_arguments(data: Path) -> list[str]:
    """What perf_text.cpp is to be told of the tracepoints of a perf.data, one string for each. It
    does not print those whose format has anything unexpected; of a file that is none of perf's,
    there are none."""
    told = []
    for match in _FORMAT.finditer(_tracing_data(data)):
        with contextlib.suppress(_UnknownFormatError):
            told.append("\t".join([match["id"], *_parts(match)]))
    return told


def _tracing_data(data: Path) -> str:
    try:
        with data.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return ""
            magic, *fields = _HEADER.unpack(header)
            data_offset, data_size, features = fields[4], fields[5], fields[8]
            if magic != _MAGIC or not features >> _HEADER_TRACING_DATA & 1:
                return ""
            # Feature 0 is never used: this one is the first.
            file.seek(data_offset + data_size)
            section = file.read(_SECTION.size)
            if len(section) < _SECTION.size:
                return ""
            offset, size = _SECTION.unpack(section)
            if offset + size > data.stat().st_size:
                return ""
            file.seek(offset)
            return file.read(size).decode(errors="replace")
    except OSError:
        return ""


def _parts(form: re.Match[str]) -> Iterator[str]:
    """Text and fields by turns."""
    fields = {field["name"]: field for field in _FIELD.finditer(form["fields"])}
    arguments = form["arguments"] or ""
    at = 0
    for i, part in enumerate(_CONVERSION.split(form["text"])):
        if i % 2 == 0:
            if "%" in part:
                raise _UnknownFormatError
            yield part
            continue
        argument = _ARGUMENT.match(arguments, at)
        if not argument:
            raise _UnknownFormatError
        at = argument.end()
        name = next(
            argument[kind] for kind in ("truth", "flags", "string", "field") if argument[kind]
        )
        if name not in fields:
            raise _UnknownFormatError
        yield _field(part[1:], argument, fields[name])
    if at != len(arguments):
        raise _UnknownFormatError


def _field(conversion: str, argument: re.Match[str], field: re.Match[str]) -> str:
    """A field as perf_text.cpp wants it."""
    offset, size = int(field["offset"]), int(field["size"])
    kind, of, wanted = conversion[-1], field["type"].strip(), 8
    flags = ""
    if argument["truth"]:
        kind, wanted = "b", 1
    elif argument["flags"]:
        kind, flags = "f", ":" + "|".join(_flags(argument["names"]))
    elif argument["string"]:
        kind, wanted = "l", 4
        if of != "__data_loc char[]":
            raise _UnknownFormatError
    elif conversion == "s":
        kind, wanted = "t", int(field["items"] or 0)
        if of != "char":
            raise _UnknownFormatError
    else:
        if not conversion.startswith("p"):
            wanted = _SIZES[conversion[:-1]]
        if (field["items"] is None) != (argument["item"] is None):
            raise _UnknownFormatError
        if field["items"]:
            size //= int(field["items"])
            offset += int(argument["item"]) * size
    if argument["field"] is None and conversion != "s":
        raise _UnknownFormatError
    if size != wanted or size == 0:
        raise _UnknownFormatError
    return f"{kind}{offset}.{size}{flags}"


def _flags(text: str) -> Iterator[str]:
    """Names and values of __print_flags()."""
    names = _FLAG.findall(text)
    if text.count('"') != 2 * len(names):
        raise _UnknownFormatError
    for value, name in names:
        try:
            tree = ast.parse(_CAST.sub("", value).strip(), mode="eval")
        except SyntaxError as error:
            raise _UnknownFormatError from error
        yield f"{name}={_constant(tree.body):x}"


def _constant(node: ast.expr) -> int:
    """The value of a constant expression of C."""
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_constant(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _constant(left), _constant(right)
            match operator:
                case ast.BitOr():
                    return a | b
                case ast.BitAnd():
                    return a & b
                case ast.LShift() if b in range(64):
                    return a << b
    raise _UnknownFormatError
