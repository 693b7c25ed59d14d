# SPDX-License-Identifier: GPL-2.0-only
"""What follows a word of the language on its line: places, numbers, options, and columns."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from rmapreplay.traces.scenarios.lines import Variables, Word, filled_in, is_number, number
from rmapreplay.traces.scenarios.words import (
    FIRST_PLACE,
    HEAP,
    MOST_PLACES,
    PAGE,
    PLACE_ROOM,
)
from rmapreplay.traces.schema import FILE_SCHEMA, NAMED_COLUMNS

NAME: Final = re.compile(r"[A-Za-z_]\w*")
_PLACE: Final = re.compile(r"(?P<base>0x[0-9a-fA-F]+|[A-Za-z_]\w*)(?P<offset>[+-].*)?")
_COLUMN: Final = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)
_END_OF_ADDRESSES: Final = 1 << 47


@dataclass
class Place:
    """A named address.

    Attributes:
        address: in bytes.
        pages: what was last mapped or moved there, None before that.
    """

    address: int
    pages: int | None = None


@dataclass(frozen=True)
class Spot:
    """A page, as a line gives it: a place and an offset.

    Attributes:
        address: in bytes.
        place: the place, None of a bare address.
        offset: in pages, from that place.
        word: where it is said.
    """

    address: int
    place: Place | None
    offset: int
    word: Word

    def rest(self) -> int:
        """The pages from here to the end of what was last mapped at the place."""
        if self.place is None or self.place.pages is None:
            self.word.fail(f"how many pages? nothing was mapped at '{self.word.text}' before")
        if not 0 <= self.offset < self.place.pages:
            self.word.fail(f"how many pages? only {self.place.pages} were mapped at the place")
        return self.place.pages - self.offset

    def took(self, pages: int) -> None:
        """So many pages are now mapped here."""
        if self.place is None:
            return
        if self.offset == 0:
            self.place.pages = pages
        elif self.offset > 0:
            self.place.pages = max(self.place.pages or 0, self.offset + pages)


class Places:
    """All places of a scenario, by name."""

    def __init__(self) -> None:
        self._places = {"heap": Place(HEAP)}
        self._chosen = 0  # places whose address was chosen here

    def declare(self, name: str, address: int, pages: int | None) -> bool:
        """Name an address. Returns whether the name was free."""
        if name in self._places:
            return False
        self._places[name] = Place(address, pages)
        return True

    def find(self, word: Word, variables: Variables, *, new: bool = False) -> Spot:
        """The page that a word means; with `new`, a name that is not known yet gets an address.

        Raises ScenarioError.
        """
        text = filled_in(word.text, variables, word)
        found = _PLACE.fullmatch(text)
        if not found:
            word.fail(f"'{text}' is not a place: a name or an address, and maybe +N pages")
        base = found["base"]
        offset = number(found["offset"], variables, word) if found["offset"] else 0
        place: Place | None = None
        if base.startswith("0x"):
            address = int(base, 16)
            if address % PAGE:
                word.fail(f"'{base}' is not the address of a page, a multiple of {PAGE:#x}")
        else:
            place = self._places.get(base)
            if place is None:
                if not new:
                    word.fail(f"no place '{base}': nothing was mapped there, or moved there")
                place = self._places[base] = Place(self._free_address(word))
            address = place.address
        address += offset * PAGE
        if not 0 <= address < _END_OF_ADDRESSES:
            word.fail(f"'{text}' is outside the address space")
        return Spot(address, place, offset, word)

    def _free_address(self, word: Word) -> int:
        taken = {place.address for place in self._places.values()}
        while self._chosen < MOST_PLACES:
            address = FIRST_PLACE + self._chosen * PLACE_ROOM
            self._chosen += 1
            if address not in taken:
                return address
        raise word.error(f"more than {MOST_PLACES} places")


class Arguments:
    """The words that follow on a line, taken one by one from the left.

    Attributes:
        columns: what `column=value` words at the end of the line say.
    """

    def __init__(self, words: tuple[Word, ...], variables: Variables, places: Places) -> None:
        self._before = words[0]
        self._variables = variables
        self._places = places
        rest = list(words[1:])
        self.columns: dict[str, Any] = {}
        while rest and _COLUMN.fullmatch(rest[-1].text):
            self._column(rest.pop())
        self._rest = rest

    def _column(self, word: Word) -> None:
        found = _COLUMN.fullmatch(word.text)
        assert found
        name, text = found.groups()
        if name not in FILE_SCHEMA.names or name in ("time", "op", "pid", "tid"):
            word.fail(f"'{name}' is not a column that can be given")
        if name in self.columns:
            word.fail(f"'{name}' is given twice")
        self.columns[name] = self._value(name, text, word)

    def _value(self, name: str, text: str, word: Word) -> Any:
        kind = FILE_SCHEMA.field(name).type
        if text == "null":
            return None
        if pa.types.is_boolean(kind):
            if text not in ("true", "false"):
                word.fail(f"{name} is true, false or null, not '{text}'")
            return text == "true"
        if pa.types.is_dictionary(kind):
            value = filled_in(text, self._variables, word)
            if value.startswith('"'):
                try:
                    value = str(json.loads(text))
                except ValueError:
                    word.fail(f"{text} is not a quotation as JSON has them")
            if name != "path" and value not in NAMED_COLUMNS[name][1:]:
                word.fail(f"{name} is one of {', '.join(NAMED_COLUMNS[name][1:])}, not '{value}'")
            return value
        value_ = number(text, self._variables, word)
        signed = pa.types.is_signed_integer(kind)
        low, high = -(1 << kind.bit_width - 1), 1 << kind.bit_width - signed
        if not (low if signed else 0) <= value_ < high:
            word.fail(f"{value_} does not fit in the column {name}")
        return value_

    @property
    def here(self) -> Word:
        """The next word, or if there is none the one before, to complain about."""
        return self._rest[0] if self._rest else self._before

    def done(self) -> None:
        if self._rest:
            self._rest[0].fail(f"'{self._rest[0].text}' was not expected here")

    def _take(self) -> Word:
        self._before = self._rest.pop(0)
        return self._before

    def word(self, what: str) -> Word:
        """The next word, whatever it is; `what` it is to be, for the error."""
        if not self._rest:
            self._before.fail(f"{what} must follow '{self._before.text}'")
        return self._take()

    def spot(self, *, new: bool = False) -> Spot:
        """A place."""
        return self._places.find(self.word("a place"), self._variables, new=new)

    def has_number(self) -> bool:
        return bool(self._rest) and is_number(self._rest[0].text, self._variables)

    def number(self, what: str) -> int:
        word = self.word(what)
        if not is_number(word.text, self._variables):
            word.fail(f"{what} must follow '{self._before_of(word)}', not '{word.text}'")
        return number(word.text, self._variables, word)

    def _before_of(self, word: Word) -> str:
        return "it" if word is self._before else self._before.text

    def pages(self, spot: Spot, otherwise: int | None = None) -> int:
        """A number of pages from `spot` on, the `whole` place, or without either `otherwise`, by
        default all of it."""
        if self._rest and self._rest[0].text == "whole":
            self._take()
            return spot.rest()
        if not self.has_number():
            return spot.rest() if otherwise is None else otherwise
        word = self._rest[0]
        pages = self.number("a number of pages")
        if pages < 1:
            word.fail(f"{pages} pages: at least one")
        if spot.address + pages * PAGE > _END_OF_ADDRESSES:
            word.fail(f"{pages} pages go past the end of the address space")
        return pages

    def option(self, *words: str) -> str | None:
        """The next word if it is one of these."""
        if self._rest and self._rest[0].text in words:
            return self._take().text
        return None

    def one_of(self, what: str, words: Mapping[str, int]) -> int:
        """The number that the next word stands for, or that it is."""
        if self.has_number():
            return self.number(what)
        word = self.word(what)
        if word.text not in words:
            word.fail(f"'{word.text}' is not {what}: one of {', '.join(words)}")
        return words[word.text]

    def choice(self, what: str, words: Collection[str]) -> str:
        word = self.word(what)
        if word.text not in words:
            word.fail(f"'{word.text}' is not {what}: one of {', '.join(words)}")
        return word.text

    def name(self, what: str) -> str:
        """A name, filled in."""
        word = self.word(what)
        text = filled_in(word.text, self._variables, word)
        if not NAME.fullmatch(text):
            word.fail(f"'{text}' is not a name")
        return text

    def remaining(self) -> list[Word]:
        """All words that are left."""
        rest, self._rest = self._rest, []
        return rest
