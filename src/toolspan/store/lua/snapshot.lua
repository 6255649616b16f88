-- What the group looks like now, all figures of one moment.
--
-- KEYS[1] stream        tool calls
-- KEYS[2] parked        entry id -> due time
-- KEYS[3] workers       consumer -> last heartbeat
-- KEYS[4] dead_letters
-- ARGV[1] group
-- ARGV[2] lease_ms      a worker silent for longer is counted as silent
--
-- Returns { Redis' clock in ms, length, pending, parked, consumers, live workers, silent workers,
--           id of the oldest undelivered entry or empty, dead letters, id of the oldest dead letter or empty }.
--
-- include clock

local stream, parked, workers, dead_letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, lease_ms = ARGV[1], tonumber(ARGV[2])

local function first_id(key, from)
  local entry = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
  return entry and entry[1] or ''
end

local now = now_ms()
local consumers, pending, delivered
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if info[2] == group then
    consumers, pending, delivered = info[4], info[6], info[8]
  end
end
if not consumers then
  return redis.error_reply('NOGROUP no group ' .. group)
end

local live = redis.call('ZCOUNT', workers, '(' .. string.format('%.0f', now - lease_ms), '+inf')
local waiting = redis.call('ZCARD', parked)
return {
  now, redis.call('XLEN', stream), pending, waiting, consumers, live, redis.call('ZCARD', workers) - live,
  first_id(stream, '(' .. delivered), redis.call('XLEN', dead_letters), first_id(dead_letters, '-'),
}
