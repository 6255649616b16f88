-- Let calls of a tool begin that has limits for the fleet, once the slots of those that have ended are given back.
--
-- KEYS[1] stream    tool calls
-- KEYS[2] slots     run -> when its lease ends
-- KEYS[3] bucket    tokens that there were, and when, in microseconds of Redis' clock
-- ARGV[1] group
-- ARGV[2] limit     how many runs at once; 0: as many as like
-- ARGV[3] rate      how many runs begin in a second; 0: as many as like
-- ARGV[4] lease_ms
-- ARGV[5] ended     number of runs that follow and have ended
-- ARGV[6..] runs    those, then the runs that want to begin, in their order
--
-- Returns { how many of these may begin: the first of them,
--           ms until the next one may, where only the rate is in its way; -1 otherwise }.
-- A run that has its slot already, for the answer was lost that told of it, may begin and is not counted again. What
-- is given back and is not there any more changes nothing.

local stream, slots, bucket = KEYS[1], KEYS[2], KEYS[3]
local group, limit, rate, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local RUNS = 6
local FIRST = RUNS + tonumber(ARGV[5])
-- Parts of a token are added up: what is missing for so little is there.
local NEARLY = 1e-6

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)
-- Only a script's first write is checked on a full server, and this one passes.
redis.call('XACK', stream, group, '0-0')

local free = math.huge
if limit > 0 then
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  for i = RUNS, FIRST - 1 do
    redis.call('ZREM', slots, ARGV[i])
  end
  free = limit - redis.call('ZCARD', slots)
end

local burst = math.max(1, rate)
local tokens = math.huge
if rate > 0 then
  local held, since_us = string.match(redis.call('GET', bucket) or '', '^(%S+) (%d+)$')
  held = tonumber(held)
  tokens = burst
  if held then
    tokens = math.min(burst, held + math.max(0, now_us - tonumber(since_us)) * rate / 1000000)
  end
end

local begun, spent = 0, 0
for i = FIRST, #ARGV do
  if not (limit > 0 and redis.call('ZSCORE', slots, ARGV[i])) then
    if free < 1 or tokens - spent + NEARLY < 1 then
      break
    end
    free, spent = free - 1, spent + 1
    if limit > 0 then
      redis.call('ZADD', slots, now + lease_ms, ARGV[i])
    end
  end
  begun = begun + 1
end

if limit > 0 and redis.call('PTTL', slots) < lease_ms then
  redis.call('PEXPIRE', slots, lease_ms)
end
if rate > 0 and spent > 0 then
  tokens = math.max(0, tokens - spent)
  -- Once it is full again it need not be known any more.
  redis.call('SET', bucket, string.format('%.9f %.0f', tokens, now_us), 'PX', math.ceil(burst / rate * 1000))
end

if FIRST + begun <= #ARGV and free >= 1 then
  return { begun, math.ceil((1 - tokens) / rate * 1000) }
end
return { begun, -1 }
