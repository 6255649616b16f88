-- Park one delivery until its next attempt, as one step.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] parked     entry id -> due time
-- KEYS[3] attempts   entry id -> list of attempts
-- KEYS[4] events     exceptional steps
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the delivery
-- ARGV[3] entry_id
-- ARGV[4] attempt
-- ARGV[5] count      how many attempts count from now on: this one, or one less to give it back
-- ARGV[6] delay_ms
-- ARGV[7] reason     what ended the attempt: an error.type; `released`; or `not_admitted`: it never began, for a limit
--                    was in its way, which is nothing exceptional and leaves no trace
--
-- Returns 1 when parked,
--         0 when the delivery is no longer ours, or its body is gone: nothing was written.
--
-- include clock
-- include history
-- include event

local stream, parked, attempts, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, entry_id, attempt = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local count, delay_ms, reason = ARGV[5], tonumber(ARGV[6]), ARGV[7]

-- Another worker may have claimed the entry while we were slow. It decides then, not we.
local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
if not held or held[4] ~= attempt or #redis.call('XRANGE', stream, entry_id, entry_id) == 0 then
  return 0
end

local now = now_ms()
local list = history.read(attempts, entry_id)
local last = list[#list]
-- What is given back before it was begun was no attempt.
local on_record = last and not last['end'] and last.attempt == attempt and last.consumer == consumer
if reason == 'not_admitted' then
  if on_record then
    list[#list] = nil
  end
elseif reason ~= 'released' or on_record then
  local current = history.of(list, consumer, attempt, now - held[3])
  current['end'] = now
  current.error = reason
end

-- Only a script's first write is checked on a full server, and this one passes.
redis.call('XACK', stream, group, '0-0')
-- The due time goes first: an entry parked without one would never be taken again.
redis.call('ZADD', parked, now + delay_ms, entry_id)
redis.call('XCLAIM', stream, group, '~parked', 0, entry_id, 'RETRYCOUNT', count, 'JUSTID')
if #list > 0 then
  history.write(attempts, entry_id, list)
elseif on_record then
  redis.call('HDEL', attempts, entry_id)
end
if reason ~= 'not_admitted' then
  event(events, now, reason == 'released' and 'released' or 'retried', entry_id, consumer, attempt, reason)
end
return 1
