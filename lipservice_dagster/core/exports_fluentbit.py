"""A policy for Fluent Bit: a `lua` filter that finds the rate, draws by it and stamps what it keeps.

Lua's patterns know no alternatives, so the masks do not run here: a message is brought into a plain form (digits of a
number as one 0, single spaces, no colours) and compared with the constant texts of each template, in their order. Only
templates with the message's first word, and those that begin with a variable, are tried. Lua keeps state: the first
logs an hour of what the policy does not list are counted, by the message without the words that hold a digit.

A pattern's rate holds where its own Lua pattern fits the message: constants as they are, a variable one word without
the signs that part words, after the values that hold such signs (times, addresses, URLs) are made plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from lipservice_dagster.core.exports_plan import (
    LEVEL_FIELDS,
    LEVELS,
    LEVELS_READ,
    NUMBER_FIELDS,
    SEVERITY_NUMBERS,
    Entry,
    Pattern,
    Plan,
)
from lipservice_sampler.decision import ERROR_LIKE, ERROR_SEVERITIES
from lipservice_sampler.masks import VARIABLE, mask
from lipservice_sampler.matching import words
from lipservice_sampler.text import MAX_CHARS

MOST_PARTS = 60
"""Words of a template that is told by a pattern of its own; Lua limits what a pattern holds."""

MOST_UNKNOWN = 50_000
"""Messages that are counted in an hour; beyond them every log is one of the first."""

# Before a word by itself stands nothing that makes it a name, before the end of a name the rest of it.
_BEFORE = ((r"(?<![\w/.])", "%f[%w_/.]"), (r"(?<![\w/.-])", "[%w_]_"))

NOT_COVERED = (
    "The masks do not run in Lua: a pattern's rate holds where a variable is one word in ASCII, or a plain time,"
    " address or URL, as closely as Lua can tell. What fits less closely is kept as one of the first of its hour, then"
    " at no less than the rate of any pattern whose constant texts it holds; so are overlays read.",
    "Logs are drawn one by one, not evenly as the sampler draws them.",
    "The first logs an hour of what the policy does not list are counted by each process of Fluent Bit for itself.",
    "What reads like an error is kept wherever one of its words stands alone, also in 'no errors' and 'failed=0',"
    " or ends a name, also on_error.",
    "A log with lipservice.sample_rate, sampling.threshold or sample_rate was sampled before and is left alone.",
    *LEVELS_READ,
)


def fluentbit(plan: Plan) -> str:
    """The fragment: YAML with one filter, its code inline."""
    lua_filter = {"name": "lua", "match": "*", "call": "lipservice", "code": _Literal(program(plan))}
    document = {"pipeline": {"filters": [lua_filter]}}
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10**9, allow_unicode=False)


def program(plan: Plan) -> str:
    """The Lua code, for Lua 5.1 and LuaJIT too; it defines the function ``lipservice``."""
    return "\n".join(_program(plan)) + "\n"


def _program(plan: Plan) -> Iterator[str]:
    yield f"local SERVICE, ENVIRONMENT = {_string(plan.service)}, {_string(plan.environment)}"
    named = ", ".join(f"[{_string(n)}] = {_string(severity)}" for n, severity in sorted(LEVELS.items()))
    yield f"local SEVERITY = {{{named}}}"
    yield f"local LEVEL_FIELDS = {{{', '.join(map(_string, LEVEL_FIELDS))}}}"
    yield f"local NUMBER_FIELDS = {{{', '.join(map(_string, NUMBER_FIELDS))}}}"
    numbers = (f"{{{least}, {most}, {_string(name)}}}" for name, (least, most) in SEVERITY_NUMBERS.items())
    yield f"local NUMBERS = {{{', '.join(numbers)}}}"
    yield f"local ERRORS = {{{', '.join(f'{name} = true' for name in sorted(ERROR_SEVERITIES))}}}"
    rates = ", ".join(f"{name} = {rate!r}" for name, rate in sorted(plan.severities.items()))
    yield f"local RATES, ELSE = {{{rates}}}, {plan.global_rate!r}"
    yield f"local FIRST, MOST, LONGEST = {plan.first_per_hour}, {MOST_UNKNOWN}, {MAX_CHARS}"
    yield "-- What reads like an error: a word, and where it must not stand anywhere, what stands before it."
    yield "local STEMS = {"
    for stem, expression in ERROR_LIKE:
        before = next((f", {_string(put)}" for look, put in _BEFORE if expression.startswith(look)), "")
        yield f"  {{{_string(stem)}{before}}},"
    yield "}"
    yield "-- Templates by their first word: rank, rate, their pattern; and all with their constant texts."
    yield "local BY_WORD, OTHERS = {}, {}"
    yield "local ALL = {}"
    yield _WORD_CODE
    yield "local function listed(word, rank, rate, close, pieces)"
    yield "  local list = OTHERS"
    yield "  if word then list = BY_WORD[word] or {}; BY_WORD[word] = list end"
    yield "  list[#list + 1] = {rank, rate, close}"
    yield "  ALL[#ALL + 1] = {rate, pieces}"
    yield "end"
    for rank, pattern in enumerate(plan.patterns):
        word = _first_word(pattern)
        key = "nil" if word is None else _string(word)
        yield f"listed({key}, {rank}, {pattern.rate!r}, {_close(pattern.template)}, {{{_pieces(pattern)}}})"
    yield "local OVERLAY = {"
    for entry in sorted(plan.entries, key=lambda e: e.pattern is None):
        yield f"  {_entry(entry)},"
    yield "}"
    yield _CODE


def _first_word(pattern: Pattern) -> str | None:
    word = _folded(pattern.template).split(" ")[0]
    return None if VARIABLE in pattern.words[0] else word


def _pieces(pattern: Pattern) -> str:
    return ", ".join(_string(_folded(piece)) for piece in pattern.constants)


_PLACE = "\x01"
"""Stands for a word, whose long pattern is put in by Lua."""


def _close(template: str) -> str:
    """The Lua pattern of a template; ``nil`` where what the masks do to its messages cannot be told in Lua."""
    parts, fixed = words(template)
    if ".." in template or _PLACE in template or len(parts) > MOST_PARTS or mask(template) != template:
        return "nil"
    out = []
    for i, part in enumerate(parts):
        before, variable, after = part.partition(VARIABLE)
        if variable and (after or not re.fullmatch("(?:[A-Za-z]+[./-])?", before)):
            return "nil"
        out.append(_literal(before) + (("[%d.]*%d" if before else _PLACE) if variable else ""))
        out.append(_literal(fixed[i]) if i < len(fixed) else "")
    return f"word({_string('^' + ''.join(out) + '$')})"


def _literal(text: str) -> str:
    """A Lua pattern for this text; a 0 stands for the digits of a name."""
    return re.sub(r"[^A-Za-z0-9\x80-\U0010ffff ]", r"%\g<0>", text).replace("0", "%d%d?%d?")


def _folded(template: str) -> str:
    return re.sub("[0-9]+", "0", template)


def _entry(entry: Entry) -> str:
    until = "math.huge" if entry.until is None else repr(entry.until.timestamp())
    pieces = "nil" if entry.pattern is None else f"{{{_pieces(entry.pattern)}}}"
    close = "nil" if entry.pattern is None else _close(entry.pattern.template)
    others = ", ".join(close for close in (_close(other.template) for other in entry.others) if close != "nil")
    return f"{{{_string(entry.kind)}, {entry.value!r}, {until}, {pieces}, {close}, {{{others}}}}}"


def _string(text: str) -> str:
    """A Lua string: letters, digits, spaces and _ as they are, all other octets by number."""
    return '"' + re.sub(rb"[^A-Za-z0-9 _]", lambda m: b"\\%03d" % ord(m[0]), text.encode()).decode() + '"'


_WORD_CODE = r"""
-- A word: signs that part none, and no full stop, ! or ? at its end.
local SIGNS = "$%%&*+%-/0-9@A-Z%^_`a-z~"
local WORD = "[" .. SIGNS .. "!?.]*[" .. SIGNS .. "]"
local function word(pattern) return (pattern:gsub("\1", function() return WORD end)) end""".strip()

_CODE = r"""
math.randomseed(os.time() + math.floor(os.clock() * 1000000))

-- The message in the plain form that templates are compared with.
local function plain(message)
  local m = message:gsub("\27%[[0-9;?]*%a", ""):gsub("\n[ \t]*at [^\n]*", ""):gsub("%d+", "0"):gsub("%s+", " ")
  return (m:gsub("^ ", ""):gsub(" $", ""))
end

-- The message with its values made plain where they hold signs that part words; nil where that cannot be told.
local MONTHS = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
local function valued(message)
  if #message > LONGEST then return nil end
  local m = message:gsub("\27%[[0-9;?]*%a", ""):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
  m = m:gsub("%f[%w]%d%d/%u%l%l/%d%d%d%d:%d%d:%d%d:%d%d [+-]%d%d%d%d%f[^%d]", "1")
  for _, month in ipairs(MONTHS) do
    if m:find(month, 1, true) and m:find("%d") and m:find("%f[%a]" .. month .. "%l*[ /-]") then return nil end
  end
  if m:find("^at ") or message:find("\n", 1, true) or m:find("..", 1, true) then return nil end
  m = m:gsub("%f[%a]%a[%w+.-]*://[^ \"'<>()%[%]{},;|]*[^ \"'<>()%[%]{},;|.:!?]", "/1")
  m = m:gsub("([ =]/[%w/._~%%-]*)%?[^ \"'<>()|]*[^ \"'<>()|,;.:!?]", "%1")
  m = m:gsub("%f[%w]%d%d%d%d[-/.]%d%d[-/.]%d%d[T _]%d%d:%d%d:%d%d[.,]?%d*Z?(.?.?)", function(after)
    if not after:find("^ ?[%u+-]") then return "1" .. after end
  end)
  return (m:gsub("%f[%w_./:@-]%d[%d.]*:%d[%d.:]*%f[^%d.:]", function(value)
    if not value:find(":%d%f[^%d]") then return "1" end  -- 5:06 is a time, 5:6 is two numbers
  end))
end

-- Whether the constant texts stand in the message in this order.
local function near(pieces, m)
  local at = 1
  for _, piece in ipairs(pieces) do
    local _, to = m:find(piece, at, true)
    if not to then return false end
    at = to + 1
  end
  return true
end

local function fits(close, v, others)
  if not close or not v or not v:find(close) then return false end
  for _, other in ipairs(others or {}) do
    if v:find(other) then return false end
  end
  return true
end

local function reads_like_error(message)
  local lower = message:lower()
  for _, stem in ipairs(STEMS) do
    if lower:find(stem[1], 1, true) then
      if not stem[2] or lower:find(stem[2] .. stem[1]) then return true end
    end
  end
  return false
end

local function found(m, v)
  local best, rate
  local function try(list)
    for _, entry in ipairs(list) do
      if (not best or entry[1] < best) and fits(entry[3], v) then
        best, rate = entry[1], entry[2]
        return
      end
    end
  end
  if v then
    try(BY_WORD[m:match("^[^ ]*")] or {})
    try(OTHERS)
  end
  return rate
end

local hour, seen, known = 0, {}, 0
local function is_first(m, now)
  if FIRST == 0 then return false end
  local this = math.floor(now / 3600)
  if this ~= hour then hour, seen, known = this, {}, 0 end
  local name = m:gsub("[^ ]*0[^ ]*", "0"):sub(1, 500)
  local count = seen[name]
  if not count then
    if known >= MOST then return true end
    known, count = known + 1, 0
  end
  seen[name] = count + 1
  return count < FIRST
end

local function rate_of(message, severity, now)
  local m, v = plain(message), valued(message)
  local cap, boost, lifted, said, held = 1, 1, false, false, false
  for _, entry in ipairs(OVERLAY) do
    local kind, value, ends, pieces = entry[1], entry[2], entry[3], entry[4]
    if now < ends then
      local may = not pieces or near(pieces, m)
      local is = not pieces or fits(entry[5], v, entry[6])
      if kind == "never_sample" and may and (pieces or not said) then return 1 end
      if kind == "cap" and is and (pieces or not (said or held)) then cap = math.min(cap, value) end
      if kind == "cap" and pieces then said, held = said or is, held or may end
      if kind == "boost" and may then boost = math.max(boost, value) end
      if kind == "lift_error_like" and is then lifted = true end
    end
  end
  if ERRORS[severity] or (not lifted and reads_like_error(message)) then return 1 end
  local rate = found(m, v)
  if not rate then
    rate = is_first(m, now) and 1 or RATES[severity] or ELSE
    for _, entry in ipairs(ALL) do
      if rate < entry[1] and near(entry[2], m) then rate = entry[1] end
    end
  end
  return math.min(math.min(rate * boost, 1), cap)
end

local function level(value)
  if type(value) == "number" then return string.format("%.0f", value) end
  if type(value) ~= "string" then return nil end
  local text = value:lower():match("^%s*(.-)%s*$")
  return text ~= "" and text or nil
end

local function severity_of(record)
  local number = 0
  for _, field in ipairs(NUMBER_FIELDS) do
    if number == 0 then number = tonumber(record[field]) or 0 end
  end
  if number >= 17 then return "error" end
  for _, field in ipairs(LEVEL_FIELDS) do
    local said = level(record[field])
    if said then return SEVERITY[said] or "info" end
  end
  local nested = type(record["log"]) == "table" and level(record["log"]["level"])
  if nested then return SEVERITY[nested] or "info" end
  for _, range in ipairs(NUMBERS) do
    if number >= range[1] and number <= range[2] then return range[3] end
  end
  return "info"
end

function lipservice(tag, timestamp, record)
  local message = record["log"]
  if type(message) ~= "string" then message = record["message"] end
  local service = record["service"] or record["service_name"] or record["service.name"] or ""
  local environment = record["environment"] or ""
  if type(message) ~= "string" or service ~= SERVICE then return 0, timestamp, record end
  if ENVIRONMENT ~= "" and environment ~= "" and environment ~= ENVIRONMENT then return 0, timestamp, record end
  if record["lipservice.sample_rate"] or record["sampling.threshold"] or record["sample_rate"] then
    return 0, timestamp, record
  end
  local rate = rate_of(message, severity_of(record), os.time())
  if rate >= 1 then return 0, timestamp, record end
  if math.random() >= rate then return -1, timestamp, record end
  record["lipservice.sample_rate"] = rate
  return 2, timestamp, record
end"""


class _Literal(str):
    """Text over several lines."""

    __slots__ = ()


class _Dumper(yaml.CSafeDumper):
    pass


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)
