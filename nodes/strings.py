"""Nodes that work on text."""

import re
from typing import Annotated

from engine.api import Choice, Int, NodeError, Text, Toggle, node

_CATEGORY = "utils/string"
_Multiline = Annotated[str, Text(multiline=True)]
_CaseSensitive = Annotated[bool, Toggle(True)]
_IgnoreCase = Annotated[bool, Toggle(True)]
_Off = Annotated[bool, Toggle(False)]


@node("StringConcatenate", title="Concatenate", category=_CATEGORY)
def string_concatenate(
    string_a: _Multiline,
    string_b: _Multiline,
    delimiter: Annotated[str, Text("", multiline=False)],
) -> str:
    """Joins two texts."""
    return f"{string_a}{delimiter}{string_b}"


@node("StringSubstring", title="Substring", category=_CATEGORY)
def string_substring(string: _Multiline, start: int, end: int) -> str:
    """A part of a text; negative places count from its end."""
    return string[start:end]


@node("StringLength", title="Length", category=_CATEGORY, output_names=("length",))
def string_length(string: _Multiline) -> int:
    """The number of characters of a text."""
    return len(string)


@node("CaseConverter", title="Case Converter", category=_CATEGORY)
def case_converter(
    string: _Multiline,
    mode: Annotated[str, Choice(("UPPERCASE", "lowercase", "Capitalize", "Title Case"))],
) -> str:
    """Changes capital and small letters."""
    forms = {
        "UPPERCASE": string.upper,
        "lowercase": string.lower,
        "Capitalize": string.capitalize,
        "Title Case": string.title,
    }
    return forms[mode]()


@node("StringTrim", title="Trim", category=_CATEGORY)
def string_trim(string: _Multiline, mode: Annotated[str, Choice(("Both", "Left", "Right"))]) -> str:
    """Takes spaces off the ends of a text."""
    forms = {"Both": string.strip, "Left": string.lstrip, "Right": string.rstrip}
    return forms[mode]()


@node("StringReplace", title="Replace", category=_CATEGORY)
def string_replace(string: _Multiline, find: _Multiline, replace: _Multiline) -> str:
    """Replaces every occurrence of a text."""
    return string.replace(find, replace)


@node("StringContains", title="Contains", category=_CATEGORY, output_names=("contains",))
def string_contains(
    string: _Multiline, substring: _Multiline, case_sensitive: _CaseSensitive
) -> bool:
    """Whether a text holds another one."""
    if case_sensitive:
        return substring in string
    return substring.lower() in string.lower()


@node("StringCompare", title="Compare", category=_CATEGORY)
def string_compare(
    string_a: _Multiline,
    string_b: _Multiline,
    mode: Annotated[str, Choice(("Starts With", "Ends With", "Equal"))],
    case_sensitive: _CaseSensitive,
) -> bool:
    """Whether a text equals, starts with or ends with another one."""
    a, b = (string_a, string_b) if case_sensitive else (string_a.lower(), string_b.lower())
    if mode == "Equal":
        return a == b
    return a.startswith(b) if mode == "Starts With" else a.endswith(b)


def _pattern(
    pattern: str, *, case_insensitive: bool, multiline: bool, dotall: bool
) -> re.Pattern[str]:
    """Raises: NodeError, if the pattern is no regular expression."""
    flags = re.NOFLAG
    for is_on, flag in (
        (case_insensitive, re.IGNORECASE),
        (multiline, re.MULTILINE),
        (dotall, re.DOTALL),
    ):
        flags |= flag if is_on else re.NOFLAG
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise NodeError(
            f"regex_pattern {pattern!r} is no regular expression: {error}.",
            hint="Write a backslash before a special character that is meant literally.",
        ) from error


@node("RegexMatch", title="Regex Match", category=_CATEGORY, output_names=("matches",))
def regex_match(
    string: _Multiline,
    regex_pattern: _Multiline,
    case_insensitive: _IgnoreCase,
    multiline: _Off,
    dotall: _Off,
) -> bool:
    """Whether a regular expression is found in a text."""
    pattern = _pattern(
        regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall
    )
    return pattern.search(string) is not None


@node("RegexExtract", title="Regex Extract", category=_CATEGORY)
def regex_extract(
    string: _Multiline,
    regex_pattern: _Multiline,
    mode: Annotated[str, Choice(("First Match", "All Matches", "First Group", "All Groups"))],
    case_insensitive: _IgnoreCase,
    multiline: _Off,
    dotall: _Off,
    group_index: Annotated[int, Int(1, min=0, max=100)],
) -> str:
    """What a regular expression finds in a text, one line for each find."""
    pattern = _pattern(
        regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall
    )
    index = group_index if mode.endswith(("Group", "Groups")) else 0
    if pattern.groups < index:
        return ""
    finds = [found.group(index) or "" for found in pattern.finditer(string)]
    return "\n".join(finds if mode.startswith("All") else finds[:1])


@node("RegexReplace", title="Regex Replace", category=_CATEGORY)
def regex_replace(
    string: _Multiline,
    regex_pattern: _Multiline,
    replace: _Multiline,
    case_insensitive: _IgnoreCase = True,
    multiline: _Off = False,
    dotall: _Off = False,
    count: Annotated[int, Int(0, min=0, max=100)] = 0,
) -> str:
    """Replaces what a regular expression finds; a count of 0 means all."""
    pattern = _pattern(
        regex_pattern, case_insensitive=case_insensitive, multiline=multiline, dotall=dotall
    )
    try:
        return pattern.sub(replace, string, count=count)
    except (re.error, IndexError) as error:
        raise NodeError(
            f"replace {replace!r} does not fit regex_pattern {regex_pattern!r}: {error}."
        ) from error


NODES = [
    string_concatenate,
    string_substring,
    string_length,
    case_converter,
    string_trim,
    string_replace,
    string_contains,
    string_compare,
    regex_match,
    regex_extract,
    regex_replace,
]
