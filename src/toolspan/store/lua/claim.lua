-- Take over the orphans of one consumer: what it has not renewed for a lease.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- KEYS[3] workers    consumer -> last heartbeat; every worker hears the channel of that name
-- KEYS[4] events     exceptional steps
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] owner      whose orphans
-- ARGV[4] lease_ms
-- ARGV[5] count      how many we have room for
-- ARGV[6] after      the entry id to go on from, exclusive; `-` from the start
-- ARGV[7] suspects   how many suspects we may take
-- ARGV[8] max_attempts
-- ARGV[9] suspect_from  losses from which on a call is a suspect
--
-- Returns { the last entry id that was looked at, or empty when there are no more,
--           the loss: worker_lost or lease_expired,
--           the claimed entries (see lib/orphan.lua),
--           of each entry whose body is gone its id and its deliveries }.
--
-- include clock
-- include history
-- include event
-- include orphan

local stream, attempts, workers, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, owner, lease_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local count, after, suspects = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local max_attempts, suspect_from = tonumber(ARGV[8]), tonumber(ARGV[9])

local now = now_ms()
local beat = redis.call('ZSCORE', workers, owner)
local loss = beat and now - tonumber(beat) < lease_ms and 'lease_expired' or 'worker_lost'

-- The attempt that the owner had running ends now. One that ended before, or was never begun, stays as it is.
local function record_loss(list, deliveries, idle_ms)
  local last = list[#list]
  if deliveries == 0 or (last and last.attempt >= deliveries and last['end']) then
    return
  end
  local running = history.of(list, owner, deliveries, now - idle_ms)
  running['end'] = now
  running.error = loss
end

local claimed, gone = {}, {}
local candidates = redis.call('XPENDING', stream, group, 'IDLE', lease_ms, after, '+', count, owner)
for _, candidate in ipairs(candidates) do
  local entry_id, idle_ms, deliveries = candidate[1], candidate[3], candidate[4]
  local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if not entry then
    orphan.forget(stream, group, attempts, entry_id)
    event(events, now, 'lost', entry_id, owner, deliveries, 'deleted')
    gone[#gone + 1] = { entry_id, deliveries }
  else
    local list = history.read(attempts, entry_id)
    local mark = redis.call('HGET', attempts, entry_id .. ':mark')
    record_loss(list, deliveries, idle_ms)
    local suspect = orphan.is_suspect(list, deliveries, max_attempts, mark, suspect_from)
    if not suspect or suspects > 0 then
      if suspect then
        suspects = suspects - 1
      end
      redis.call('XCLAIM', stream, group, consumer, 0, entry_id, 'JUSTID')
      if #list > 0 then
        history.write(attempts, entry_id, list)
      end
      event(events, now, 'reclaimed', entry_id, owner, deliveries, loss)
      claimed[#claimed + 1] = orphan.claimed(entry_id, deliveries, entry[2], list, mark, now)
    end
  end
end
-- There may be more than we have room for: the others shall not wait for their next round. Only where we took all that
-- we asked for, so that workers who can take nothing more do not call each other without end.
if after == '-' and #claimed == count then
  redis.pcall('PUBLISH', workers, 'orphans')
end
local last = candidates[#candidates]
return { #candidates == count and last[1] or '', loss, claimed, gone }
