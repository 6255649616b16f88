-- Append a call whose fields are the arguments from number *first* on.
-- Its deadline, *timeout_ms* from now unless that is empty, is set by Redis' clock, the one that workers compare with.
local function add_call(stream, timeout_ms, first)
  local fields = { unpack(ARGV, first) }
  if timeout_ms ~= '' then
    fields[#fields + 1] = 'deadline'
    fields[#fields + 1] = string.format('%.0f', now_ms() + tonumber(timeout_ms))
  end
  return redis.call('XADD', stream, '*', unpack(fields))
end
