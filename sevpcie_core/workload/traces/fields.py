"""Fields of text lines as whole numbers: the kernel that the readers of line formats share.

Rule: the kernel takes only what it reads exactly; a value of any other form is ODD, a line of any other form
has -1 fields, and both are for `lines` to judge. So the kernel decides nothing, it is only fast.
"""

from typing import Final

import numpy as np

from ..._jit import inline_kernel, kernel
from .source import MAX_LINE

ODD: Final = -(2**63)
"""No value of the wanted form here."""

# What a column holds, and the meaning of its argument.
WHOLE: Final = 0
"""Digits, 18 at most; `.0` may follow."""
CLOCK: Final = 1
"""Digits, 18 at most, and a fraction: the whole part and, in the next slot, the fraction in units of 10 to
the minus `argument`."""
WORD: Final = 2
"""One of the words from `argument` on: its place among them, or -1."""
NUMBER: Final = 3
"""Digits, or hexadecimal ones behind 0x."""
DIRECTION: Final = 4
"""The first of HtoD, DtoH, DtoD, PtoP, HtoH that stands by itself in a text, in any case: 0 to 4, or -1."""

HEX: Final = 5
"""Hexadecimal digits, two a byte, blanks, colons and underscores between them or not: how many bytes, and in
the next HEX_WORDS slots the first of them, four a slot, the first one highest; what is missing there is 0 or
of another line."""
HEX_WORDS: Final = 8

# Classes of bytes in a line.
ORDINARY: Final = 0
SEPARATOR: Final = 1
STRANGE: Final = 2
"""Control characters and all that is not ASCII."""
NEWLINE: Final = 3
QUOTE: Final = 4
"""Of a CSV."""

# What `parse` says of a line instead of its number of fields.
UNSURE: Final = -1
"""It is strange, too long, or holds what only the slow path can judge."""
LEFT_OUT: Final = -2
"""Its gate is closed: it holds no record, and only the columns before the gate were looked at."""

# Columns of `slots`.
COLUMN: Final = 0
KIND: Final = 1
ARGUMENT: Final = 2
WORDS: Final = 3
"""Number of words."""
SLOT: Final = 4
"""First slot of the result."""
KEEP: Final = 5
UNKNOWN: Final = 6

_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_QUOTE: Final = ord('"')
_SPACE: Final = ord(" ")
_TAB: Final = ord("\t")
_POINT: Final = ord(".")
_ZERO: Final = ord("0")
_X: Final = ord("x")
_A: Final = ord("a")
_UNDERSCORE: Final = ord("_")
_LOWER: Final = 32
_MOST_DIGITS: Final = 18
_HEX_DIGITS: Final = 15

# Of each byte its value as a hexadecimal digit; _PASSED: it does not count; _NO_DIGIT.
_PASSED: Final = 16
_NO_DIGIT: Final = 17


def _digits() -> np.ndarray:
    """Return uint8[256]."""
    table = np.full(256, _NO_DIGIT, np.uint8)
    table[[ord(c) for c in " \t:_"]] = _PASSED
    for value, pair in enumerate(zip("0123456789abcdef", "0123456789ABCDEF", strict=True)):
        table[[ord(c) for c in pair]] = value
    return table


# Kernels take it in as a constant.
_DIGITS: Final = _digits()

_T: Final = ord("t")
_O: Final = ord("o")
# First and last letters of HtoD, DtoH, DtoD, PtoP, HtoH.
WAYS: Final = 5
_PAGEABLE: Final = np.frombuffer(b"pageable", np.uint8)
_FROM: Final = np.frombuffer(b"hddph", np.uint8)
_TO: Final = np.frombuffer(b"dhdph", np.uint8)


@inline_kernel
def _whole(data, a, b):
    """Return digits in data[a:b], with `.` and zeros behind or not, as a number, else ODD."""
    value = np.int64(0)
    i = a
    while i < b and data[i] >= _ZERO and data[i] < _ZERO + 10:
        # Wraps for more digits than are taken.
        value = value * 10 + (np.int64(data[i]) - _ZERO)
        i += 1
    if i == a or i - a > _MOST_DIGITS:
        return ODD
    if i < b and data[i] == _POINT:
        i += 1
        while i < b and data[i] == _ZERO:
            i += 1
    return value if i == b else ODD


@inline_kernel
def _number(data, a, b):
    """Return digits, or 0x and hexadecimal digits in lower case, as a number, else ODD."""
    if b - a < 3 or data[a] != _ZERO or data[a + 1] != _X:
        return _whole(data, a, b)
    if b - a > 2 + _HEX_DIGITS:
        return ODD
    value = np.int64(0)
    for i in range(a + 2, b):
        c = np.int64(data[i])
        if c >= _ZERO and c < _ZERO + 10:
            value = value * 16 + (c - _ZERO)
        elif c >= _A and c < _A + 6:
            value = value * 16 + (c - _A + 10)
        else:
            return ODD
    return value


@inline_kernel
def _hex(data, a, b, values, line, slot):
    """Set the number of bytes and the first of them, or ODD."""
    values[line, slot] = ODD
    count = np.int64(0)
    value = np.int64(0)
    i = a
    while i < b and count < 8 * HEX_WORDS:
        digit = _DIGITS[data[i]]
        if digit < _PASSED:
            value = (value << 4 | np.int64(digit)) & 0xFFFFFFFF
            count += 1
            if count & 7 == 0:
                values[line, slot + (count >> 3)] = value
        elif digit == _NO_DIGIT:
            return
        i += 1
    # Of the rest only the number counts.
    odd = np.int64(0)
    for j in range(i, b):
        digit = _DIGITS[data[j]]
        count += digit < _PASSED
        odd += digit == _NO_DIGIT
    if odd > 0:
        return
    if count & 1 or count == 0:
        return
    rest = count & 7
    if rest > 0 and count < 8 * HEX_WORDS:
        values[line, slot + (count >> 3) + 1] = (value << 4 * (8 - rest)) & 0xFFFFFFFF
    values[line, slot] = count >> 1


@inline_kernel
def _clock(data, a, b, digits, values, line, slot):
    """Set whole part and fraction of a decimal, or ODD."""
    values[line, slot] = ODD
    whole = np.int64(0)
    i = a
    while i < b and data[i] >= _ZERO and data[i] < _ZERO + 10:
        whole = whole * 10 + (np.int64(data[i]) - _ZERO)
        i += 1
    if i == a or i - a > _MOST_DIGITS:
        return
    fraction = np.int64(0)
    left = digits
    if i < b and data[i] == _POINT:
        i += 1
        while i < b and left > 0 and data[i] >= _ZERO and data[i] < _ZERO + 10:
            fraction = fraction * 10 + (np.int64(data[i]) - _ZERO)
            left -= 1
            i += 1
        while i < b and data[i] == _ZERO:
            i += 1
    if i != b:
        return
    while left > 0:
        fraction *= 10
        left -= 1
    values[line, slot] = whole
    values[line, slot + 1] = fraction


@inline_kernel
def _word(data, a, b, words, word_at, first, count):
    """Return which of `count` words from number `first` on data[a:b] is, else -1."""
    for word in range(first, first + count):
        begin = word_at[word]
        if word_at[word + 1] - begin == b - a:
            i = 0
            while i < b - a and data[a + i] == words[begin + i]:
                i += 1
            if i == b - a:
                return word - first
    return -1


@inline_kernel
def _in_a_word(c):
    lower = c | _LOWER
    return (lower >= _A and lower < _A + 26) or (c >= _ZERO and c < _ZERO + 10) or c == _UNDERSCORE


@inline_kernel
def _direction(data, a, b):
    """Return the first direction of a copy in data[a:b], else -1; of pageable memory WAYS more."""
    for i in range(a, b - 3):
        if (
            data[i + 1] | _LOWER == _T
            and data[i + 2] | _LOWER == _O
            and (i == a or not _in_a_word(data[i - 1]))
            and (i + 4 == b or not _in_a_word(data[i + 4]))
        ):
            for which in range(5):
                if data[i] | _LOWER == _FROM[which] and data[i + 3] | _LOWER == _TO[which]:
                    return which + (WAYS if _holds(data, i + 4, b, _PAGEABLE) else 0)
    return -1


@inline_kernel
def _holds(data, a, b, word):
    """Return whether data[a:b] holds a word in small letters, in letters of any size."""
    for i in range(a, b - len(word) + 1):
        k = 0
        while k < len(word) and data[i + k] | _LOWER == word[k]:
            k += 1
        if k == len(word):
            return True
    return False


@inline_kernel
def _split_quoted(data, i, classes, bounds, count, most):
    """Find fields of a CSV line, of which `i` begins one, until there are `most` or the line ends.

    Returns their number, UNSURE for a strange line; where the next field or the next line begins.
    """
    while count < most:
        if data[i] == _QUOTE:
            i += 1
            start = i
            while data[i] != _QUOTE or data[i + 1] == _QUOTE:
                if classes[data[i]] == STRANGE or classes[data[i]] == NEWLINE:
                    return UNSURE, i
                i += 2 if data[i] == _QUOTE else 1
            finish = i
            i += 1
        else:
            start = i
            while classes[data[i]] == ORDINARY or classes[data[i]] == QUOTE:
                i += 1
            finish = i
        if data[i] == _RETURN and data[i + 1] == _NEWLINE:
            i += 1
        if classes[data[i]] != SEPARATOR and classes[data[i]] != NEWLINE:
            return UNSURE, i
        bounds[count, 0] = start
        bounds[count, 1] = finish
        count += 1
        i += 1
        if data[i - 1] == _NEWLINE:
            break
    return count, i


@inline_kernel
def _rest_quoted(data, i, classes, count):
    """Count the fields of a CSV line from the one that begins at `i` to the end of the line.

    Returns as above; UNSURE also where a quote is.
    """
    count += 1
    while classes[data[i]] <= SEPARATOR:
        count += np.int64(classes[data[i]])
        i += 1
    if data[i] == _RETURN and data[i + 1] == _NEWLINE:
        i += 1
    return (count if data[i] == _NEWLINE else UNSURE), i + 1


@inline_kernel
def _count_quoted(data, i, classes):
    """Count the fields of a CSV line with quotes from its start; returns as above."""
    count = 0
    while True:
        if data[i] == _QUOTE:
            i += 1
            while data[i] != _QUOTE or data[i + 1] == _QUOTE:
                if classes[data[i]] == STRANGE or classes[data[i]] == NEWLINE:
                    return UNSURE, i
                i += 2 if data[i] == _QUOTE else 1
            i += 1
        else:
            while classes[data[i]] == ORDINARY or classes[data[i]] == QUOTE:
                i += 1
        if data[i] == _RETURN and data[i + 1] == _NEWLINE:
            i += 1
        if classes[data[i]] != SEPARATOR and classes[data[i]] != NEWLINE:
            return UNSURE, i
        count += 1
        i += 1
        if data[i - 1] == _NEWLINE:
            return count, i


@inline_kernel
def _split_runs(data, i, classes, bounds, count, most):
    """Find fields of a line, any number of separators between two, until there are `most` or the line ends.

    Returns their number, UNSURE for a strange line; what lies behind the last field, or the next line.
    """
    while count < most:
        while classes[data[i]] == SEPARATOR:
            i += 1
        if data[i] == _RETURN and data[i + 1] == _NEWLINE:
            i += 1
        if data[i] == _NEWLINE:
            return count, i + 1
        start = i
        while classes[data[i]] == ORDINARY:
            i += 1
        if i == start:
            return UNSURE, i
        bounds[count, 0] = start
        bounds[count, 1] = i
        count += 1
    return count, i


@inline_kernel
def _rest_runs(data, i, classes, count):
    """Return `count`, and one more if any field lies between `i` and the end of the line; then as above."""
    while classes[data[i]] == SEPARATOR:
        i += 1
    if classes[data[i]] == ORDINARY:
        count += 1
        while classes[data[i]] <= SEPARATOR:
            i += 1
    if data[i] == _RETURN and data[i + 1] == _NEWLINE:
        i += 1
    return (count if data[i] == _NEWLINE else UNSURE), i + 1


@inline_kernel
def _blank(data, start, end):
    """Return whether a line of a CSV is empty or of spaces."""
    i = start
    while data[i] == _SPACE:
        i += 1
    return i + 1 == end or (i + 2 == end and data[i] == _RETURN)


@inline_kernel
def _value(data, bounds, slots, which, words, word_at, values, line):
    """Set the values of one column of a line."""
    column = slots[which, COLUMN]
    kind = slots[which, KIND]
    argument = slots[which, ARGUMENT]
    slot = slots[which, SLOT]
    a = bounds[column, 0]
    b = bounds[column, 1]
    while a < b and (data[a] == _SPACE or data[a] == _TAB):
        a += 1
    while a < b and (data[b - 1] == _SPACE or data[b - 1] == _TAB):
        b -= 1
    if kind == CLOCK:
        _clock(data, a, b, argument, values, line, slot)
    elif kind == WHOLE:
        values[line, slot] = _whole(data, a, b)
    elif kind == WORD:
        values[line, slot] = _word(data, a, b, words, word_at, argument, slots[which, WORDS])
    elif kind == NUMBER:
        values[line, slot] = _number(data, a, b)
    elif kind == HEX:
        _hex(data, a, b, values, line, slot)
    else:
        values[line, slot] = _direction(data, a, b)


@kernel
def parse(data, begin, quoted, width, classes, slots, words, word_at, bounds, starts, fields, values):
    """Parse lines until `data` or the room for results ends.

    Parameters
    ----------
    data : uint8[n], whole lines, each with its newline. begin : where to start.
    quoted : whether fields are those of CSV; else any number of separators lies between two.
    width : fields of each line of a CSV; else those that a line with a closed gate has at least.
    classes : uint8[256], class of each byte.
    slots : int64[k, 7], by column of the names below. A gate, if there is one, is a word: lines with one of
    its first KEEP words are read on; those with another one are LEFT_OUT, and with an unknown one as well if
    UNKNOWN is set, if the columns before the gate hold what they should.
    words, word_at : uint8[m], int64[w + 1], the words one behind the other, where each begins and the end.
    bounds : int64[c, 2], scratch for the columns looked at.
    starts : int64[room + 1], set: where each line begins, and the end of the last.
    fields : int64[room], set: fields of each line, of those behind the columns looked at one in runs; 0 if it
    is blank, UNSURE or LEFT_OUT.
    values : int64[room, s], set for lines with fields: by slot, ODD where the column does not hold the kind.

    Returns
    -------
    Number of lines.
    """
    gate = slots.shape[0]
    for which in range(slots.shape[0] - 1, -1, -1):
        if slots[which, KEEP] > 0:
            gate = which
    columns = bounds.shape[0]
    first = columns
    if gate < slots.shape[0]:
        first = 0
        for which in range(gate + 1):
            first = max(first, slots[which, COLUMN] + 1)
    line = 0
    at = begin
    while at < data.size and line < fields.size:
        starts[line] = at
        closed = False
        done = 0
        if quoted:
            count, i = _split_quoted(data, at, classes, bounds, 0, first)
        else:
            count, i = _split_runs(data, at, classes, bounds, 0, first)
        if count == first:
            # The columns up to the gate are there.
            good = True
            while done < slots.shape[0] and done < gate:
                if slots[done, COLUMN] < count:
                    _value(data, bounds, slots, done, words, word_at, values, line)
                    good = good and values[line, slots[done, SLOT]] != ODD
                done += 1
            if gate < slots.shape[0]:
                _value(data, bounds, slots, gate, words, word_at, values, line)
                done = gate + 1
                code = values[line, slots[gate, SLOT]]
                closed = good and (code >= slots[gate, KEEP] or (code < 0 and slots[gate, UNKNOWN] != 0))
        ended = i > at and data[i - 1] == _NEWLINE
        if count >= 0 and not ended:
            if quoted:
                if not closed:
                    count, i = _split_quoted(data, i, classes, bounds, count, columns)
                    ended = data[i - 1] == _NEWLINE
                if count >= 0 and not ended:
                    count, i = _rest_quoted(data, i, classes, count)
                    if count < 0:
                        count, i = _count_quoted(data, at, classes)
            else:
                if not closed:
                    count, i = _split_runs(data, i, classes, bounds, count, columns)
                    ended = data[i - 1] == _NEWLINE
                if count >= 0 and not ended:
                    count, i = _rest_runs(data, i, classes, count)
        if count < 0:
            i = at
            while data[i] != _NEWLINE:
                i += 1
            i += 1
        if i - at >= MAX_LINE:
            count = UNSURE
        if quoted and count == 1 and _blank(data, at, i):
            count = 0
        if closed and count >= 0:
            count = LEFT_OUT if (count == width if quoted else count >= width) else UNSURE
        fields[line] = count
        if count > 0:
            for which in range(done, slots.shape[0]):
                if slots[which, COLUMN] < count:
                    _value(data, bounds, slots, which, words, word_at, values, line)
                else:
                    values[line, slots[which, SLOT]] = ODD
        line += 1
        at = i
    starts[line] = at
    return line
