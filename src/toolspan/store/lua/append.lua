-- Append one call; its deadline is set by Redis' clock, the one that workers compare with.
--
-- KEYS[1] stream      tool calls
-- ARGV[1] timeout_ms  how long somebody waits; empty: nobody sets a deadline
-- ARGV[2..] fields    name, value, name, value …; no more than MAX_FIELDS of codec/limits.py: Lua hands over no more
--
-- Returns the entry id.
--
-- include clock

local stream = KEYS[1]
local timeout_ms = ARGV[1]

local fields = {}
for i = 2, #ARGV do
  fields[i - 1] = ARGV[i]
end
if timeout_ms ~= '' then
  fields[#fields + 1] = 'deadline'
  fields[#fields + 1] = string.format('%.0f', now_ms() + tonumber(timeout_ms))
end
return redis.call('XADD', stream, '*', unpack(fields))
