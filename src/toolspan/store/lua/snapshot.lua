-- What the group looks like now, all figures of one moment.
--
-- KEYS[1] stream          tool calls
-- KEYS[2] parked          entry id -> due time
-- KEYS[3] workers         consumer -> last heartbeat
-- KEYS[4] dead_letters
-- KEYS[5] control         what operators ask of the workers
-- KEYS[6..] registrations what each of the names tells of itself
-- ARGV[1] group
-- ARGV[2] lease_ms        a worker silent for longer is counted as silent
-- ARGV[3] letters         1 to look at the dead letters themselves; else there is no id of the oldest
-- ARGV[4..] names         the workers whose registrations those are, in the same order
--
-- Returns { Redis' clock in ms, length, pending, parked, undelivered, consumers,
--           { live, draining, silent workers }, { pending in their second, third, fourth or a later attempt },
--           since when the oldest attempt runs or its lease was last renewed, in ms, or empty,
--           id of the oldest undelivered entry or empty, dead letters, id of the oldest dead letter or empty }.
-- A figure is nil where something else lies under its key, or it cannot be known.
--
-- include clock
-- include group
-- include ids

local stream, parked, workers, dead_letters, orders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, lease_ms = ARGV[1], tonumber(ARGV[2])
local REGISTRATIONS, NAMES = 6, 4
-- So much is looked at where a figure is not kept by Redis: all of it could block everybody else.
local FEW, MANY = 10, 1000

local now = now_ms()

local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

local function first_id(key, from)
  local entry = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
  return entry and entry[1] or ''
end

-- What the last heartbeat of a worker said it had to do; false where that cannot be read.
local function load_in(key)
  local raw = is(key, 'hash') and redis.call('HGET', key, 'load')
  local _, load = pcall(cjson.decode, raw)
  return type(load) == 'table' and load
end

local function whole(value)
  return type(value) == 'number' and value >= 0 and value <= now and math.floor(value)
end

local leaving = is(orders, 'hash') and {}
if leaving then
  for _, field in ipairs(redis.call('HKEYS', orders)) do
    leaving[string.match(field, '^drain:(.*)$') or ''] = true
  end
end

local loads, beating = {}, {}
local counts = false
if is(workers, 'zset') then
  local keys = {}
  for i = NAMES, #ARGV do
    keys[ARGV[i]] = KEYS[REGISTRATIONS + i - NAMES]
  end
  local live, draining, silent = 0, 0, 0
  local beats = redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES')
  for i = 1, #beats, 2 do
    local name = beats[i]
    loads[name] = keys[name] and load_in(keys[name])
    if tonumber(beats[i + 1]) <= now - lease_ms then
      silent = silent + 1
    else
      beating[name] = true
      if leaving and leaving[name] then
        draining = draining + 1
      else
        live = live + 1
      end
    end
  end
  counts = { live, leaving and draining, silent }
end

-- When the longest running attempt of a live worker began that is still pending; nil if none is known.
local function began(consumer)
  local oldest = beating[consumer] and loads[consumer] and loads[consumer].oldest
  for _, run in ipairs(type(oldest) == 'table' and oldest or {}) do
    local entry_id, start = type(run) == 'table' and run[1], type(run) == 'table' and whole(run[3])
    if start and type(entry_id) == 'string' and ids.valid(entry_id) then
      local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
      if held and held[4] == run[2] then
        return start
      end
    end
  end
end

-- When the first few of what a consumer holds were delivered or last renewed, the longest ago.
local function renewed(consumer)
  local idle = 0
  for _, held in ipairs(redis.call('XPENDING', stream, group, '-', '+', FEW, consumer)) do
    idle = math.max(idle, held[3])
  end
  return now - idle
end

-- How many of the *pending* calls of a consumer are in their second, third, fourth or a later attempt.
local again = { 0, 0, 0 }
local function add_again(consumer, pending)
  local told = loads[consumer] and loads[consumer].again
  for i = #again, 1, -1 do
    -- Some may have ended since the heartbeat.
    local count = math.min(pending, type(told) == 'table' and whole(told[i]) or 0)
    again[i], pending = again[i] + count, pending - count
  end
end

-- How many of the pending have no body any more because the stream was trimmed; false if too many to be counted.
local function trimmed(first)
  local gone = #redis.call('XPENDING', stream, group, '-', '(' .. first, MANY)
  return gone < MANY and gone
end

local length, pending, consumers, undelivered, oldest, oldest_pending = false, false, false, false, false, false
if is(stream, 'stream') then
  local found = group_of(stream, group)
  if not found then
    return redis.error_reply('NOGROUP no group ' .. group)
  end
  length, pending, consumers = redis.call('XLEN', stream), found.pending, found.consumers
  oldest = first_id(stream, '(' .. found.last_delivered)
  if oldest == '' then
    undelivered = 0
  else
    local gone = trimmed(first_id(stream, '-'))
    -- Low by one for each pending entry whose body somebody deleted, but never less than the one that we have seen.
    undelivered = gone and math.max(1, length - pending + gone)
  end
  oldest_pending = ''
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local name, holds = consumer[2], consumer[4]
    if holds > 0 and name ~= '~parked' then
      add_again(name, holds)
      local since = began(name) or renewed(name)
      oldest_pending = oldest_pending == '' and since or math.min(oldest_pending, since)
    end
  end
end

local letters, oldest_letter = false, false
if is(dead_letters, 'stream') then
  letters = redis.call('XLEN', dead_letters)
  oldest_letter = ARGV[3] == '1' and first_id(dead_letters, '-')
end

local waiting = is(parked, 'zset') and redis.call('ZCARD', parked)
return {
  now, length, pending, waiting, undelivered, consumers, counts, again, oldest_pending, oldest, letters,
  oldest_letter,
}
