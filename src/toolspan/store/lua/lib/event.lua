-- Write down an exceptional step, for whoever explains a call later. It never fails the step itself.
local EVENTS_KEPT = 10000

local function event(events, now, name, entry_id, consumer, attempt, reason)
  redis.pcall('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'entry', entry_id,
    'consumer', consumer, 'attempt', attempt, 'reason', reason, 'at', now)
end
