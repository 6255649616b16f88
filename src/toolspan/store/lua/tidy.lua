-- Delete the records of calls that are gone: a re-created group hands a call out without the record of its attempts, so
-- whoever settles it then does not know that there is one.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- ARGV[1] group
-- ARGV[2] cursor     where to go on; 0 from the start
-- ARGV[3] count      about how many to look at
--
-- Returns { the cursor to go on from, 0 when all were looked at,
--           how many were deleted }.
--
-- include ids

local stream, attempts = KEYS[1], KEYS[2]
local group, cursor, count = ARGV[1], ARGV[2], ARGV[3]

-- A call without a body is not gone while somebody holds it: its run can still answer.
local function is_gone(entry_id)
  return #redis.call('XPENDING', stream, group, entry_id, entry_id, 1) == 0
    and #redis.call('XRANGE', stream, entry_id, entry_id) == 0
end

local deleted = 0
local page = redis.call('HSCAN', attempts, cursor, 'COUNT', count)
for i = 1, #page[2], 2 do
  local field = page[2][i]
  local entry_id = string.match(field, '^(.*):mark$') or field
  if ids.valid(entry_id) and is_gone(entry_id) then
    deleted = deleted + redis.call('HDEL', attempts, field)
  end
end
return { page[1], deleted }
