-- What the group looks like now, all figures of one moment.
--
-- KEYS[1] stream        tool calls
-- KEYS[2] parked        entry id -> due time
-- KEYS[3] workers       consumer -> last heartbeat
-- KEYS[4] dead_letters
-- KEYS[5] control       what operators ask of the workers
-- ARGV[1] group
-- ARGV[2] lease_ms      a worker silent for longer is counted as silent
--
-- Returns { Redis' clock in ms, length, pending, parked, consumers, live workers, silent workers,
--           id of the oldest undelivered entry or empty, dead letters, id of the oldest dead letter or empty,
--           live workers that drain, which are among the live ones }.
-- A figure is nil where something else lies under its key.
--
-- include clock
-- include group

local stream, parked, workers, dead_letters, orders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, lease_ms = ARGV[1], tonumber(ARGV[2])

local now = now_ms()

local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

local function first_id(key, from)
  local entry = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
  return entry and entry[1] or ''
end

local length, pending, consumers, oldest = false, false, false, false
if is(stream, 'stream') then
  local found = group_of(stream, group)
  if not found then
    return redis.error_reply('NOGROUP no group ' .. group)
  end
  length, pending, consumers = redis.call('XLEN', stream), found.pending, found.consumers
  oldest = first_id(stream, '(' .. found.last_delivered)
end

local live, silent = false, false
if is(workers, 'zset') then
  live = redis.call('ZCOUNT', workers, '(' .. string.format('%.0f', now - lease_ms), '+inf')
  silent = redis.call('ZCARD', workers) - live
end

local draining = live and is(orders, 'hash') and 0
if draining then
  for _, field in ipairs(redis.call('HKEYS', orders)) do
    local consumer = string.match(field, '^drain:(.*)$')
    local beat = consumer and redis.call('ZSCORE', workers, consumer)
    draining = draining + (beat and tonumber(beat) > now - lease_ms and 1 or 0)
  end
end

local letters, oldest_letter = false, false
if is(dead_letters, 'stream') then
  letters, oldest_letter = redis.call('XLEN', dead_letters), first_id(dead_letters, '-')
end

local waiting = is(parked, 'zset') and redis.call('ZCARD', parked)
return { now, length, pending, waiting, consumers, live, silent, oldest, letters, oldest_letter, draining }
