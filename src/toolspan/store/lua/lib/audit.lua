-- Write down what an operator did, in more fields than those if there are any. It never fails the step itself.
--
-- Returns the id of the entry, or false.
local AUDIT_KEPT = 10000

local function audit(key, now, action, who, ...)
  local written = redis.pcall('XADD', key, 'MAXLEN', '~', AUDIT_KEPT, '*', 'action', action, 'who', who, 'at', now, ...)
  return type(written) == 'string' and written
end
