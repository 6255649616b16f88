-- Take over the orphans of one consumer: what it has not renewed for a lease. Most of them are begun with that.
--
-- Those that have no mark, have attempts left and are no suspects will run in any case: what start would write of them
-- a moment later is written here.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- KEYS[3] workers    consumer -> last heartbeat; every worker hears the channel of that name
-- KEYS[4] events     exceptional steps
-- KEYS[5] cancels    what the keys begin with that say of a call that it was given up
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
--           nil, when the attempt had begun that is lost now, or nil if none was running, the attempts before that as
--           JSON, or nil if there are none, and 1 if it was given up, 0 if not, nil if the worker has to look,
--           of each entry whose body is gone its id and its deliveries }.
--
-- include clock
-- include history
-- include records
-- include bodies
-- include take
-- include event
-- include orphan
-- include given_up

local stream, attempts, workers, events, cancels = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
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
local given_up = given_up_of(cancels, entry_ids, bodies)

-- What becomes of an entry if it is claimed, and what is told of it.
local function judge(list, mark, idle_ms, deliveries)
  local since = lost_since(list, deliveries, idle_ms)
  local losses = orphan.losses(list)
  local suspect = orphan.is_suspect(losses, deliveries, max_attempts, mark, suspect_from)
  local before = json_of(list, since and #list - 1 or #list)
  local begun = not suspect and orphan.runs(deliveries, max_attempts, mark) and 1 or 0
  if begun == 1 then
    history.of(list, consumer, deliveries + 1, now)
  end
  return {
    suspect = suspect, losses = losses, since = since or false, before = before, begun = begun,
    record = (since or begun == 1) and history.record(list),
  }
end

-- Of most, nothing is on record, and those that were handed out together are judged alike.
local alike = {}
local function judged(list, mark, idle_ms, deliveries)
  if mark or #list > 0 then
    return judge(list, mark, idle_ms, deliveries)
  end
  alike[deliveries] = alike[deliveries] or {}
  local found = alike[deliveries][idle_ms] or judge(list, mark, idle_ms, deliveries)
  alike[deliveries][idle_ms] = found
  return found
end

local counts, records, taken = {}, {}, {}

local function claim(entry_id, idle_ms, deliveries)
  local mark = marks[entry_id]
  local found = judged(lists[entry_id], mark, idle_ms, deliveries)
  if found.suspect then
    if suspects == 0 then
      return
    end
    suspects = suspects - 1
  end
  local attempt = deliveries + found.begun
  counts[entry_id] = attempt
  if found.record then
    records[#records + 1] = entry_id
    records[#records + 1] = found.record
  end
  claimed[#claimed + 1] = {
    entry_id, attempt, found.begun, bodies[entry_id], found.losses, mark, found.since, found.before,
    given_up[entry_id] or false,
  }
  taken[deliveries] = taken[deliveries] or {}
  table.insert(taken[deliveries], entry_id)
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
  if not bodies[entry_id] then
    orphan.forget(stream, group, attempts, entry_id)
    event(events, now, 'lost', entry_id, owner, deliveries, 'deleted')
    gone[#gone + 1] = { entry_id, deliveries }
  end
end

-- One for all of the same attempt: of a hundred thousand orphans, each its own would leave no room for anything else.
for deliveries, together in pairs(taken) do
  event(events, now, 'reclaimed', table.concat(together, ' '), owner, deliveries, loss)
end

-- There may be more than we have room for: the others shall not wait for their next round. Only where we took all that
-- we asked for, so that workers who can take nothing more do not call each other without end.
if after == '-' and #claimed == count then
  redis.pcall('PUBLISH', workers, 'orphans')
end
return { #candidates == count and entry_ids[#entry_ids] or '', loss, now, claimed, gone }
