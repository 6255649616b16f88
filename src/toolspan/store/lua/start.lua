-- Mark attempts as begun before their tools run: count claimed ones, and put the mark on those that run at most once.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the deliveries
-- ARGV[3] first      smallest entry id of them
-- ARGV[4] last       greatest
-- ARGV[5..] starts   entry id, the count it holds now, the attempt that begins, token or empty; a thousand at most
--
-- Returns for each: 1 begun, also when asked again after a lost answer,
--                   0 no longer ours, or its body is gone: nothing was written,
--                   2 another start of it is on record, and it may never run again: nothing was written.
--
-- include clock
-- include history
-- include records
-- include bodies
-- include pending
-- include take

local stream, attempts = KEYS[1], KEYS[2]
local group, consumer, first, last = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local STARTS = 5
-- How many others we may hold between them, mostly.
local OTHERS = 100

local entry_ids = {}
for i = STARTS, #ARGV, 4 do
  entry_ids[#entry_ids + 1] = ARGV[i]
end
local pending = pending_between(stream, group, consumer, first, last, #entry_ids + OTHERS)
-- XCLAIM would drop an entry whose body is gone; it stays pending, for a claim to report it as lost.
local bodies = bodies_of(stream, entry_ids, first, last)
local lists, marks = records_of(attempts, entry_ids)
local now = now_ms()

local counts, records = {}, {}

local function start(entry_id, held, attempt, token)
  local entry = pending[entry_id]
  if not entry or (entry[4] ~= held and entry[4] ~= attempt) or not bodies[entry_id] then
    return 0
  end
  if token ~= '' then
    if marks[entry_id] and marks[entry_id] ~= token then
      return 2
    end
    marks[entry_id] = token
    records[#records + 1] = entry_id .. ':mark'
    records[#records + 1] = token
  end
  entry[4], counts[entry_id] = attempt, attempt
  history.of(lists[entry_id], consumer, attempt, now)
  records[#records + 1] = entry_id
  records[#records + 1] = history.record(lists[entry_id])
  return 1
end

local begun = {}
for i = STARTS, #ARGV, 4 do
  begun[#begun + 1] = start(ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3])
end
-- Only a script's first write is checked on a full server, and XCLAIM passes.
take(stream, group, consumer, counts)
if #records > 0 then
  redis.call('HSET', attempts, unpack(records))
end
return begun
