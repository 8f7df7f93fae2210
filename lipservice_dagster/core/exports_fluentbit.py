"""A policy for Fluent Bit: a `lua` filter that finds the rate, draws by it and stamps what it keeps.

Lua's patterns know no alternatives, so the masks do not run here: a message is brought into a plain form (digits of a
number as one 0, single spaces, no colours) and compared with the constant texts of each template, in their order. Only
templates with the message's first word, and those that begin with a variable, are tried. Lua keeps state: the first
logs an hour of what the policy does not list are counted, by the message without the words that hold a digit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from lipservice_dagster.core.exports_plan import (
    LEVEL_FIELDS,
    LEVELS,
    LEVELS_READ,
    SEVERITY_NUMBERS,
    Entry,
    Pattern,
    Plan,
)
from lipservice_sampler.decision import ERROR_LIKE, ERROR_SEVERITIES
from lipservice_sampler.masks import VARIABLE

MOST_UNKNOWN = 50_000
"""Messages that are counted in an hour; beyond them every log is one of the first."""

# Before a word by itself stands nothing that makes it a name, before the end of a name the rest of it.
_BEFORE = ((r"(?<![\w/.])", "%f[%w_/.]"), (r"(?<![\w/.-])", "[%w_]_"))

NOT_COVERED = (
    "The masks do not run in Lua: a variable matches any text, and the most specific template that fits decides.",
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
    numbers = (f"{{{least}, {most}, {_string(name)}}}" for name, (least, most) in SEVERITY_NUMBERS.items())
    yield f"local NUMBERS = {{{', '.join(numbers)}}}"
    yield f"local ERRORS = {{{', '.join(f'{name} = true' for name in sorted(ERROR_SEVERITIES))}}}"
    rates = ", ".join(f"{name} = {rate!r}" for name, rate in sorted(plan.severities.items()))
    yield f"local RATES, ELSE = {{{rates}}}, {plan.global_rate!r}"
    yield f"local FIRST, MOST = {plan.first_per_hour}, {MOST_UNKNOWN}"
    yield "-- What reads like an error: a word, and where it must not stand anywhere, what stands before it."
    yield "local STEMS = {"
    for stem, expression in ERROR_LIKE:
        before = next((f", {_string(put)}" for look, put in _BEFORE if expression.startswith(look)), "")
        yield f"  {{{_string(stem)}{before}}},"
    yield "}"
    yield "-- Templates by their first word: rate, constant texts, whether the first and the last stand at an end."
    yield "local BY_WORD, OTHERS = {}, {}"
    yield "local function listed(word, rank, rate, ...)"
    yield "  local list = OTHERS"
    yield "  if word then list = BY_WORD[word] or {}; BY_WORD[word] = list end"
    yield "  list[#list + 1] = {rank, rate, {...}}"
    yield "end"
    for rank, pattern in enumerate(plan.patterns):
        word = _first_word(pattern)
        key = "nil" if word is None else _string(word)
        yield f"listed({key}, {rank}, {pattern.rate!r}, {_pieces(pattern)})"
    yield "local OVERLAY = {"
    for entry in sorted(plan.entries, key=lambda e: e.pattern is None):
        yield f"  {_entry(entry)},"
    yield "}"
    yield _CODE


def _first_word(pattern: Pattern) -> str | None:
    word = _folded(pattern.template).split(" ")[0]
    return None if VARIABLE in pattern.words[0] else word


def _pieces(pattern: Pattern) -> str:
    return ", ".join(_string(piece) for piece in _folded(pattern.template).split(VARIABLE))


def _folded(template: str) -> str:
    return re.sub("[0-9]+", "0", template)


def _entry(entry: Entry) -> str:
    until = "math.huge" if entry.until is None else repr(entry.until.timestamp())
    pieces = "nil" if entry.pattern is None else f"{{{_pieces(entry.pattern)}}}"
    return f"{{{_string(entry.kind)}, {entry.value!r}, {until}, {pieces}}}"


def _string(text: str) -> str:
    """A Lua string: letters, digits, spaces and _ as they are, all other octets by number."""
    return '"' + re.sub(rb"[^A-Za-z0-9 _]", lambda m: b"\\%03d" % ord(m[0]), text.encode()).decode() + '"'


_CODE = r"""
math.randomseed(os.time() + math.floor(os.clock() * 1000000))

-- The message in the plain form that templates are compared with.
local function plain(message)
  local m = message:gsub("\27%[[0-9;?]*%a", ""):gsub("\n[ \t]*at [^\n]*", ""):gsub("%d+", "0"):gsub("%s+", " ")
  return (m:gsub("^ ", ""):gsub(" $", ""))
end

-- Whether the constant texts stand in the message in this order, the first at its beginning, the last at its end.
local function fits(pieces, m)
  local count = #pieces
  local first, last = pieces[1], pieces[count]
  if count == 1 then return m == first end
  if #first + #last > #m or m:sub(1, #first) ~= first or (last ~= "" and m:sub(-#last) ~= last) then return false end
  local at, stop = #first + 1, #m - #last
  for i = 2, count - 1 do
    local piece = pieces[i]
    if piece ~= "" then
      local from, to = m:find(piece, at, true)
      if not from or to > stop then return false end
      at = to + 1
    end
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

local function found(m)
  local best, rate
  local function try(list)
    for _, entry in ipairs(list) do
      if (not best or entry[1] < best) and fits(entry[3], m) then
        best, rate = entry[1], entry[2]
        return
      end
    end
  end
  try(BY_WORD[m:match("^[^ ]*")] or {})
  try(OTHERS)
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
  local m = plain(message)
  local cap, boost, lifted, said = 1, 1, false, false
  for _, entry in ipairs(OVERLAY) do
    local kind, value, ends, pieces = entry[1], entry[2], entry[3], entry[4]
    if now < ends and (not pieces or fits(pieces, m)) then
      if kind == "never_sample" and (pieces or not said) then return 1 end
      if kind == "cap" and (pieces or not said) then cap = math.min(cap, value); said = said or pieces ~= nil end
      if kind == "boost" then boost = math.max(boost, value) end
      if kind == "lift_error_like" then lifted = true end
    end
  end
  if ERRORS[severity] or (not lifted and reads_like_error(message)) then return 1 end
  local rate = found(m)
  if not rate then rate = is_first(m, now) and 1 or RATES[severity] or ELSE end
  return math.min(math.min(rate * boost, 1), cap)
end

local function level(value)
  if type(value) == "number" then return string.format("%.0f", value) end
  if type(value) ~= "string" then return nil end
  local text = value:lower():match("^%s*(.-)%s*$")
  return text ~= "" and text or nil
end

local function severity_of(record)
  local number = tonumber(record["severity_number"]) or 0
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
