"""Options of steps and commands, each defined once, as metadata of a field of a frozen config."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Self, TypeVar, get_type_hints

import msgspec

from advcam.errors import SettingsError, known
from advcam.limits import MAX_VALUE

C = TypeVar("C", bound="Config")
Layer = Mapping[str, Any]
"""Settings by name."""


@dataclass(frozen=True)
class Option:
    """One option, as described by :func:`option`.

    Args:
        name: name of the config's field; the ``KEY`` of ``KEY=VALUE``.
        kind: annotation of the field.
        default: default value; ``MISSING`` if it must be given.
        help: help text, with the unit.
        flag: flag on the command line, without dashes; None if it is set by ``KEY=VALUE`` only.
        symbol: symbol in the paper.
        choices: the allowed values.
        least: smallest value, also of a tuple's entries; None is no limit.
        most: largest value.
        above: value that it must exceed.
        below: value that it must stay below.
        example: example of a value, as typed.
        common: shown by ``--help``; other options only by ``--help-all``.
        replaces: options whose values from lower layers are dropped when this one is set.
        file: names a file, so it is stored as an absolute path.
        besides: values of it that do not name a file.
        repeat: typed once for each entry of its tuple.
        positional: typed without a flag.
        make: makes its value of text or of itself, where a type alone does not say how.
    """

    name: str
    kind: Any
    default: Any
    help: str = ""
    flag: str | None = None
    symbol: str = ""
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float = MAX_VALUE
    above: float | None = None
    below: float | None = None
    example: str = ""
    common: bool = False
    replaces: tuple[str, ...] = ()
    file: bool = False
    besides: tuple[str, ...] = ()
    repeat: bool = False
    positional: bool = False
    make: Callable[[Any], Any] | None = None

    @property
    def several(self) -> bool:
        """Whether its value is a tuple."""
        return "tuple" in str(self.kind)

    def read(self, text: str) -> Any:
        """Parses the value of a text from the command line.

        Raises:
            SettingsError: a value of the wrong type.
        """
        if self._worded:
            return self.value(text)
        return self.value(literal(text.lower().replace("x", ",") if "tuple[int, int]" in str(self.kind) else text))  # 480x640

    def read_pair(self, text: str) -> Any:
        """What ``KEY=VALUE`` has behind ``=``, as Python writes it where that is of this kind: files may be called 1.5."""
        found = literal(text)
        kinds = (str, tuple, list) if self.several else (str,)
        return found if found is None or not self._worded or isinstance(found, kinds) else text

    def value(self, given: Any) -> Any:
        """Converts a value from a file or the command line to this option's type: lists become tuples, a number a 1-tuple,
        words with commas between them a tuple.

        Raises:
            SettingsError: a value of the wrong type.
        """
        entries = given
        if self.several and self._worded and isinstance(given, str):
            entries = tuple(part for part in given.split(",") if part) or ("",)
        elif self.several and (isinstance(given, str) or type(given) in (int, float)):
            entries = (given,)
        try:
            if self._empty(entries):
                raise TypeError("it is empty")
            return self._made(entries)
        except (msgspec.ValidationError, TypeError, ValueError, AttributeError, RecursionError):
            such = self.example or plain(None if self.default is MISSING else self.default)
            raise SettingsError(f"{self.name} is {self.words()}{such and f' such as {such}'}; got {given!r:.60}") from None

    def check(self, value: Any) -> Any:
        """Checks a value and returns it in this option's type: a whole number as float where fractions are taken, a list as
        tuple.

        Raises:
            SettingsError: wrong type, not one of the choices, or out of range.
        """
        try:
            if self._empty(value):
                raise TypeError("expected a name, it is empty")
            value = self._made(value)
        except (msgspec.ValidationError, TypeError, ValueError, AttributeError, RecursionError) as error:
            wrong = str(error).replace("`", "").replace("Expected", "expected")
            raise SettingsError(f"{self.name}: {wrong} ({value!r:.60})") from None
        if self.choices and value not in self.choices:
            raise SettingsError(f"{self.name} is one of {', '.join(map(str, self.choices))}; got {value!r}")
        if not all(self._within(number) for number in _numbers(value)):
            raise SettingsError(f"{self.name} must be {self.range()}; got {value!r:.60}")
        return value

    def _made(self, given: Any) -> Any:
        """A value in this option's type."""
        if self.make:
            return given if given is None and self.default is None else self.make(given)
        return msgspec.convert(given, self.kind, dec_hook=lambda kind, value: kind(value))

    @property
    def _worded(self) -> bool:
        """Whether its values are words, paths among them."""
        return ("Path" in str(self.kind) or "str" in str(self.kind)) and "dict" not in str(self.kind)

    def _empty(self, value: Any) -> bool:
        """Whether a word is empty that says nothing then; of an option that is a word of its own, empty stands for none."""
        if not self._worded or self.kind is str:
            return False
        return value == "" or (isinstance(value, (tuple, list)) and "" in value)

    def _within(self, number: float) -> bool:
        low = (self.least is None or number >= self.least) and (self.above is None or number > self.above)
        return low and abs(number) <= self.most and (self.below is None or number < self.below)

    def range(self) -> str:
        """Describes its range: ``from 2 to 100``, ``at least 0 and below 1``."""
        if self.least is not None and self.most < MAX_VALUE and self.below is None:
            return f"from {self.least:.10g} to {self.most:.10g}"
        most = self.most if self.most < MAX_VALUE else None
        limits = (("at least", self.least), ("above", self.above), ("below", self.below), ("at most", most))
        return " and ".join(f"{words} {limit:.10g}" for words, limit in limits if limit is not None) or "a finite number"

    def words(self) -> str:
        """Describes the type of its values."""
        kind = str(self.kind)
        if self.several:
            count = {1: "two ", 2: "three "}.get(kind.count(","), "") if "..." not in kind else ""
            return f"{count}{'paths' if 'Path' in kind else 'words' if 'str' in kind else 'numbers'}"
        kinds = {"Path": "a path", "bool": "True or False", "int": "a whole number", "float": "a number", "dict": "KEY=VALUE"}
        return next((words for name, words in kinds.items() if name in kind), "a word")


def option(default: Any = MISSING, help: str = "", **about: Any) -> Any:
    """Returns a config field that is an option; see :class:`Option`.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Shot(Config):
        ...     epochs: int = option(5, "passes over the images", flag="epochs", least=1)
        >>> Shot.from_record({"epochs": 7})
        Shot(epochs=7)
    """
    unknown = about.keys() - {f.name for f in fields(Option)}
    if unknown:
        raise TypeError(f"an option has no {', '.join(unknown)}")
    metadata = {"option": {"help": help, **about}}
    return field(default_factory=dict, metadata=metadata) if default == {} else field(default=default, metadata=metadata)


class Config:
    """A frozen, keyword-only dataclass whose fields are options. A subclass may change a field's default."""

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Returns all options by name."""
        return {name: made for name, made in options_of(cls).items() if made.help}  # type: ignore[arg-type]

    @classmethod
    def from_record(cls, record: Layer) -> Self:
        """Makes the config from a record; settings that it lacks have their defaults.

        Raises:
            SettingsError: an unknown name or an invalid value.
        """
        if not isinstance(record, Mapping):
            raise SettingsError(f"settings are names with values; got {record!r:.60}")
        options = cls.options()
        given = {name: _known(options, name).value(value) for name, value in record.items()}
        own = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        changes = {name: value for name, value in given.items() if name not in own}
        return cls(**{name: value for name, value in given.items() if name in own}, **({"changes": changes} if changes else {}))

    def record(self) -> dict[str, Any]:
        """Returns all settings as plain data; :meth:`from_record` is the inverse."""
        return {f.name: _data(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    def identity(self) -> dict[str, Any]:
        """Returns everything that changes a result, as plain data: the record, with files replaced by their contents."""
        return self.record()


def _known(options: Mapping[str, Option], name: str) -> Option:
    if name not in options:
        raise SettingsError(f"there is no setting {name!r}; {known(name, options)}")
    return options[name]


@functools.cache
def options_of(config: type) -> dict[str, Option]:
    """Returns the fields of a dataclass as options (without metadata: type and default only), nested dataclasses left out."""
    hints, about = get_type_hints(config), dict[str, dict[str, Any]]()
    for base in reversed(config.__mro__):
        about |= {
            f.name: f.metadata["option"] for f in getattr(base, "__dataclass_fields__", {}).values() if "option" in f.metadata
        }
    return {
        f.name: Option(f.name, hints[f.name], _default(f), **about.get(f.name, {}))
        for f in fields(config)
        if not is_dataclass(hints[f.name])
    }


def _default(described: Any) -> Any:
    return described.default if described.default_factory is MISSING else described.default_factory()


def check(config: Any) -> None:
    """Checks every field of a dataclass (annotated type, finite numbers, its option's limits), and converts it to that type, so
    that it equals what its record gives.

    Raises:
        SettingsError: a field is invalid; the message says which, what was expected, and what came.
    """
    for name, described in options_of(type(config)).items():  # type: ignore[arg-type]
        object.__setattr__(config, name, described.check(getattr(config, name)))


def overlay(
    config: type[C],
    recipe: Layer | None = None,
    recorded: Layer | None = None,
    pairs: Layer | None = None,
    flags: Layer | None = None,
    forgets: Callable[[str, list[str]], None] = lambda name, others: None,
) -> C:
    """Makes a config from layers; later ones win: its defaults < a recipe < a run's record < ``KEY=VALUE`` < flags.

    Dict options are merged entry by entry. If a layer sets an option that replaces others (a preset its settings, a backbone
    its weights), values of those from lower layers are dropped.

    Args:
        config: the class.
        recipe: settings of a recipe.
        recorded: settings in a run's record.
        pairs: settings typed as ``KEY=VALUE``.
        flags: settings typed as flags.
        forgets: called with each option that replaced others, and the names of those.

    Raises:
        SettingsError: an unknown name or an invalid value.
    """
    options, chosen = config.options(), dict[str, Any]()
    for layer in (recipe or {}, recorded or {}, {**(pairs or {}), **(flags or {})}):
        given = {name: _known(options, name).value(value) for name, value in layer.items()}
        for name, value in given.items():
            gone = [other for other in options[name].replaces if value and other in chosen and other not in given]
            for other in gone:
                del chosen[other]
            if gone:
                forgets(name, gone)
        merged = {n: chosen[n] | v for n, v in given.items() if isinstance(v, dict) and n in chosen}
        chosen |= given | merged
    return config.from_record(chosen)


def key_values(entries: Iterable[str], flag: str, options: Mapping[str, Option] | None = None) -> dict[str, Any]:
    """Parses ``KEY=VALUE`` entries into a dict; values are read as Python literals if possible, those of ``options`` by type.

    Raises:
        SettingsError: an entry without ``=``.

    Example:
        >>> key_values(["steps=3", "scales=1,1.5", "optimizer=sgd"], "--option")
        {'steps': 3, 'scales': (1, 1.5), 'optimizer': 'sgd'}
    """
    found = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise SettingsError(f"{flag} takes KEY=VALUE, got {entry!r}")
        about = (options or {}).get(key.strip())
        found[key.strip()] = about.read_pair(value) if about else literal(value)
    return found


def literal(text: str) -> Any:
    """Parses a text as a Python literal; returns the text itself if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):  # the last two: nested too deeply
        return text


def plain(value: Any) -> str:
    """Formats a value as it is typed on the command line; None is empty."""
    return "" if value in (None, {}) else ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _numbers(value: object) -> Iterable[float]:
    """Returns all numbers in a value."""
    if isinstance(value, (int, float)):
        return [] if isinstance(value, bool) else [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return [n for one in inner for n in _numbers(one)]


def _data(value: Any) -> Any:
    """A value as JSON has it: paths are words."""
    if isinstance(value, tuple):
        return tuple(map(_data, value))
    return str(value) if hasattr(value, "__fspath__") or hasattr(value, "read_bytes") else value
