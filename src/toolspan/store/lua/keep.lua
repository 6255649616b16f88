-- Renew our heartbeat and the leases of all that we hold, without raising any count of attempts.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] workers    consumer -> last heartbeat
-- KEYS[3] worker     our registration
-- KEYS[4] attempts   entry id -> list of attempts
-- KEYS[5] control    what operators ask of the workers
-- KEYS[6..] cancels  where it is told that a call which runs here was given up
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] ttl_ms     how long a registration lives without a heartbeat
-- ARGV[4] running    JSON: what runs here now
-- ARGV[5] draining   1 when we finish and go, so that everybody can see it; else 0
-- ARGV[6] load       JSON: how many of those are attempts after the first, and which run longest
-- ARGV[7..] held     entry id, attempt, 1 if that attempt is on record else 0; in the order of the ids
--
-- Returns { Redis' clock in ms,
--           1 if we are registered, 0 if our registration has to be written again,
--           the entry ids that are no longer ours, with the attempt that was asked for each: id, attempt …;
--           one that a re-created group has not handed out again yet is not among them,
--           which of the cancels there are, counted from 1,
--           the fields and values of control, or nil where something else lies there }.
--
-- include clock
-- include history
-- include group
-- include ids
-- include pending
-- include undelivered
-- include control

local stream, workers, worker, attempts, orders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, ttl_ms, running, draining, load = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local CANCELS, HELD = 6, 7
local PAGE = 1000

-- Only a script's first write is checked on a full server, and this one passes: the fleet must be able to finish.
redis.call('XACK', stream, group, '0-0')
local now = now_ms()
redis.call('ZADD', workers, now, consumer)
local registered = redis.call('HEXISTS', worker, 'lease')
if registered == 1 then
  redis.call('HSET', worker, 'running', running, 'load', load)
  redis.call('PEXPIRE', worker, ttl_ms)
end
if draining == '1' then
  redis.pcall('HSETNX', orders, 'drain:' .. consumer, control.order(consumer, '', now))
end

local lost, ours = {}, {}
if #ARGV >= HELD then
  local pending = pending_between(stream, group, consumer, ARGV[HELD], ARGV[#ARGV - 2], (#ARGV - HELD + 1) / 3)
  for i = HELD, #ARGV, 3 do
    local entry_id, attempt, noted = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
    local entry = pending[entry_id]
    if not entry or entry[4] ~= attempt then
      if not undelivered(stream, group, entry_id) then
        lost[#lost + 1] = entry_id
        lost[#lost + 1] = ARGV[i + 1]
      end
    elseif #redis.call('XRANGE', stream, entry_id, entry_id) > 0 then
      -- An entry whose body is gone would be dropped by XCLAIM; its run can still answer as long as it is pending.
      ours[#ours + 1] = entry_id
      if noted == '0' then
        -- The claim below erases the time of delivery: write it down once.
        local list = history.read(attempts, entry_id)
        history.of(list, consumer, attempt, now - entry[3])
        history.write(attempts, entry_id, list)
      end
    end
  end
end

for i = 1, #ours, PAGE do
  local last = math.min(i + PAGE - 1, #ours)
  local page = { unpack(ours, i, last) }
  page[#page + 1] = 'JUSTID'
  redis.call('XCLAIM', stream, group, consumer, 0, unpack(page))
end

local cancelled = {}
for i = CANCELS, #KEYS, PAGE do
  local found = redis.call('MGET', unpack(KEYS, i, math.min(i + PAGE - 1, #KEYS)))
  for j = 1, #found do
    if found[j] then
      cancelled[#cancelled + 1] = i - CANCELS + j
    end
  end
end

local asked = redis.pcall('HGETALL', orders)
return { now, registered, lost, cancelled, not asked.err and asked }
