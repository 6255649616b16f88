-- Append one call unless it is known already or too many wait, as one step.
--
-- KEYS[1] stream         tool calls
-- KEYS[2] parked         entry id -> due time
-- KEYS[3] record         its idempotency record; the stream itself if it has no key
-- ARGV[1] group
-- ARGV[2] limit          how many calls may wait; empty: any number
-- ARGV[3] call_id        as JSON; empty if it has no key
-- ARGV[4] args           hash of its arguments
-- ARGV[5] record_ttl_ms
-- ARGV[6] timeout_ms     how long somebody waits; empty: nobody sets a deadline
-- ARGV[7..] fields       name, value, name, value …; no more than MAX_FIELDS of codec/limits.py
--
-- Returns { 'appended', entry id },
--         { 'known', the record }: another call has the same key and arguments,
--         { 'conflict', the record }: another call has the same key with other arguments,
--         { 'full', how many calls wait }. Nothing was written but with the first.
--
-- include clock
-- include call
-- include group
-- include once

local stream, parked, record = KEYS[1], KEYS[2], KEYS[3]
local group, limit, call_id, args, record_ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local timeout_ms, FIELDS = ARGV[6], 7

-- An open call that is neither held nor lies in the stream was lost: it never ends, and whoever waits would wait on.
local function lives(entry_id)
  local held = redis.pcall('XPENDING', stream, group, entry_id, entry_id, 1)
  return #held > 0 or #redis.call('XRANGE', stream, entry_id, entry_id) > 0
end

local function waiting()
  local length = redis.call('XLEN', stream)
  local found = length > 0 and group_of(stream, group)
  local due = redis.pcall('ZCARD', parked)
  return math.max(0, length - (found and found.pending or 0)) + (type(due) == 'number' and due or 0)
end

if call_id ~= '' then
  local found = redis.call('GET', record)
  local entry_id, known_args, ended
  if found then
    entry_id, known_args, ended = once.read(found)
  end
  if entry_id and (ended or lives(entry_id)) then
    return { known_args == args and 'known' or 'conflict', found }
  end
end
if limit ~= '' then
  local backlog = waiting()
  if backlog >= tonumber(limit) then
    return { 'full', backlog }
  end
end
-- The record last: were the call refused, a record of it would have others wait for what never comes.
local entry_id = add_call(stream, timeout_ms, FIELDS)
if call_id ~= '' then
  redis.call('SET', record, once.open(entry_id, call_id, args), 'PX', record_ttl_ms)
end
return { 'appended', entry_id }
