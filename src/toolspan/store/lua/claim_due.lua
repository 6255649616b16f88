-- Take parked calls whose next attempt is due. Those of a paused tool wait on, unless their caller does no more.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] parked     entry id -> due time
-- KEYS[3] attempts   entry id -> list of attempts; entry id:mark -> token
-- KEYS[4] events     exceptional steps
-- KEYS[5] control    what operators ask of the workers
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] count      how many we have room for
-- ARGV[4] suspects   how many suspects we may take
-- ARGV[5] max_attempts
-- ARGV[6] suspect_from  losses from which on a call is a suspect
-- ARGV[7] offset     how many due calls to pass over: those that an answer before left
-- ARGV[8] page       how many to look at
-- ARGV[9..] skipped  entry ids that are left to others
--
-- Returns { the offset to go on from, or empty when there are no more,
--           how many suspects may still be taken,
--           the claimed entries (see lib/orphan.lua; since_ms is when they were due),
--           of each entry whose body is gone its id and its deliveries }.
--
-- include clock
-- include history
-- include event
-- include orphan
-- include ids
-- include control
-- include called

local stream, parked, attempts, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local suspects, max_attempts, suspect_from = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local offset, page = tonumber(ARGV[7]), tonumber(ARGV[8])
local SKIPPED = 9

local skipped = {}
for i = SKIPPED, #ARGV do
  skipped[ARGV[i]] = true
end

local now = now_ms()
local claimed, gone = {}, {}
local paused = control.paused(KEYS[5])

-- Whether the call goes on waiting, for its tool is paused. Somebody has to answer it once its deadline has passed.
local function waits_on(entry_id, fields)
  local tool, deadline = called(fields)
  local since = paused[tool]
  if not since or (deadline and deadline <= now) then
    return false
  end
  -- Only a script's first write is checked on a full server, and this one passes.
  redis.call('XACK', stream, group, '0-0')
  redis.call('ZADD', parked, now + control.delay_ms(now, since, deadline and deadline - now), entry_id)
  return true
end

-- Whether the entry is due no longer. What is none stays where somebody put it.
local function take(entry_id, due_ms)
  if not ids.valid(entry_id) then
    return false
  end
  local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, '~parked')[1]
  if not held then
    -- A re-created group has forgotten that it is parked, and delivers it anew.
    redis.call('ZREM', parked, entry_id)
    return true
  end
  local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if paused and entry and waits_on(entry_id, entry[2]) then
    return true
  end
  local deliveries = held[4]
  local list = history.read(attempts, entry_id)
  local mark = redis.call('HGET', attempts, entry_id .. ':mark')
  local suspect = orphan.is_suspect(orphan.losses(list), deliveries, max_attempts, mark, suspect_from)
  if suspect and suspects == 0 then
    return false
  end
  redis.call('ZREM', parked, entry_id)
  if entry then
    suspects = suspects - (suspect and 1 or 0)
    redis.call('XCLAIM', stream, group, consumer, 0, entry_id, 'JUSTID')
    claimed[#claimed + 1] = orphan.claimed(entry_id, deliveries, entry[2], list, mark, due_ms)
  else
    orphan.forget(stream, group, attempts, entry_id)
    event(events, now, 'lost', entry_id, '~parked', deliveries, 'deleted')
    gone[#gone + 1] = { entry_id, deliveries }
  end
  return true
end

local due = redis.call('ZRANGEBYSCORE', parked, '-inf', now, 'WITHSCORES', 'LIMIT', offset, page)
for i = 1, #due, 2 do
  if #claimed < count and (skipped[due[i]] or not take(due[i], tonumber(due[i + 1]))) then
    offset = offset + 1
  end
end
return { #due == 2 * page and offset or '', suspects, claimed, gone }
