-- Take over the orphans of one consumer: what it has not renewed for a lease. Most of them are begun with that.
--
-- Those that have no mark, have attempts left and are no suspects will run in any case: what start would write of them
-- a moment later is written here.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- KEYS[3] workers    consumer -> last heartbeat; every worker hears the channel of that name
-- KEYS[4] events     exceptional steps
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] owner      whose orphans
-- ARGV[4] lease_ms
-- ARGV[5] count      how many we have room for; a thousand at most
-- ARGV[6] after      the entry id to go on from, exclusive; `-` from the start
-- ARGV[7] suspects   how many suspects we may take
-- ARGV[8] max_attempts
-- ARGV[9] suspect_from  losses from which on a call is a suspect
--
-- Returns { the last entry id that was looked at, or empty when there are no more,
--           the loss: worker_lost or lease_expired,
--           Redis' clock in ms: when they were lost,
--           of each claimed entry: id, the count it holds now, 1 if that was begun else 0, fields, losses, its mark or
--           nil, when the attempt had begun that is lost now, or nil if none was running, and the attempts before that
--           as JSON, or nil if there are none,
--           of each entry whose body is gone its id and its deliveries }.
--
-- include clock
-- include history
-- include records
-- include bodies
-- include take
-- include event
-- include orphan

local stream, attempts, workers, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, owner, lease_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local count, after, suspects = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local max_attempts, suspect_from = tonumber(ARGV[8]), tonumber(ARGV[9])

local now = now_ms()
local beat = redis.call('ZSCORE', workers, owner)
local loss = beat and now - tonumber(beat) < lease_ms and 'lease_expired' or 'worker_lost'

local claimed, gone = {}, {}
local candidates = redis.call('XPENDING', stream, group, 'IDLE', lease_ms, after, '+', count, owner)
if #candidates == 0 then
  return { '', loss, now, claimed, gone }
end

-- When the attempt had begun that the owner had running, and that ends now; nil where it ended before, or was never
-- begun: then the list stays as it is.
local function lost_since(list, deliveries, idle_ms)
  local last = list[#list]
  if deliveries == 0 or (last and last.attempt >= deliveries and last['end']) then
    return nil
  end
  local running = history.of(list, owner, deliveries, now - idle_ms)
  running['end'] = now
  running.error = loss
  return running.start
end

-- The first attempts of a list as JSON; false where that are none, as of most orphans.
local function json_of(list, length)
  return length > 0 and cjson.encode({ unpack(list, 1, length) })
end

local entry_ids = {}
for i, candidate in ipairs(candidates) do
  entry_ids[i] = candidate[1]
end
local bodies = bodies_of(stream, entry_ids, entry_ids[1], entry_ids[#entry_ids])
local lists, marks = records_of(attempts, entry_ids)

local counts, records = {}, {}

local function claim(entry_id, idle_ms, deliveries)
  local list, mark = lists[entry_id], marks[entry_id]
  local since = lost_since(list, deliveries, idle_ms)
  local losses = orphan.losses(list)
  local suspect = orphan.is_suspect(losses, deliveries, max_attempts, mark, suspect_from)
  if suspect and suspects == 0 then
    return
  end
  local attempt = deliveries
  local before = json_of(list, since and #list - 1 or #list)
  if suspect then
    suspects = suspects - 1
  elseif orphan.runs(deliveries, max_attempts, mark) then
    attempt = deliveries + 1
    history.of(list, consumer, attempt, now)
  end
  counts[entry_id] = attempt
  if since or attempt > deliveries then
    records[#records + 1] = entry_id
    records[#records + 1] = history.record(list)
  end
  local begun = attempt - deliveries
  claimed[#claimed + 1] = { entry_id, attempt, begun, bodies[entry_id], losses, mark, since or false, before }
end

for _, candidate in ipairs(candidates) do
  if bodies[candidate[1]] then
    claim(candidate[1], candidate[3], candidate[4])
  end
end

-- Only a script's first write is checked on a full server, and XCLAIM passes, as XACK does.
take(stream, group, consumer, counts)
if #records > 0 then
  redis.call('HSET', attempts, unpack(records))
end
for _, candidate in ipairs(candidates) do
  local entry_id, deliveries = candidate[1], candidate[4]
  if counts[entry_id] then
    event(events, now, 'reclaimed', entry_id, owner, deliveries, loss)
  elseif not bodies[entry_id] then
    orphan.forget(stream, group, attempts, entry_id)
    event(events, now, 'lost', entry_id, owner, deliveries, 'deleted')
    gone[#gone + 1] = { entry_id, deliveries }
  end
end

-- There may be more than we have room for: the others shall not wait for their next round. Only where we took all that
-- we asked for, so that workers who can take nothing more do not call each other without end.
if after == '-' and #claimed == count then
  redis.pcall('PUBLISH', workers, 'orphans')
end
return { #candidates == count and entry_ids[#entry_ids] or '', loss, now, claimed, gone }
