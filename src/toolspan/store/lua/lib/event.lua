-- Write down an exceptional step, for whoever explains a call later. It never fails the step itself.
-- One step may be that of many entries, whose ids stand between spaces.
local EVENTS_KEPT = 10000

local function event(events, now, name, entry_ids, consumer, attempt, reason)
  redis.pcall('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'entry', entry_ids,
    'consumer', consumer, 'attempt', attempt, 'reason', reason, 'at', now)
end
