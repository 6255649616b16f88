-- Write down what an operator did. It never fails the step itself.
local AUDIT_KEPT = 10000

local function audit(key, now, action, who, letter_id, ...)
  redis.pcall('XADD', key, 'MAXLEN', '~', AUDIT_KEPT, '*', 'action', action, 'who', who, 'dead_letter', letter_id,
    'at', now, ...)
end
