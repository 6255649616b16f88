-- Park one delivery until its next attempt, as one step.
--
-- KEYS[1] stream     tool calls
-- KEYS[2] parked     entry id -> due time
-- KEYS[3] attempts   entry id -> list of attempts
-- KEYS[4] events     exceptional steps
-- KEYS[5] control    what operators ask of the workers
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the delivery
-- ARGV[3] entry_id
-- ARGV[4] attempt
-- ARGV[5] count      how many attempts count from now on: this one, or one less to give it back
-- ARGV[6] delay_ms   at most, for a call of a paused tool; empty if its caller waits for ever
-- ARGV[7] reason     what ended the attempt: an error.type; `released`; or `not_admitted`: it never began, for a limit
--                    was in its way, which is nothing exceptional and leaves no trace. Only behind an attempt that
--                    was lost it stays on record, once, as given back: that loss has been told by whoever began it
-- ARGV[8] paused     the tool that is paused, if that is why; else empty
--
-- Returns 1 when parked,
--         2 when parked and due at once, for the tool is not paused any more,
--         0 when the delivery is no longer ours, or its body is gone: nothing was written.
--
-- include clock
-- include history
-- include event
-- include control

local stream, parked, attempts, events, orders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local group, consumer, entry_id, attempt = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local count, delay_ms, reason, paused = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]

-- Another worker may have claimed the entry while we were slow. It decides then, not we.
local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
if not held or held[4] ~= attempt or #redis.call('XRANGE', stream, entry_id, entry_id) == 0 then
  return 0
end

local now = now_ms()
local parked_now = 1
if paused ~= '' then
  local since = (control.paused(orders) or {})[paused]
  delay_ms = since and control.delay_ms(now, since, delay_ms) or 0
  parked_now = since and 1 or 2
end
local list = history.read(attempts, entry_id)
local last = list[#list]
-- What is given back before it was begun was no attempt.
local on_record = last and not last['end'] and last.attempt == attempt and last.consumer == consumer
local before = list[#list - 1]
local behind_a_loss = on_record and before and (before.error == 'worker_lost' or before.error == 'lease_expired')
if reason == 'not_admitted' and not behind_a_loss then
  if on_record then
    list[#list] = nil
  end
elseif reason ~= 'released' or on_record then
  local current = history.of(list, consumer, attempt, now - held[3])
  current['end'] = now
  current.error = behind_a_loss and reason == 'not_admitted' and 'released' or reason
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
  event(events, now, reason == 'released' and 'released' or 'retried', entry_id, consumer, attempt,
    paused == '' and reason or 'paused')
end
return parked_now
