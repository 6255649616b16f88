-- Find entries of a stream by what stands in them, the newest first; no body leaves Redis for it.
--
-- KEYS[1] stream
-- ARGV[1] last        the entry id to go on from, exclusive; `+` from the newest
-- ARGV[2] count       how many to look at
-- ARGV[3] equal       names of fields that have to be one of *wanted*, each between spaces
-- ARGV[4] containing  names of fields in which one of *wanted* has to stand, each between spaces
-- ARGV[5..] wanted
--
-- Returns { the last entry id that was looked at, or empty when there are no more,
--           how many were looked at,
--           the ids of those that were found }.

local stream = KEYS[1]
local last, count, equal, containing = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local WANTED = 5

local function named(names, name)
  return string.find(names, ' ' .. name .. ' ', 1, true)
end

local function matches(name, value)
  local exact, within = named(equal, name), named(containing, name)
  for i = WANTED, #ARGV do
    if (exact and value == ARGV[i]) or (within and string.find(value, ARGV[i], 1, true)) then
      return true
    end
  end
  return false
end

local found = {}
local page = redis.call('XREVRANGE', stream, last, '-', 'COUNT', count)
for _, entry in ipairs(page) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if matches(fields[i], fields[i + 1]) then
      found[#found + 1] = entry[1]
      break
    end
  end
end
return { #page == count and page[#page][1] or '', #page, found }
