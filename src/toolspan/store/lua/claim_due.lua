-- Take parked calls whose next attempt is due.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] parked     entry id -> due time
-- KEYS[3] attempts   entry id -> list of attempts; entry id:mark -> token
-- KEYS[4] events     exceptional steps
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] count      how many we have room for
-- ARGV[4] suspects   how many suspects we may take
-- ARGV[5] max_attempts
-- ARGV[6..] skipped  entry ids that are left to others
--
-- Returns { the claimed entries (see lib/orphan.lua; since_ms is when they were due),
--           the ids of entries whose body is gone }.
--
-- include clock
-- include history
-- include event
-- include orphan

local stream, parked, attempts, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local suspects, max_attempts = tonumber(ARGV[4]), tonumber(ARGV[5])
local SKIPPED = 6

local skipped = {}
for i = SKIPPED, #ARGV do
  skipped[ARGV[i]] = true
end

local now = now_ms()
local claimed, gone = {}, {}
local due = redis.call('ZRANGEBYSCORE', parked, '-inf', now, 'WITHSCORES', 'LIMIT', 0, count + #ARGV - SKIPPED + 1)
for i = 1, #due, 2 do
  local entry_id, due_ms = due[i], tonumber(due[i + 1])
  if #claimed < count and not skipped[entry_id] then
    local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, '~parked')[1]
    local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
    if not held then
      -- A re-created group has forgotten that it is parked, and delivers it anew.
      redis.call('ZREM', parked, entry_id)
    elseif not entry then
      orphan.forget(stream, group, attempts, entry_id)
      redis.call('ZREM', parked, entry_id)
      event(events, now, 'lost', entry_id, '~parked', held[4], 'deleted')
      gone[#gone + 1] = entry_id
    else
      local deliveries = held[4]
      local list = history.read(attempts, entry_id)
      local mark = redis.call('HGET', attempts, entry_id .. ':mark')
      local suspect = orphan.is_suspect(list, deliveries, max_attempts, mark)
      if not suspect or suspects > 0 then
        if suspect then
          suspects = suspects - 1
        end
        redis.call('XCLAIM', stream, group, consumer, 0, entry_id, 'JUSTID')
        redis.call('ZREM', parked, entry_id)
        claimed[#claimed + 1] = orphan.claimed(entry_id, deliveries, entry[2], list, mark, due_ms)
      end
    end
  end
end
return { claimed, gone }
