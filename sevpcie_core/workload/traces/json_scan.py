"""JSON piece by piece: kernels that find where a value ends, and the few members of an event that matter.

Rule: structure, numbers and words are checked as RFC 8259 says, strings only for their end: what a kernel
takes apart is nested as a JSON parser would nest it. Values that matter and have escapes, or any other form
than the plainest, are left to Python (`ASK`).
"""

from typing import Final

from ..._jit import inline_kernel, kernel
from .fields import ODD, _clock, _direction, _whole, _word

MORE: Final = -1
"""The value goes on behind the data. Less than it: -2 - the offset of what is no JSON."""
MAX_DEPTH: Final = 60
"""Deepest nesting: one bit a level in 64."""

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_OPEN_OBJECT: Final = ord("{")
_CLOSE_OBJECT: Final = ord("}")
_OPEN_ARRAY: Final = ord("[")
_CLOSE_ARRAY: Final = ord("]")
_COMMA: Final = ord(",")
_COLON: Final = ord(":")
_MINUS: Final = ord("-")
_PLUS: Final = ord("+")
_POINT: Final = ord(".")
_ZERO: Final = ord("0")
_E: Final = ord("e")
_LOWER: Final = 32
_UPPER_I: Final = ord("I")
_A: Final = ord("a")

# What an array or object waits for.
_VALUE: Final = 0
_VALUE_OR_END: Final = 1
_KEY: Final = 2
_KEY_OR_END: Final = 3
_AFTER: Final = 4

# States between events.
BEGIN: Final = 0
BEHIND_EVENT: Final = 1
BEHIND_COMMA: Final = 2
CLOSED: Final = 3

# Members of an event, and of its `args`, whose values are looked at.
_PH: Final = 0
_CAT: Final = 1
_NAME: Final = 2
_TS: Final = 3
_DUR: Final = 4
_ARGS: Final = 5
MEMBERS: Final = ("ph", "cat", "name", "ts", "dur", "args")
_STREAM: Final = 6
_BYTES: Final = 7
_DEVICE: Final = 8
ARGUMENTS: Final = ("stream", "bytes", "device")
SPANS: Final = 9

# Columns of the table of events.
TIME: Final = 0
FRACTION: Final = 1
DURATION: Final = 2
DURATION_FRACTION: Final = 3
CATEGORY: Final = 4
"""Place of its category among the words, ASK where Python has to look, NONE where it is not one of them."""
WAY: Final = 5
"""Place of a copy's direction, as `fields.DIRECTION`."""
BYTES: Final = 6
STREAM: Final = 7
START: Final = 8
END: Final = 9
DEVICE: Final = 10
"""Number of the GPU, ODD where it is not said."""
COLUMNS: Final = 11
ASK: Final = -1
NONE: Final = -2
_MICROSECOND: Final = 6


@inline_kernel
def space(data, i, end):
    """Return where white space from `i` on ends."""
    while i < end and (data[i] == 32 or data[i] == 10 or data[i] == 13 or data[i] == 9):
        i += 1
    return i


@inline_kernel
def _string(data, i, end):
    """Return the place behind the string that begins at `i`, or MORE."""
    i += 1
    while i < end:
        if data[i] == _QUOTE:
            return i + 1
        i += 2 if data[i] == _BACKSLASH else 1
    return MORE


@inline_kernel
def _digits(data, i, end):
    while i < end and data[i] >= _ZERO and data[i] < _ZERO + 10:
        i += 1
    return i


@inline_kernel
def _letters(data, i, end):
    while i < end and data[i] | _LOWER >= _A and data[i] | _LOWER < _A + 26:
        i += 1
    return i


# The words of JSON, and those that programs write for numbers that are none.
WORDS: Final = (b"true", b"false", b"null", b"NaN", b"Infinity")


@kernel
def _scalar(data, i, end, words, word_at):
    """Return the place behind the number or word that begins at `i`, or what `value` returns."""
    start = i
    if data[i] == _MINUS:
        i += 1
        if i < end and data[i] == _UPPER_I:
            j = _letters(data, i, end)
            if j == end:
                return MORE
            return j if _word(data, i, j, words, word_at, 4, 1) == 0 else -2 - start
    j = _digits(data, i, end)
    if j == i:
        j = _letters(data, i, end)
        if j == end:
            return MORE
        return j if i == start and j > i and _word(data, i, j, words, word_at, 0, 5) >= 0 else -2 - start
    if data[i] == _ZERO and j > i + 1:
        return -2 - start
    if j < end and data[j] == _POINT:
        i = j + 1
        j = _digits(data, i, end)
        if j == i and j < end:
            return -2 - start
    if j < end and data[j] | _LOWER == _E:
        i = j + 1
        if i < end and (data[i] == _PLUS or data[i] == _MINUS):
            i += 1
        j = _digits(data, i, end)
        if j == i and j < end:
            return -2 - start
    return j if j < end else MORE


@kernel
def value(data, i, end, words, word_at):
    """Return the place behind the value that begins at `i`, MORE, or -2 - the offset of what is no JSON."""
    depth = 0
    # Bit 0 says whether the innermost container is an object.
    objects = 0
    state = _VALUE
    while True:
        i = space(data, i, end)
        if i >= end:
            return MORE
        c = data[i]
        if state == _AFTER:
            if c == _COMMA:
                state = _KEY if objects & 1 else _VALUE
            elif c == (_CLOSE_OBJECT if objects & 1 else _CLOSE_ARRAY):
                depth -= 1
                objects >>= 1
                if depth == 0:
                    return i + 1
            else:
                return -2 - i
            i += 1
            continue
        if state in (_KEY, _KEY_OR_END):
            if c == _QUOTE:
                j = _string(data, i, end)
                if j < 0:
                    return MORE
                i = space(data, j, end)
                if i >= end:
                    return MORE
                if data[i] != _COLON:
                    return -2 - i
                i += 1
                state = _VALUE
                continue
            if c != _CLOSE_OBJECT or state == _KEY:
                return -2 - i
        elif c == _QUOTE:
            i = _string(data, i, end)
            if i < 0:
                return MORE
            if depth == 0:
                return i
            state = _AFTER
            continue
        elif c in (_OPEN_OBJECT, _OPEN_ARRAY):
            if depth == MAX_DEPTH:
                return -2 - i
            depth += 1
            objects = (objects << 1) | (1 if c == _OPEN_OBJECT else 0)
            state = _KEY_OR_END if c == _OPEN_OBJECT else _VALUE_OR_END
            i += 1
            continue
        elif c != _CLOSE_ARRAY or state != _VALUE_OR_END:
            j = _scalar(data, i, end, words, word_at)
            if j < 0 or depth == 0:
                return j
            i = j
            state = _AFTER
            continue
        # An empty container closes.
        depth -= 1
        objects >>= 1
        i += 1
        if depth == 0:
            return i
        state = _AFTER


@inline_kernel
def _escaped(data, a, b):
    while a < b and data[a] != _BACKSLASH:
        a += 1
    return a < b


@kernel
def _members(data, i, end, words, word_at, first, count, into, spans):
    """Set the spans of members of the object that begins at `i`.

    Parameters: words[first:first + count] : their names; the span of the first is spans[into].
    Returns: place behind the object, or as `value`; spans[SPANS, 0] is set to 1 where a name has an escape.
    """
    for k in range(into, into + count):
        spans[k, 0] = 0
        spans[k, 1] = 0
    i = space(data, i + 1, end)
    if i < end and data[i] == _CLOSE_OBJECT:
        return i + 1
    while True:
        if i >= end:
            return MORE
        if data[i] != _QUOTE:
            return -2 - i
        j = _string(data, i, end)
        if j < 0:
            return MORE
        which = _word(data, i + 1, j - 1, words, word_at, first, count)
        if which < 0 and _escaped(data, i + 1, j - 1):
            spans[SPANS, 0] = 1
        i = space(data, j, end)
        if i >= end:
            return MORE
        if data[i] != _COLON:
            return -2 - i
        i = space(data, i + 1, end)
        if i >= end:
            return MORE
        if data[i] == _QUOTE:
            j = _string(data, i, end)
        else:
            j = value(data, i, end, words, word_at)
        if j < 0:
            return j
        if which >= 0:
            spans[into + which, 0] = i
            spans[into + which, 1] = j
        i = space(data, j, end)
        if i >= end:
            return MORE
        if data[i] == _CLOSE_OBJECT:
            return i + 1
        if data[i] != _COMMA:
            return -2 - i
        i = space(data, i + 1, end)


@inline_kernel
def _text(data, spans, which, words, word_at, first, count):
    """Return which of the words a string is, NONE: no one, ASK: it is no plain string."""
    a = spans[which, 0]
    b = spans[which, 1]
    if b == 0:
        return NONE
    if data[a] != _QUOTE or _escaped(data, a, b):
        return ASK
    found = _word(data, a + 1, b - 1, words, word_at, first, count)
    return found if found >= 0 else NONE


@kernel
def events(data, i, end, state, words, word_at, places, categories, copies, spans, table, out):
    """Take events of an array apart until the data, the room or the array ends.

    Parameters
    ----------
    state : BEGIN, BEHIND_EVENT or BEHIND_COMMA.
    words, word_at : uint8[m], int64[w + 1], all words one behind the other, where each begins and the end.
    places : int64[4], first word of: phase X, categories, members, arguments.
    categories, copies : number of categories, and how many of them, the first, are copies.
    spans : int64[SPANS + 1, 2], scratch.
    table : int64[room, COLUMNS], set; START and END: where in data the event lies.
    out : int64[3], set: rows; where reading goes on, or what is no JSON; state.

    Returns
    -------
    0, or MORE, or less where out[1] is no JSON.
    """
    count = 0
    why = 0
    while True:
        i = space(data, i, end)
        if i >= end:
            why = MORE
            break
        c = data[i]
        if state != BEHIND_COMMA and c == _CLOSE_ARRAY:
            state = CLOSED
            i += 1
            break
        if state == BEHIND_EVENT:
            if c != _COMMA:
                why = MORE - 1
                break
            state = BEHIND_COMMA
            i += 1
            continue
        if count == table.shape[0]:
            break
        spans[SPANS, 0] = 0
        ask = c != _OPEN_OBJECT
        if ask:
            j = value(data, i, end, words, word_at)
        else:
            j = _members(data, i, end, words, word_at, places[2], len(MEMBERS), 0, spans)
        if j < 0:
            why = max(j, MORE - 1)
            if j < MORE:
                i = -2 - j
            break
        category = NONE
        if not ask:
            category = _text(data, spans, _CAT, words, word_at, places[1], categories)
            if category >= 0:
                phase = _text(data, spans, _PH, words, word_at, places[0], 1)
                if phase < 0:
                    category = phase
            if spans[SPANS, 0]:
                category = ASK
        if category >= 0:
            a = spans[_ARGS, 0]
            if spans[_ARGS, 1] > 0 and data[a] == _OPEN_OBJECT:
                _members(data, a, end, words, word_at, places[3], len(ARGUMENTS), _STREAM, spans)
            else:
                spans[_STREAM, 1] = 0
                spans[_BYTES, 1] = 0
                spans[_DEVICE, 1] = 0
            way = -1
            if category < copies:
                if _text(data, spans, _NAME, words, word_at, 0, 0) == NONE and spans[_NAME, 1] > 0:
                    way = _direction(data, spans[_NAME, 0] + 1, spans[_NAME, 1] - 1)
                if way < 0:
                    category = ASK
            table[count, WAY] = way
            _clock(data, spans[_TS, 0], spans[_TS, 1], _MICROSECOND, table, count, TIME)
            _clock(data, spans[_DUR, 0], spans[_DUR, 1], _MICROSECOND, table, count, DURATION)
            table[count, STREAM] = _whole(data, spans[_STREAM, 0], spans[_STREAM, 1])
            table[count, DEVICE] = _whole(data, spans[_DEVICE, 0], spans[_DEVICE, 1])
            table[count, BYTES] = 0
            if spans[_BYTES, 1] > 0:
                table[count, BYTES] = _whole(data, spans[_BYTES, 0], spans[_BYTES, 1])
            if (
                spans[SPANS, 0]
                or table[count, TIME] == ODD
                or table[count, DURATION] == ODD
                or table[count, STREAM] == ODD
                or table[count, BYTES] == ODD
            ):
                category = ASK
        elif ask:
            category = ASK
        if category != NONE:
            table[count, CATEGORY] = category
            table[count, START] = i
            table[count, END] = j
            count += 1
        i = j
        state = BEHIND_EVENT
    out[0] = count
    out[1] = i
    out[2] = state
    return why
