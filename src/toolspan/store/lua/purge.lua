-- Delete some of the oldest dead letters, and write down how many it were so far.
--
-- KEYS[1] dead_letters
-- KEYS[2] audit     what operators did
-- ARGV[1] last      id of the youngest that is to go
-- ARGV[2] count     how many at most
-- ARGV[3] who
-- ARGV[4] why
-- ARGV[5] matching  what was asked for
-- ARGV[6] purged    how many the steps before have deleted
-- ARGV[7] noted     id of the audit entry of the step before, or empty
--
-- Returns { how many were deleted now: 0 when none is left, id of the audit entry or empty }.
--
-- include clock
-- include audit

local dead_letters, audits = KEYS[1], KEYS[2]
local last, count, who, why, matching = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local purged, noted = tonumber(ARGV[6]), ARGV[7]

-- Whole nodes of the stream first: those are deleted without a look into them.
local deleted = redis.call('XTRIM', dead_letters, 'MINID', '~', last, 'LIMIT', count)
while deleted < count do
  local entry = redis.call('XRANGE', dead_letters, '-', last, 'COUNT', 1)[1]
  if not entry then
    break
  end
  deleted = deleted + redis.call('XDEL', dead_letters, entry[1])
end
if deleted == 0 then
  return { 0, noted }
end
-- One entry for all steps, right whenever they are cut short.
local now_noted = audit(audits, now_ms(), 'purge', who, 'count', purged + deleted, 'up_to', last, 'why', why,
  'matching', matching)
if now_noted and noted ~= '' then
  redis.call('XDEL', audits, noted)
end
return { deleted, now_noted or '' }
