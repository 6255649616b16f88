-- Move one entry to the dead letters, answer its caller if there is one, and acknowledge it, as one step.
--
-- KEYS[1] stream        tool calls
-- KEYS[2] dead_letters
-- KEYS[3] attempts      entry id -> list of attempts
-- KEYS[4] events        exceptional steps
-- KEYS[5] reply         the caller's reply stream; the stream itself if there is none to be written
-- KEYS[6] record        its idempotency record; the stream itself if it has no key
-- ARGV[1] group
-- ARGV[2] consumer      who believes it holds the delivery
-- ARGV[3] entry_id
-- ARGV[4] attempt
-- ARGV[5] reason        dlq.reason
-- ARGV[6] error_type    what ended the last attempt
-- ARGV[7] reply_ttl
-- ARGV[8] reply_maxlen
-- ARGV[9] kept          1 if its end is to be remembered under its idempotency key, else 0
-- ARGV[10] remembered   the reply as it is to stand in the record; empty if the call has no key
-- ARGV[11] about        number of values that follow and describe the dead letter
-- ARGV[12..] values     those, then the values of the reply
--
-- Returns { 1, id of the dead letter, names and values that were added to *about* } when quarantined,
--         { 0 } when the delivery is no longer ours: nothing was written,
--         { 2 } when the dead letters cannot be written: the delivery stays pending,
--         { 3, the same } when quarantined, but the reply could not be written.
--
-- include clock
-- include history
-- include event
-- include dead_letter
-- include once

local stream, dead_letters, attempts, events, reply = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, entry_id, attempt = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local reason, error_type, reply_ttl, reply_maxlen = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local kept, remembered, about = ARGV[9], ARGV[10], tonumber(ARGV[11])
local VALUES = 12

local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
if not held or held[4] ~= attempt then
  return { 0 }
end
-- Only a script's first write is checked on a full server, and this one passes.
redis.call('XACK', stream, group, '0-0')

local now = now_ms()
local list = history.read(attempts, entry_id)
local last = list[#list]
if attempt > 0 and not (last and last.attempt == attempt and last['end']) then
  local current = history.of(list, consumer, attempt, now - held[3])
  current['end'] = now
  current.error = error_type
end

local description = { unpack(ARGV, VALUES, VALUES + about - 1) }
local function describe(name, value)
  description[#description + 1] = name
  description[#description + 1] = value
end
describe('dlq.at', now)
if list[1] then
  describe('dlq.attempts', cjson.encode(list))
  describe('dlq.first_delivered', list[1].start)
end

local entry = redis.call('XRANGE', stream, entry_id, entry_id)[1]
local buried = bury(dead_letters, entry and entry[2] or {}, description)
if type(buried) ~= 'string' then
  return { 2 }
end
local status = 1
if #ARGV >= VALUES + about then
  -- A reply that cannot be written must not keep the entry: the dead letter is its only end then.
  local answer = redis.pcall('XADD', reply, 'MAXLEN', '~', reply_maxlen, '*', unpack(ARGV, VALUES + about))
  if type(answer) ~= 'string' then
    status = 3
  else
    redis.call('EXPIRE', reply, reply_ttl)
  end
end
redis.call('XACK', stream, group, entry_id)
redis.call('XDEL', stream, entry_id)
redis.call('HDEL', attempts, entry_id, entry_id .. ':mark')
if remembered ~= '' then
  once.close(KEYS[6], entry_id, kept == '1', remembered)
end
event(events, now, 'quarantined', entry_id, consumer, attempt, reason)
return { status, buried, unpack(description, about + 1) }
