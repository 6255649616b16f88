-- What we hold without knowing it: hand-overs whose answer was lost on the way.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] attempts   entry id -> list of attempts; entry id:mark -> token
-- ARGV[1] group
-- ARGV[2] consumer   we
-- ARGV[3] after      the entry id to go on from, exclusive; `-` from the start
-- ARGV[4] count      how many to look at
-- ARGV[5..] known    entry ids that we know
--
-- Returns { the last entry id that was looked at, or empty when there are no more,
--           the unknown entries (see lib/orphan.lua) }.
--
-- include clock
-- include history
-- include orphan

local stream, attempts = KEYS[1], KEYS[2]
local group, consumer, after, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local known = {}
for i = 5, #ARGV do
  known[ARGV[i]] = true
end

local now = now_ms()
local unknown = {}
local held = redis.call('XPENDING', stream, group, after, '+', count, consumer)
for _, pending in ipairs(held) do
  local entry_id = pending[1]
  local entry = not known[entry_id] and redis.call('XRANGE', stream, entry_id, entry_id)[1]
  if entry then
    local mark = redis.call('HGET', attempts, entry_id .. ':mark')
    local list = history.read(attempts, entry_id)
    unknown[#unknown + 1] = orphan.claimed(entry_id, pending[4], entry[2], list, mark, now)
  end
end
return { #held == count and held[#held][1] or '', unknown }
