"""What a file may say, checked before anything is done with it: the small questions that every schema is made of.

A schema is a table: of each field whether a value fits, and what would. All of a stranger's JSON goes through one.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

Fits = Callable[[Any], bool]
Schema = Mapping[str, tuple[Fits, str]]
"""Of each field whether a value is what it should be, and what that is."""


def first_unfit(values: Mapping[str, Any], schema: Schema) -> tuple[str, str] | None:
    """Return the first field that is there and does not fit, and what it should be; None if all do.

    >>> first_unfit({"step": "x"}, {"step": (is_count, "a whole number")})
    ('step', 'a whole number')
    """
    unfit = ((name, wanted) for name, (fits, wanted) in schema.items() if name in values and not fits(values[name]))
    return next(unfit, None)


def is_text(value: Any) -> TypeGuard[str]:
    """Tell whether a value is a text.

    >>> is_text("a"), is_text(None)
    (True, False)
    """
    return isinstance(value, str)


def is_flag(value: Any) -> TypeGuard[bool]:
    """Tell whether a value is true or false.

    >>> is_flag(True), is_flag(1)
    (True, False)
    """
    return type(value) is bool


def is_int(value: Any) -> TypeGuard[int]:
    """Tell whether a value is a whole number.

    >>> is_int(3), is_int(True), is_int(3.0)
    (True, False, False)
    """
    return type(value) is int


def is_count(value: Any) -> TypeGuard[int]:
    """Tell whether a value is a whole number from 0 up.

    >>> is_count(0), is_count(-1)
    (True, False)
    """
    return is_int(value) and value >= 0


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number.

    >>> is_number(3), is_number(0.5), is_number(math.nan), is_number(True), is_number(10**400)
    (True, True, False, False, False)
    """
    return (is_int(value) and abs(value) < 2**1000) or (type(value) is float and math.isfinite(value))


def is_figure(value: Any) -> bool:
    """Tell whether a value is a number that was measured: finite or not.

    >>> is_figure(math.nan), is_figure("nan")
    (True, False)
    """
    return type(value) is float or is_number(value)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a value is an object of JSON.

    >>> is_object({}), is_object([])
    (True, False)
    """
    return isinstance(value, dict)


def each(values: Any, fits: Fits) -> bool:
    """Tell whether a value is a list, of at least one, and each in it fits.

    >>> each([1, 2], is_int), each([], is_int), each("ab", is_text)
    (True, False, False)
    """
    return isinstance(values, list | tuple) and bool(values) and all(map(fits, values))


def are_numbers(values: Any) -> bool:
    """Tell whether a value is a list of finite numbers.

    >>> are_numbers([0.5, 1]), are_numbers([])
    (True, False)
    """
    return each(values, is_number)


def none_or(fits: Fits) -> Fits:
    """Return the question whether a value is null or fits.

    >>> none_or(is_text)(None), none_or(is_text)(3)
    (True, False)
    """
    return lambda value: value is None or fits(value)


def within(low: float, high: float) -> Fits:
    """Return the question whether a value is a whole number between two, both included.

    >>> within(1, 3)(3), within(1, 3)(4), within(1, 3)(2.0)
    (True, False, False)
    """
    return lambda value: is_int(value) and low <= value <= high
